"""Weights over a picture, as heat: of attention, or of anything else with a number for each place.

The picture is kept as dark grey, so that colour and brightness are the weights' alone. The colours
are those of matplotlib's inferno (Smith and van der Walt 2015), whose lightness rises evenly: they
read the same in grey and with any colour blindness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

_DIMMED = 0.45
"""Brightness that the picture keeps."""
_STRONGEST = 0.75
"""How much of the picture the heat covers where the weight is largest."""
_INFERNO = np.array(
    [
        (0, 0, 4),
        (27, 12, 65),
        (74, 12, 107),
        (120, 28, 109),
        (165, 44, 96),
        (207, 68, 70),
        (237, 105, 37),
        (251, 155, 6),
        (247, 209, 61),
        (252, 255, 164),
    ]
)


def overlay(
    image: Image.Image,
    weights: np.ndarray,
    box: Sequence[float] | None = None,
) -> Image.Image:
    """An RGB picture, dimmed, with the heat of weights (rows, columns) on it, of the same size.

    The largest weight is brightest, 0 is dark, and between places the heat is bicubic. `box` is
    what the weights cover: left, top, right and bottom as shares of width and height; by default
    all. Raises ValueError for weights that are no grid of finite numbers of 0 or more.
    """
    weights = np.asarray(weights, dtype=np.float32)
    if weights.ndim != 2 or not weights.size or not (weights >= 0).all() or np.isinf(weights).any():
        raise ValueError(f"weights {weights.shape}: expected rows and columns of finite numbers")
    level = spread(weights, image.size, box or (0, 0, 1, 1))[..., None]
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] * _DIMMED
    steps = np.linspace(0, 1, len(_INFERNO))
    heat = np.concatenate([np.interp(level, steps, channel) for channel in _INFERNO.T], -1)
    cover = level * _STRONGEST
    mixed = grey * (1 - cover) + heat * cover
    return Image.fromarray(mixed.round().astype(np.uint8))


def spread(weights: np.ndarray, size: tuple[int, int], box: Sequence[float]) -> np.ndarray:
    """Levels (height, width) from 0 to 1, the largest weight's, and 0 outside the box."""
    width, height = size
    left, right = (round(x * width) for x in box[::2])
    top, bottom = (round(y * height) for y in box[1::2])
    inner = max(1, right - left), max(1, bottom - top)
    heat = Image.fromarray(weights).resize(inner, Image.Resampling.BICUBIC)
    levels = np.zeros((height, width), dtype=np.float32)
    levels[top : top + inner[1], left : left + inner[0]] = np.asarray(heat).clip(0)
    return levels / (levels.max() or 1)
