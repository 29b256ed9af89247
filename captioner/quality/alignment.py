"""Decide whether two thumbnails show the same photograph, up to a small crop.

One thumbnail is compared with windows of the other, as after a crop of up to 12 % of a side. The
first criterion is Pearson's correlation of the gray values, which does not change with brightness
and contrast. The second is the correlation of the details, the differences from the local mean:
two landscapes with equal horizons correlate, but not in their details.

Shapes: N images, W windows, S side of a thumbnail, R side of the compared windows, P = R * R.
"""

from __future__ import annotations

import itertools

import numpy as np

from captioner.quality.image_facts import SIDE

_SIDE = 24
_MARGINS = (0.0, 0.04, 0.08)
_MOST = 0.12
"""Largest sum of the margins on two opposite sides."""
MIN_CORRELATION = 0.92
"""Between a photograph and its copies, 0.93 in 99.5 % of 1,000 cases; between different frames of a
scene in Flickr8k, at most 0.934."""
MIN_DETAIL = 0.6
"""Between a photograph and its copies, 0.70 and more; between different images of Flickr8k with the
correlation above, 0.51 and less, except for one pair of frames of a scene (0.67)."""
MIN_PLAIN = 0.6
"""Correlation without windows below which images are not compared further."""


def _resampling(low: float, high: float) -> np.ndarray:
    """Return the matrix (R, S) that averages a part of a side, with the margins left out."""
    edges = np.linspace(low * SIDE, (1 - high) * SIDE, _SIDE + 1)[:, None]
    cells = np.arange(SIDE)[None]
    shares = np.minimum(edges[1:], cells + 1) - np.maximum(edges[:-1], cells)
    shares = np.clip(shares, 0, None)
    matrix: np.ndarray = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return matrix


_MATRICES = np.concatenate(
    [_resampling(a, b) for a, b in itertools.product(_MARGINS, _MARGINS) if a + b <= _MOST]
)  # (windows * R, S); the first R rows have no margins


def standardize(images: np.ndarray) -> np.ndarray:
    """Return images (N, ...) as rows (N, P) with mean 0 and norm 1; 0 for those of one color."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows = rows - rows.mean(1, keepdims=True)
    standard: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3)
    return standard


def reduce_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails (N, S, S) at the compared size, standardized (N, P)."""
    whole = _MATRICES[:_SIDE]
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
    all_windows = _MATRICES @ cropped.astype(np.float32) @ _MATRICES.T  # (W' R, W' R)
    count = len(_MATRICES) // _SIDE
    windows = all_windows.reshape(count, _SIDE, count, _SIDE).swapaxes(1, 2)
    windows = windows.reshape(-1, _SIDE, _SIDE)  # (W, R, R)
    correlations = standardize(windows) @ plain
    best = int(correlations.argmax())
    details = standardize(_subtract_mean(np.stack([windows[best], plain.reshape(_SIDE, _SIDE)])))
    return float(correlations[best]), float(details[0] @ details[1])


def _subtract_mean(images: np.ndarray) -> np.ndarray:
    """Return images (N, R, R) minus the mean of the 3 x 3 pixels around each pixel.

    The gray values are scaled to norm 100 first, so that `standardize` treats both alike.
    """
    images = 100 * standardize(images).reshape(images.shape)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).mean((3, 4))
    rest: np.ndarray = images - mean
    return rest
