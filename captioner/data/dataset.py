"""Rows on disk to samples: an image's pixels, or its kept features, with its captions as ids.

What is random about a sample (crop, flip, colours, which captions) comes from (seed, epoch,
index), never from global state, so it depends on no worker, rank or restart.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captioner.data.text import can_flip, flip_caption, normalize_caption
from captioner.errors import ImageError
from captioner.images import load_image
from captioner.tokenizer import Tokenizer
from captioner.transforms import PixelSpec, augment, to_pixels


@dataclass(frozen=True)
class Augmentation:
    """How training images vary; see `ImageConfig`."""

    min_scale: float
    flip: bool
    jitter: float


@dataclass(frozen=True)
class Sample:
    """One image and some of its captions."""

    index: int
    image: Tensor
    """Pixels (3, H, W) or features (P, C)."""
    captions: list[list[int]]
    """Token ids, each ending in EOS."""


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of a sample whose image does not decode."""

    index: int
    reason: str


class CaptionDataset(Dataset):
    """Samples by (epoch, index); `augmentation` is None for images as they are."""

    def __init__(
        self,
        rows: Sequence,
        *,
        spec: PixelSpec,
        tokenizer: Tokenizer,
        max_length: int,
        captions_per_image: int = 5,
        lowercase: bool = True,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.rows, self.spec, self.tokenizer = rows, spec, tokenizer
        self.max_length, self.captions_per_image = max_length, captions_per_image
        self.lowercase, self.augmentation, self.seed = lowercase, augmentation, seed
        self.features = None
        """Kept features, (views, N, P, C), in the place of images; set by the training loop."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        epoch, index = key
        row = self.rows[index]
        # Cached views take turns; shifting by the index mixes them within an epoch.
        view = epoch if self.features is None else (epoch + index) % len(self.features)
        rng, flip = self._view(view, index, row["references"])
        if self.features is not None:
            image = torch.from_numpy(self.features[view, index])
            if image[0, 0].isnan():
                return Unreadable(index, row["image"])
        else:
            try:
                image = self._pixels(row["image"], rng, flip)
            except ImageError as error:
                return Unreadable(index, str(error))
        captions = self._captions(row["references"], epoch, index, flip)
        return Sample(index, image, captions)

    def _view(self, view: int, index: int, captions: list[str]) -> tuple[random.Random, bool]:
        """The randomness of one view of an image, and whether it is mirrored."""
        rng = random.Random(f"view {self.seed} {view} {index}")
        flip = rng.random() < 0.5 and all(map(can_flip, captions))
        return rng, flip and self.augmentation is not None and self.augmentation.flip

    def _pixels(self, path: str, rng: random.Random, flip: bool) -> Tensor:
        image = load_image(path)
        a = self.augmentation
        if a is None:
            return to_pixels(image, self.spec)
        return augment(image, self.spec, rng, min_scale=a.min_scale, flip=flip, jitter=a.jitter)

    def _captions(
        self, references: list[str], epoch: int, index: int, flip: bool
    ) -> list[list[int]]:
        if len(references) > self.captions_per_image:
            rng = random.Random(f"captions {self.seed} {epoch} {index}")
            references = rng.sample(references, self.captions_per_image)
        if flip:
            references = [flip_caption(text) for text in references]
        texts = (normalize_caption(text, lowercase=self.lowercase) for text in references)
        return [self.tokenizer.encode(text, max_length=self.max_length) for text in texts]
