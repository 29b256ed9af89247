"""The complete model: images or recordings to memory, memory and tokens to logits.

Shapes: B images, K captions per image, T tokens, P positions, C channels, D width, V vocabulary,
N questions, S tokens of a question, M positions of a fused memory, L tokens without padding, G
tags, A answers of a classifier. Spectrograms (B, 1, mel bands, frames) take the place of pixels in
a model of recordings.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from captioner.model.answer_head import AnswerHead
from captioner.model.audio_branch import AudioBranch
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
        backbone: Any module from pixels (B, 3, H, W) to features (B, P, C), or from spectrograms
            for a model of recordings only. The features of a frozen backbone can be computed once
            and stored.
        memory_encoder: Features to memory (B, P, D).
        decoder: Memory and tokens to logits.
        question_encoder: Question ids to states (N, S, D).
        fusion: Memory and question states to fused memory (N, M, D).
        answerer: A separate decoder for answers.
        kind_head: Features to the probabilities of the kinds of images.
        audio: A second encoder, for recordings beside images.
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
        audio: AudioBranch | None = None,
        pad: int = 0,
        blind: bool = False,
        image_only: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.memory_encoder, self.decoder = backbone, memory_encoder, decoder
        self.question_encoder, self.fusion, self.answerer = question_encoder, fusion, answerer
        self.kind_head, self.audio, self.pad, self.blind = kind_head, audio, pad, blind
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
        return self.encode_features(self.extract(images))

    def encode_features(self, features: Tensor) -> Tensor:
        """Map the features (B, P, C) of images to memory (B, P, D)."""
        memory: Tensor = self.memory_encoder(features)
        return memory if self.audio is None else self.audio.mark_image(memory)

    def encode_recordings(self, spectrograms: Tensor) -> Tensor:
        """Map the spectrograms of a second encoder to memory (B, P, D)."""
        assert self.audio is not None
        return self.audio.encode(self.audio.extract(spectrograms))

    def encode_groups(
        self, images: Tensor | None, spectrograms: Tensor | None, both: int
    ) -> Iterator[Tensor]:
        """Yield the memory of samples with an image only, with both inputs, with a recording only.

        The samples are in this order; `both` of them have both inputs. A missing input has no
        positions in memory, so that no mask is needed.
        """
        image = None if images is None else self.encode(images)
        sound = None if spectrograms is None else self.encode_recordings(spectrograms)
        if image is not None and len(image) > both:
            yield image[: len(image) - both]
        if image is not None and sound is not None and both:
            yield torch.cat([image[-both:], sound[:both]], 1)
        if sound is not None and len(sound) > both:
            yield sound[both:]

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

    def backbones(self) -> list[nn.Module]:
        """Return the backbones of all encoders."""
        return [self.backbone] if self.audio is None else [self.backbone, self.audio.backbone]

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
        self, images: Tensor | None, tokens: Tensor | None = None, questions: Tensor | None = None,
        owners: Tensor | None = None, spectrograms: Tensor | None = None, both: int = 0,
    ) -> Tensor:  # fmt: skip
        """Return the logits (L, V) of captions (B, K, T), or of answers (N, 1, T) to questions.

        A classifier of questions returns the logits (N, A) of the answers instead. Without tokens,
        return the logits (B, G) of the tags. See `encode_groups` for the order of samples with
        `spectrograms`.
        """
        if tokens is None:
            assert images is not None
            return self.score_tags(images)
        memories = list(self.encode_groups(images, spectrograms, both))
        if len(memories) == 1:
            return self._decode_group(memories[0], tokens, questions, owners)
        logits, first = [], 0
        for memory in memories:
            last = first + len(memory)
            if questions is None or owners is None:
                logits.append(self.decode(memory, tokens[first:last]))
            else:
                asked = (owners >= first) & (owners < last)
                group = tokens[asked], questions[asked], owners[asked] - first
                logits.append(self._decode_group(memory, *group))
            first = last
        return torch.cat(logits)

    def _decode_group(
        self, memory: Tensor, tokens: Tensor, questions: Tensor | None, owners: Tensor | None
    ) -> Tensor:
        """Return the logits of the captions, or of the answers, of the samples of one memory."""
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
