"""Heat maps: attention weights, or other values on a grid, drawn over an image.

The image is shown in dark gray, so that color and brightness depend on the weights only. The
colors are those of matplotlib's inferno (Smith and van der Walt 2015), whose lightness increases
uniformly: they are readable in gray and with any color blindness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

_IMAGE_BRIGHTNESS = 0.45
_MAX_OPACITY = 0.75
"""Opacity of the heat where the weight is largest."""
_COLORS = "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4"
_INFERNO = np.array([tuple(bytes.fromhex(color)) for color in _COLORS.split(" ")])


def overlay(
    image: Image.Image, weights: np.ndarray, box: Sequence[float] | None = None
) -> Image.Image:
    """Return an RGB image with weights drawn over it as a heat map, in the same size.

    Args:
        image: The RGB image.
        weights: (rows, columns), finite and not negative. The largest is brightest, 0 is dark;
            values between are interpolated bicubically.
        box: The part of the image that the weights cover: left, top, right and bottom as fractions
            of width and height; by default all of it.

    Raises:
        ValueError: The weights are not as described.
    """
    weights = np.asarray(weights, dtype=np.float32)
    if weights.ndim != 2 or not weights.size or not (weights >= 0).all() or np.isinf(weights).any():
        raise ValueError(f"weights {weights.shape}: expected rows and columns of finite numbers")
    level = spread(weights, image.size, box or (0, 0, 1, 1))[..., None]
    gray = np.asarray(image.convert("L"), dtype=np.float32)[..., None] * _IMAGE_BRIGHTNESS
    steps = np.linspace(0, 1, len(_INFERNO))
    heat = np.concatenate([np.interp(level, steps, channel) for channel in _INFERNO.T], -1)
    cover = level * _MAX_OPACITY
    mixed = gray * (1 - cover) + heat * cover
    return Image.fromarray(mixed.round().astype(np.uint8))


def spread(weights: np.ndarray, size: tuple[int, int], box: Sequence[float]) -> np.ndarray:
    """Interpolate weights to levels (H, W) from 0 to 1, the largest; they are 0 outside the box.

    `size` is (width, height), and `box` as in `overlay`.
    """
    width, height = size
    left, right = (round(x * width) for x in box[::2])
    top, bottom = (round(y * height) for y in box[1::2])
    inner = max(1, right - left), max(1, bottom - top)
    heat = Image.fromarray(weights).resize(inner, Image.Resampling.BICUBIC)
    levels = np.zeros((height, width), dtype=np.float32)
    levels[top : top + inner[1], left : left + inner[0]] = np.asarray(heat).clip(0)
    return levels / (levels.max() or 1)
