"""Implement `Arrays` with NumPy.

Shapes: R rows (the product of all axes but the last one), N values per row, G columns of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from captioner.decoding.arrays import Arrays

LOWEST = np.finfo(np.float32).min
TOPK_GROUPS = 128
"""For N = 3000 and k = 10, faster than 64 and, for few rows, as fast as 256."""


class _NumpyArrays:
    where = staticmethod(np.where)
    full_like = staticmethod(np.full_like)
    arange = staticmethod(np.arange)
    repeat = staticmethod(np.repeat)
    nonzero = staticmethod(np.nonzero)
    searchsorted = staticmethod(np.searchsorted)
    exp = staticmethod(np.exp)

    def asarray(self, x: np.ndarray) -> np.ndarray:
        return x

    def full(self, shape: tuple[int, ...], value: float) -> np.ndarray:
        return np.full(shape, value, np.float32 if isinstance(value, float) else None)

    def float32(self, x: np.ndarray) -> np.ndarray:
        return x.astype(np.float32, copy=False)

    def concat(self, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
        return np.concatenate(arrays, axis)

    def stack(self, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
        return np.stack(arrays, axis)

    def gather(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        # Faster than `np.take_along_axis`, which indexes every axis with an array.
        *outer, n = x.shape[: index.ndim]
        rows = math.prod(outer)
        start = (np.arange(rows) * n).reshape(*outer, 1)
        return x.reshape(rows * n, *x.shape[index.ndim :]).take(index + start, 0)

    def count(self, index: np.ndarray, mask: np.ndarray, size: int) -> np.ndarray:
        *outer, n = index.shape
        rows = math.prod(outer)
        flat = index.reshape(rows, n) + (np.arange(rows) * size)[:, None]
        chosen = flat[np.broadcast_to(mask, index.shape).reshape(rows, n)]
        counts = np.bincount(chosen, minlength=rows * size)
        return counts.reshape(*outer, size).astype(np.float32)

    def topk(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ties are resolved in favor of the lower index."""
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[-1] < 2 * TOPK_GROUPS or 2 * k > TOPK_GROUPS:
            index = self.argsort(rows, descending=True)[:, :k]
        else:
            index = _topk_of_many(rows, k)
        index = index.reshape(*x.shape[:-1], k)
        return self.gather(x, index), index

    def argsort(self, x: np.ndarray, *, descending: bool = False) -> np.ndarray:
        return np.argsort(-x if descending else x, axis=-1, kind="stable")

    def amax(self, x: np.ndarray) -> np.ndarray:
        return x.max(-1)

    def cumsum(self, x: np.ndarray) -> np.ndarray:
        return x.cumsum(-1, dtype=np.float64)

    def log_softmax(self, x: np.ndarray) -> np.ndarray:
        shifted = x.astype(np.float32, copy=False) - x.max(-1, keepdims=True)
        shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
        return shifted


def _topk_of_many(rows: np.ndarray, k: int) -> np.ndarray:
    """Return the indices (R, k) of the k greatest values of long rows (R, N), in order.

    The k-th greatest of the maxima of G disjoint groups is a lower bound of the k-th greatest
    value. Few values reach it, and only those are sorted: three times as fast as `argpartition`.
    """
    count, n = rows.shape
    depth = n // TOPK_GROUPS
    groups = rows[:, : depth * TOPK_GROUPS].reshape(count, depth, TOPK_GROUPS)
    bound = np.partition(groups.max(1), -k, axis=-1)[:, -k, None]  # (R, 1)
    # Not `>=`, so that nothing is excluded if the bound is NaN.
    excluded = rows < np.maximum(bound, LOWEST)
    # Where fewer than k values are above -inf, the first -inf values are the next ones.
    excluded[(bound < LOWEST)[:, 0], :k] = False
    candidates = np.flatnonzero(~excluded)
    row = candidates // n
    order = np.lexsort((-rows.reshape(-1)[candidates], row))
    counts = np.bincount(row, minlength=count)
    first = counts.cumsum() - counts
    return candidates[order[first[:, None] + np.arange(k)]] % n


NUMPY = cast("Arrays", _NumpyArrays())
