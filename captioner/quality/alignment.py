"""Decide whether two thumbnails show the same photograph, up to a small crop.

One thumbnail is compared with windows of the other, as after a crop of up to 12 % of a side. The
first criterion is Pearson's correlation of the gray values, which does not change with brightness
and contrast. The second is the correlation of the details, the differences from the local mean:
two landscapes with equal horizons correlate, but not in their details.

Shapes: N images, W windows, S side of a thumbnail, R side of the compared windows, P = R * R.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from captioner.quality.image_facts import SIDE

_SIDE = 24
_MARGINS = (0.0, 0.04, 0.08)
_STEP = 0.02
"""Step by which the margins of the best window are refined."""
MIN_COARSE = 0.75
"""Correlation from which the best window is refined."""
_MOST = 0.12
"""Largest sum of the margins on two opposite sides."""
MIN_CORRELATION = 0.93
"""Between a photograph and its copies, 0.955 and more in 99 % of 500 cases."""
MIN_DETAIL = 0.82
"""Between a photograph and its copies, 0.89 and more in 99 % of 500 cases; between different frames
of a scene in Flickr8k, at most 0.77."""
MIN_PLAIN = 0.55
"""Correlation without windows below which images are not compared further."""


@cache
def _resampling(low: float, high: float) -> np.ndarray:
    """Return the matrix (R, S) that averages a part of a side, with the margins left out."""
    edges = np.linspace(low * SIDE, (1 - high) * SIDE, _SIDE + 1)[:, None]
    cells = np.arange(SIDE)[None]
    shares = np.minimum(edges[1:], cells + 1) - np.maximum(edges[:-1], cells)
    shares = np.clip(shares, 0, None)
    matrix: np.ndarray = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return matrix


_COARSE = [(a, b) for a, b in itertools.product(_MARGINS, _MARGINS) if a + b <= _MOST]


def standardize(images: np.ndarray) -> np.ndarray:
    """Return images (N, ...) as rows (N, P) with mean 0 and norm 1; 0 for those of one color."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows = rows - rows.mean(1, keepdims=True)
    standard: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3)
    return standard


def reduce_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails (N, S, S) at the compared size, standardized (N, P)."""
    whole = _resampling(0.0, 0.0)
    return standardize(whole @ thumbnails.astype(np.float32) @ whole.T)


def compare(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the correlation and the correlation of details of two thumbnails (S, S).

    Each is compared with the windows of the other; the result is that of the best window.
    """
    return max(_compare_windows(first, second), _compare_windows(second, first))


def is_copy(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two thumbnails (S, S) show the same photograph."""
    correlation, detail = compare(first, second)
    return correlation >= MIN_CORRELATION and detail >= MIN_DETAIL


def _compare_windows(cropped: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    plain = reduce_thumbnails(whole[None])[0]  # (P,)
    best = _find_window(cropped, plain, _COARSE, _COARSE)
    if best.correlation >= MIN_COARSE:
        fine = (_list_neighbors(best.rows), _list_neighbors(best.columns))
        best = _find_window(cropped, plain, *fine)
    details = standardize(_subtract_mean(np.stack([best.pixels, plain.reshape(_SIDE, _SIDE)])))
    return best.correlation, float(details[0] @ details[1])


class _Window(NamedTuple):
    """The window of an image that is most like another image."""

    correlation: float
    rows: tuple[float, float]
    """Margins above and below, as shares of the height."""
    columns: tuple[float, float]
    pixels: np.ndarray
    """(R, R)"""


def _find_window(
    image: np.ndarray,
    plain: np.ndarray,
    rows: Sequence[tuple[float, float]],
    columns: Sequence[tuple[float, float]],
) -> _Window:
    """Return the best window among all margins of rows and columns."""
    down = np.concatenate([_resampling(*margins) for margins in rows])  # (rows * R, S)
    across = np.concatenate([_resampling(*margins) for margins in columns])
    windows = (down @ image.astype(np.float32) @ across.T).reshape(len(rows), _SIDE, -1, _SIDE)
    windows = windows.swapaxes(1, 2).reshape(-1, _SIDE, _SIDE)  # (W, R, R)
    correlations = standardize(windows) @ plain
    best = int(correlations.argmax())
    row, column = divmod(best, len(columns))
    return _Window(float(correlations[best]), rows[row], columns[column], windows[best])


def _list_neighbors(margins: tuple[float, float]) -> list[tuple[float, float]]:
    """Return margins that differ by at most one fine step, without negative ones."""
    low, high = (
        sorted({max(0.0, round(margin + step, 4)) for step in (-_STEP, 0.0, _STEP)})
        for margin in margins
    )
    return list(itertools.product(low, high))


def _subtract_mean(images: np.ndarray) -> np.ndarray:
    """Return images (N, R, R) minus the mean of the 3 x 3 pixels around each pixel.

    The gray values are scaled to norm 100 first, so that `standardize` treats both alike.
    """
    images = 100 * standardize(images).reshape(images.shape)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).mean((3, 4))
    rest: np.ndarray = images - mean
    return rest
