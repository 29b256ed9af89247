"""Transforms from an RGB image to an encoder's normalized pixels, for training and inference.

Shapes: H, W the input size of the encoder; pixels are float32 (3, H, W).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance

from captioner.images import center_box, fit


@dataclass(frozen=True)
class PixelSpec:
    """The input format of an encoder; it is saved with the checkpoint."""

    size: tuple[int, int]
    """Height and width."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Literal["squash", "crop"] = "squash"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the pixels, (3, H, W)."""
        return (3, *self.size)


def to_pixels(image: Image.Image, spec: PixelSpec) -> np.ndarray:
    """Resize and normalize an RGB image to float32 pixels (3, H, W)."""
    return normalize(fit(image, spec.size, crop=spec.resize == "crop"), spec)


def augment(
    image: Image.Image,
    spec: PixelSpec,
    rng: random.Random,
    *,
    min_scale: float = 0.5,
    flip: bool = False,
    jitter: float = 0.0,
) -> np.ndarray:
    """Return random-resized-crop, flip and color-jitter augmentation as pixels (3, H, W).

    The crop has at least the fraction `min_scale` of the image's area; `jitter` is the largest
    relative change of brightness, contrast and saturation. `rng` is the only source of random
    numbers. Source: Szegedy et al., Going deeper with convolutions (2015). The range of aspect
    ratios is narrower here, because a caption describes the whole image.
    """
    height, width = spec.size
    box = _random_box(image.size, rng, min_scale)
    image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if jitter:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(rng.uniform(1 - jitter, 1 + jitter))
    return normalize(image, spec)


def normalize(image: Image.Image, spec: PixelSpec) -> np.ndarray:
    """Return (value / 255 - mean) / std of an RGB image of the right size, float32 (3, H, W)."""
    mean = np.asarray(spec.mean, dtype=np.float32)[:, None, None]
    std = np.asarray(spec.std, dtype=np.float32)[:, None, None]
    # With the channels first, the operations run over long rows: five times as fast.
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels /= 255
    pixels -= mean
    pixels /= std
    return pixels


def visible_box(size: tuple[int, int], spec: PixelSpec) -> tuple[float, float, float, float]:
    """Return the part of an image of a size (width, height) that the pixels show.

    It is (left, top, right, bottom), as fractions of width and height.
    """
    if spec.resize == "squash":
        return 0.0, 0.0, 1.0, 1.0
    (width, height), (rows, columns) = size, spec.size
    left, top, right, bottom = center_box(size, columns / rows)
    return left / width, top / height, right / width, bottom / height


def _random_box(
    size: tuple[int, int], rng: random.Random, min_scale: float
) -> tuple[float, float, float, float]:
    width, height = size
    scale = math.sqrt(rng.uniform(min_scale, 1.0))
    stretch = math.exp(rng.uniform(-0.1, 0.1))
    w, h = min(1.0, scale * stretch) * width, min(1.0, scale / stretch) * height
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, top, left + w, top + h
