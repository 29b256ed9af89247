"""The whole model: an image becomes memory, memory and tokens become logits.

Shapes: B images, K captions per image, T tokens, P positions, C channels, D width, V vocabulary;
N questions, S tokens of a question, M positions of a fused memory.
"""

from __future__ import annotations

from torch import Tensor, nn

from captioner.model.decoder import Decoder
from captioner.model.encoder import MemoryEncoder


class Seq2Seq(nn.Module):
    """Backbone, memory encoder and decoder; a question encoder and a fusion for questions, and
    `answerer`, a decoder for answers alone.

    The backbone may be any module from pixels (B, 3, H, W) to features (B, P, C); what comes
    behind it starts from features, so that a frozen backbone's can be kept. A caption knows
    nothing of the parts for questions. `pad` is what ends a row of a question's ids, and
    `blind` puts zeros in the place of all features.
    """

    def __init__(
        self,
        backbone: nn.Module,
        memory_encoder: MemoryEncoder,
        decoder: Decoder,
        *,
        question_encoder: nn.Module | None = None,
        fusion: nn.Module | None = None,
        answerer: Decoder | None = None,
        pad: int = 0,
        blind: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.memory_encoder = memory_encoder
        self.decoder = decoder
        self.question_encoder = question_encoder
        self.fusion = fusion
        self.answerer = answerer
        self.pad, self.blind = pad, blind

    def encode(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), or features (B, P, C) kept from before, to memory (B, P, D)."""
        head = self.memory_encoder
        if self.blind:
            shape = (len(images), len(head.positions), head.projection.in_features)
            return head(images.new_zeros(shape, dtype=head.positions.dtype))
        features = self.backbone(images) if images.ndim == 4 else images
        return head(features.to(head.positions.dtype))

    def fuse_questions(
        self, memory: Tensor, questions: Tensor, owners: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The memories (N, M, D), with their mask (N, M) or None, that answers are decoded from.

        Question i, ids (N, S), is about image `owners[i]` of memory (B, P, D), which serves any
        number of questions.
        """
        mask = questions != self.pad
        states = self.question_encoder(questions, mask, self.decoder.embed_tokens)
        return self.fusion(memory, owners, states, mask)

    def decode(
        self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None, *, answers: bool = False
    ) -> Tensor:
        """Logits (L, V) at the L places of tokens (B, K, T) that are no padding."""
        return self.decoder_for(answers=answers)(memory, tokens, mask)

    def decoder_for(self, *, answers: bool) -> Decoder:
        """The decoder of captions, or, of what is `asked`, that of answers."""
        return self.answerer if answers and self.answerer is not None else self.decoder

    def forward(
        self,
        images: Tensor,
        tokens: Tensor,
        questions: Tensor | None = None,
        owners: Tensor | None = None,
    ) -> Tensor:
        """Logits of captions (B, K, T), or, with questions (N, S), of their answers (N, 1, T)."""
        memory = self.encode(images)
        if questions is None:
            return self.decode(memory, tokens)
        memory, mask = self.fuse_questions(memory, questions, owners)
        return self.decode(memory, tokens, mask, answers=True)
