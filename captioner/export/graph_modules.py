"""The parts of a model that become ONNX graphs, as modules from arrays to arrays.

Decoders are in `decoder_graphs`.

Shapes: B images, P memory positions, C feature channels, D width, N questions, S tokens of a
question, M positions of a fused memory, A answers of a classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from captioner.model.audio_branch import AudioBranch
from captioner.model.seq2seq import Seq2Seq, encode_questions


@dataclass(frozen=True)
class Part:
    """A module with example inputs; `dynamic` names the dimensions of each that may vary."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]


class ImageGraph(nn.Module):
    """Pixels (B, 3, H, W) to features (B, P, C)."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.backbone = None if model.blind else model.backbone
        encoder = model.memory_encoder
        self.shape = len(encoder.positions), encoder.projection.in_features

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features of the backbone; zeros for the blind baseline."""
        if self.backbone is None:
            return pixels.new_zeros(len(pixels), *self.shape)
        features: Tensor = self.backbone(pixels)
        return features


class MemoryGraph(nn.Module):
    """Features (B, P, C) to memory (B, P, D) and the probabilities (B, N) of kinds, if any."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.memory_encoder, self.kind_head = model.memory_encoder, model.kind_head
        self.types = None if model.audio is None else model.audio.types
        self.outputs = ("memory",) if model.kind_head is None else ("memory", "kinds")

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the memory encoder and of the kind head."""
        memory: Tensor = self.memory_encoder(features)
        if self.types is not None:
            memory = memory + self.types[0]
        return (memory,) if self.kind_head is None else (memory, self.kind_head(features))


class AudioGraph(nn.Module):
    """Spectrograms (B, 1, mel bands, frames) to features (B, P, C) of a second encoder."""

    def __init__(self, audio: AudioBranch) -> None:
        super().__init__()
        self.backbone = audio.backbone

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features of the backbone."""
        features: Tensor = self.backbone(pixels)
        return features


class AudioMemoryGraph(nn.Module):
    """Features (B, P, C) to memory (B, P, D) of a second encoder."""

    def __init__(self, audio: AudioBranch) -> None:
        super().__init__()
        self.memory_encoder, self.types = audio.memory_encoder, audio.types

    def forward(self, features: Tensor) -> tuple[Tensor]:
        """Return the outputs of the memory encoder, marked as those of a recording."""
        return (self.memory_encoder(features) + self.types[1],)


class QuestionGraph(nn.Module):
    """Memory (B, P, D), owners (N,) and question ids (N, S) to fused memory (N, M, D) and mask.

    With a classifier, the output is the logits (N, A) of its answers instead.
    """

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.question_encoder, self.fusion = model.question_encoder, model.fusion
        self.embed_tokens, self.pad = model.decoder.embed_tokens, model.pad
        self.answer_head, self.image_only = model.answer_head, model.image_only
        self.outputs = ("fused", "mask") if model.answer_head is None else ("logits",)

    def forward(self, memory: Tensor, owners: Tensor, questions: Tensor) -> tuple[Tensor, ...]:
        """Return the fused memory and, if the fusion pads, its mask (N, M), False at padding."""
        assert self.question_encoder is not None
        assert self.fusion is not None
        states, mask = encode_questions(
            self.question_encoder,
            questions,
            self.embed_tokens,
            pad=self.pad,
            image_only=self.image_only,
        )
        fused, mask = self.fusion(memory, owners, states, mask)
        if self.answer_head is not None:
            return (self.answer_head(fused, mask),)
        if mask is None:
            return (fused,)
        return fused, mask
