"""Test-time augmentation with NumPy; see `captioner.model.tta`, whose results it reproduces.

Shapes: B images, H, W pixels, P = S * S positions, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

Extract = Callable[[np.ndarray], np.ndarray]


def average_views(
    pixels: np.ndarray, backbones: Sequence[tuple[tuple[int, int], Extract]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean features (B, P, C) of an image and its mirror image at several sizes.

    The second result are the features of the image itself, without augmentation.

    Args:
        pixels: (B, 3, H, W).
        backbones: The sizes (H, W), the first of which is that of the pixels, and the function for
            each that returns the features (B, P, C) of pixels of this size.
    """
    grid, views = 0, []
    for size, extract in backbones:
        scaled = pixels if size == pixels.shape[2:] else resize_bicubic(pixels, size)
        flipped = np.ascontiguousarray(scaled[..., ::-1])
        views += [_to_grid(extract(scaled)), _to_grid(extract(flipped))[:, :, ::-1]]
        grid = grid or views[0].shape[1]
    total = sum(x if x.shape[1] == grid else _enlarge(x, grid) for x in views)  # (B, S, S, C)
    mean, shape = total / np.float32(len(views)), (len(pixels), grid**2, -1)
    return np.ascontiguousarray(mean.reshape(shape)), views[0].reshape(shape)


def _to_grid(features: np.ndarray) -> np.ndarray:
    """Return features (B, P, C) as a grid (B, S, S, C)."""
    side = math.isqrt(features.shape[1])
    return features.reshape(len(features), side, side, -1)


def _enlarge(x: np.ndarray, side: int) -> np.ndarray:
    """Return a grid (B, S, S, C) with another side, by bilinear interpolation."""
    weights = resize_weights(x.shape[1], side, cubic=False)
    return np.einsum("is,jt,bstc->bijc", weights, weights, x, optimize=True)


def resize_bicubic(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return pixels (B, 3, H, W) at a smaller size, by antialiased bicubic interpolation."""
    rows, columns = (
        resize_weights(old, new, cubic=True)
        for old, new in zip(pixels.shape[2:], size, strict=True)
    )
    return np.ascontiguousarray(rows @ pixels @ columns.T)


@cache
def resize_weights(old: int, new: int, *, cubic: bool) -> np.ndarray:
    """Return the matrix (new, old), float32, that resizes one axis.

    The bicubic filter (a = -0.5) is widened when it reduces a size, which prevents aliasing; the
    bilinear one is not. Source: Keys, Cubic convolution interpolation (1981).
    """
    scale = old / new
    stretch = max(scale, 1.0) if cubic else 1.0
    centers = (np.arange(new) + 0.5) * scale
    places = np.arange(old) + 0.5
    if not cubic:
        centers = centers.clip(places[0], places[-1])
    x = np.abs(places - centers[:, None]) / stretch
    if cubic:
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    else:
        weights = (1 - x).clip(0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
