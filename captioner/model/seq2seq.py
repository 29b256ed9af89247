"""The complete model: images to memory, memory and tokens to logits.

Shapes: B images, K captions per image, T tokens, P positions, C channels, D width, V vocabulary,
N questions, S tokens of a question, M positions of a fused memory, L tokens without padding, G
tags, A answers of a classifier.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.model.answer_head import AnswerHead
from captioner.model.decoder import Decoder
from captioner.model.image_encoder import MemoryEncoder, TagHead
from captioner.model.kind_head import KindHead
from captioner.model.tta import TestTimeAugmentation

TRAINING_ONLY = "tag_head."
"""Prefix of the weights that checkpoints leave out."""


class Seq2Seq(nn.Module):
    """Backbone, memory encoder and decoder, with optional question modules.

    Captions do not use the question modules.

    Args:
        backbone: Any module from pixels (B, 3, H, W) to features (B, P, C). The features of a
            frozen backbone can be computed once and stored.
        memory_encoder: Features to memory (B, P, D).
        decoder: Memory and tokens to logits.
        question_encoder: Question ids to states (N, S, D).
        fusion: Memory and question states to fused memory (N, M, D).
        answerer: A separate decoder for answers.
        kind_head: Features to the probabilities of the kinds of images.
        pad: Id of the padding of questions.
        blind: Replace all features by zeros: the blind baseline.
        image_only: Replace the states of questions by zeros.
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
        kind_head: KindHead | None = None,
        pad: int = 0,
        blind: bool = False,
        image_only: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.memory_encoder, self.decoder = backbone, memory_encoder, decoder
        self.question_encoder, self.fusion, self.answerer = question_encoder, fusion, answerer
        self.kind_head, self.pad, self.blind = kind_head, pad, blind
        self.image_only = image_only
        self.answer_head: AnswerHead | None = None
        """Classifies questions instead of decoding answers."""
        self.tag_head: TagHead | None = None
        """Set by the trainer if the data has tags; no part of checkpoints."""

    @property
    def answers(self) -> tuple[tuple[int, ...], ...]:
        """The token ids of the answers of a classifier of questions; empty without one."""
        return () if self.answer_head is None else self.answer_head.answers

    def encode(self, images: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W), or stored features (B, P, C), to memory (B, P, D)."""
        return self.memory_encoder(self.extract(images))

    def extract(self, images: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W) to features (B, P, C); stored features stay as they are."""
        return self.extract_views(images)[0]

    def extract_views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (B, P, C), and those of the image itself.

        They differ if the features are the mean of the views of test-time augmentation.
        """
        head, first = self.memory_encoder, None
        if self.blind:
            shape = (len(images), len(head.positions), head.projection.in_features)
            features = images.new_zeros(shape, dtype=head.positions.dtype)
        elif isinstance(self.backbone, TestTimeAugmentation) and images.ndim == 4:
            features, first = self.backbone.average_views(images)
        else:
            features = self.backbone(images) if images.ndim == 4 else images
        features = features.to(head.positions.dtype)
        return features, features if first is None else first.to(features.dtype)

    def score_tags(self, images: Tensor) -> Tensor:
        """Return the logits (B, G) of the tags."""
        assert self.tag_head is not None
        return self.tag_head(self.extract(images))

    def fuse_questions(
        self, memory: Tensor, questions: Tensor, owners: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the memory (N, M, D) from which answers are decoded, and its mask (N, M) or None.

        The memory (B, P, D) of the images is fused with token ids (N, S) of the questions; image
        `owners[i]` is that of question i.
        """
        assert self.question_encoder is not None
        assert self.fusion is not None
        states, mask = encode_questions(
            self.question_encoder,
            questions,
            self.decoder.embed_tokens,
            pad=self.pad,
            image_only=self.image_only,
        )
        return self.fusion(memory, owners, states, mask)

    def classify(self, memory: Tensor, questions: Tensor, owners: Tensor) -> Tensor:
        """Return the logits (N, A) of the answers; the arguments are those of `fuse_questions`."""
        assert self.answer_head is not None
        logits: Tensor = self.answer_head(*self.fuse_questions(memory, questions, owners))
        return logits

    def decode(
        self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None, *, answers: bool = False
    ) -> Tensor:
        """Return the logits (L, V) at the tokens (B, K, T) that are not padding."""
        return self.decoder_for(answers=answers)(memory, tokens, mask)

    def decoder_for(self, *, answers: bool) -> Decoder:
        """Return the decoder for answers or for captions; by default they are the same."""
        return self.answerer if answers and self.answerer is not None else self.decoder

    def forward(
        self, images: Tensor, tokens: Tensor | None = None, questions: Tensor | None = None,
        owners: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the logits (L, V) of captions (B, K, T), or of answers (N, 1, T) to questions.

        A classifier of questions returns the logits (N, A) of the answers instead. Without tokens,
        return the logits (B, G) of the tags.
        """
        if tokens is None:
            return self.score_tags(images)
        memory = self.encode(images)
        if questions is None:
            return self.decode(memory, tokens)
        assert owners is not None
        if self.answer_head is not None:
            return self.classify(memory, questions, owners)
        memory, mask = self.fuse_questions(memory, questions, owners)
        return self.decode(memory, tokens, mask, answers=True)


def encode_questions(
    encoder: nn.Module, questions: Tensor, embedding: nn.Embedding, *, pad: int, image_only: bool
) -> tuple[Tensor, Tensor]:
    """Return the states (N, S, D) and the mask (N, S) of questions (N, S).

    With `image_only`, they are one zero for each question, so that not even its length has an
    effect.
    """
    if image_only:
        questions = questions[:, :1]
    mask = questions != pad
    states = encoder(questions, mask, embedding)
    return torch.zeros_like(states) if image_only else states, mask
