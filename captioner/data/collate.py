"""Samples to a batch: the one place where labels are shifted and texts padded.

Shapes: B images, K captions per image, T tokens; N questions, S tokens; P positions, C channels
of kept features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from captioner.data.dataset import Sample, UnreadableImage
from captioner.tokenizer import BOS, PAD


@dataclass(frozen=True)
class Batch:
    """What one training step sees; `images` is None when no image could be read.

    The texts are captions (B, K, T), or, where there are questions, their answers (N, 1, T).
    """

    images: Tensor | None
    """Pixels (B, 3, H, W) or features (B, P, C)."""
    tokens: Tensor
    """Decoder input: BOS and the text."""
    labels: Tensor
    """Decoder target: the text and EOS."""
    questions: Tensor | None
    """Question ids (N, S), or None for captions."""
    owners: Tensor | None
    """Which of the B images each question is about (N,)."""
    source: int
    """Which data set the texts are from."""
    indices: list[int]
    """Place of each image in the data set."""
    rows: list[list[int]]
    """Row of each text of each image in the table."""
    unreadable: list[UnreadableImage]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        names = ("images", "tokens", "labels", "questions", "owners")
        tensors = {name: getattr(self, name) for name in names}
        moved = {k: v.to(device, non_blocking=True) for k, v in tensors.items() if v is not None}
        return replace(self, **moved)


def collate(samples: Sequence[Sample | UnreadableImage], *, question_pad: int = PAD) -> Batch:
    """Stack the images, and pad the texts and the questions to the longest one of the batch.

    The samples have questions all or none: a batch is of one source.
    """
    good = [s for s in samples if isinstance(s, Sample)]
    asked = [q for s in good for q in s.questions]
    labels = _pad_answers(good) if asked else _pad_captions(good)
    return Batch(
        images=torch.stack([s.image for s in good]) if good else None,
        tokens=decoder_input(labels),
        labels=labels,
        questions=pad(asked, question_pad) if asked else None,
        owners=torch.tensor([i for i, s in enumerate(good) for _ in s.questions])
        if asked
        else None,
        source=samples[0].source,
        indices=[s.index for s in good],
        rows=[s.rows for s in good],
        unreadable=[s for s in samples if isinstance(s, UnreadableImage)],
    )


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of ids as one tensor (N, longest)."""
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


def _pad_answers(samples: Sequence[Sample]) -> Tensor:
    return pad([text for s in samples for text in s.texts], PAD)[:, None]


def _pad_captions(samples: Sequence[Sample]) -> Tensor:
    rows = max((len(s.texts) for s in samples), default=0)
    length = max((len(text) for s in samples for text in s.texts), default=0)
    labels = torch.full((len(samples), rows, length), PAD)
    for i, sample in enumerate(samples):
        for j, text in enumerate(sample.texts):
            labels[i, j, : len(text)] = torch.tensor(text)
    return labels


def decoder_input(labels: Tensor) -> Tensor:
    """What the decoder is given so that labels (B, K, T) are what comes next: shifted by BOS."""
    tokens = labels.roll(1, dims=-1)
    tokens[..., :1] = BOS
    return tokens.masked_fill(labels == PAD, PAD)
