"""Define the array functions that NumPy and torch spell differently.

The searches use syntax that both libraries share (operators, indexing, `.sum(-1)`, `.tolist()`)
and these functions for the rest. The array API standard (`array-api-compat`) has no top-k,
log-softmax or scatter, so that it would replace only some of them.

Array types: tokens, lengths, rows and indices are int64, log-probabilities float32, masks bool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from captioner.decoding.numpy_arrays import NUMPY

Array = Any
"""A `numpy.ndarray` or a `torch.Tensor`; all arrays of one search are of one library."""


class Arrays(Protocol):
    """One library's functions, on one device. Equal objects stand for the same library and device.

    `NUMPY` implements it for NumPy, `torch_arrays.arrays_on` for torch.
    """

    def asarray(self, x: np.ndarray) -> Array:
        """Convert a NumPy array; the result may share its memory."""

    def full(self, shape: tuple[int, ...], value: float) -> Array:
        """Return a new array: bool, int64 or float32 for a value of bool, int or float."""

    def full_like(self, x: Array, value: float) -> Array:
        """Return a new array with the shape and the type of another one."""

    def arange(self, n: int) -> Array:
        """Return the numbers 0 to n - 1, int64."""

    def float32(self, x: Array) -> Array:
        """Convert to float32, without a copy if `x` has this type."""

    def where(self, condition: Array, x: Array | float, y: Array | float) -> Array:
        """Return x where the condition holds, else y, with the type of the one that is an array."""

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        """Join arrays along an axis."""

    def stack(self, arrays: Sequence[Array], axis: int) -> Array:
        """Join arrays along a new axis."""

    def repeat(self, x: Array, counts: Array) -> Array:
        """Repeat each element of a vector `counts` times."""

    def nonzero(self, x: Array) -> tuple[Array, ...]:
        """Return the indices of elements that are not zero, one vector for each axis."""

    def gather(self, x: Array, index: Array) -> Array:
        """Select along the last axis of `index` (..., n) from `x` (..., N, *rest).

        Returns:
            (..., n, *rest). All axes before the last one of `index` are those of `x`.
        """

    def count(self, index: Array, mask: Array, size: int) -> Array:
        """Return how often each of `size` numbers occurs where the mask holds, float32.

        `index` (..., n) becomes (..., size); the mask broadcasts to the shape of `index`.
        """

    def topk(self, x: Array, k: int) -> tuple[Array, Array]:
        """Return the k greatest values of the last axis in descending order, and their indices."""

    def argsort(self, x: Array, *, descending: bool = False) -> Array:
        """Return the stable order of the last axis."""

    def searchsorted(self, ascending: Array, x: Array) -> Array:
        """Return the first place in a sorted vector whose value is at least that of `x`."""

    def amax(self, x: Array) -> Array:
        """Return the greatest value of the last axis."""

    def exp(self, x: Array) -> Array:
        """Return e to the power of each element."""

    def cumsum(self, x: Array) -> Array:
        """Return the running sums of the last axis, in float64."""

    def log_softmax(self, x: Array) -> Array:
        """Return a new array with the log-softmax of the last axis, in float32."""


def namespace(x: Array) -> Arrays:
    """Return the functions for the library and the device of an array."""
    if isinstance(x, np.ndarray):
        return NUMPY
    from captioner.decoding.torch_arrays import arrays_on

    return arrays_on(x.device)
