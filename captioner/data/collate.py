"""Samples to a batch: the one place where labels are shifted and captions padded.

Shapes: B images, K captions per image, T tokens; P positions, C channels of kept features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.data.dataset import Sample, Unreadable
from captioner.tokenizer import BOS, PAD


@dataclass(frozen=True)
class Batch:
    """What one training step sees; `images` is None when no image could be read."""

    images: Tensor | None
    """Pixels (B, 3, H, W) or features (B, P, C)."""
    tokens: Tensor
    """Decoder input (B, K, T): BOS and the caption."""
    labels: Tensor
    """Decoder target (B, K, T): the caption and EOS."""
    indices: list[int]
    """Row of each image in the data set."""
    unreadable: list[Unreadable]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        images = None if self.images is None else self.images.to(device, non_blocking=True)
        return replace(
            self, images=images, tokens=self.tokens.to(device), labels=self.labels.to(device)
        )


def collate(samples: Sequence[Sample | Unreadable]) -> Batch:
    """Stack the images, and pad the captions to the longest one of the batch."""
    good = [s for s in samples if isinstance(s, Sample)]
    rows = max((len(s.captions) for s in good), default=0)
    length = max((len(c) for s in good for c in s.captions), default=0)
    labels = torch.full((len(good), rows, length), PAD)
    for i, sample in enumerate(good):
        for j, caption in enumerate(sample.captions):
            labels[i, j, : len(caption)] = torch.tensor(caption)
    return Batch(
        images=torch.stack([s.image for s in good]) if good else None,
        tokens=decoder_input(labels),
        labels=labels,
        indices=[s.index for s in good],
        unreadable=[s for s in samples if isinstance(s, Unreadable)],
    )


def decoder_input(labels: Tensor) -> Tensor:
    """What the decoder is given so that labels (B, K, T) are what comes next: shifted by BOS."""
    tokens = labels.roll(1, dims=-1)
    tokens[..., :1] = BOS
    return tokens.masked_fill(labels == PAD, PAD)
