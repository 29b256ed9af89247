"""How far a confidence can be believed, and one number that mends it.

Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017): reliability diagrams and
the expected calibration error (section 2), temperature scaling (section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from captioner.errors import MetricError

_GOLDEN = (math.sqrt(5) - 1) / 2


class ReliabilityBin(NamedTuple):
    """Answers whose confidence lies in (low, high]; the lowest bin has 0 as well."""

    low: float
    high: float
    count: int
    confidence: float
    """The mean."""
    accuracy: float


def reliability(
    confidences: Sequence[float], correct: Sequence[float], *, bins: int = 15
) -> list[ReliabilityBin]:
    """A reliability diagram's rows, of equal width; bins without an answer are left out.

    `correct` holds whether each answer is right, or its VQA accuracy: numbers between 0 and 1.
    Raises MetricError if the two differ in length, are empty or hold other numbers.
    """
    if bins < 1:
        raise ValueError(f"bins: found {bins}, expected at least 1")
    p, y = _fractions(confidences, "confidences"), _fractions(correct, "correct")
    if len(p) != len(y):
        raise MetricError(f"found {len(p)} confidences of {len(y)} answers, expected one of each")
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(p, edges[1:-1], right=True)  # (N,)
    rows = []
    for i in np.unique(place):
        inside = place == i
        means = float(p[inside].mean()), float(y[inside].mean())
        rows.append(ReliabilityBin(float(edges[i]), float(edges[i + 1]), int(inside.sum()), *means))
    return rows


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[float], *, bins: int = 15
) -> float:
    """The mean distance of confidence and accuracy over `reliability`'s bins, by their counts.

    A fraction: 0 for confidences that come true, at most 1.
    """
    rows = reliability(confidences, correct, bins=bins)
    gaps = sum(row.count * abs(row.confidence - row.accuracy) for row in rows)
    return gaps / sum(row.count for row in rows)


def fit_temperature(
    nll: Callable[[float], float],
    *,
    low: float = 0.25,
    high: float = 4.0,
    tolerance: float = 1e-4,
) -> float:
    """The temperature between `low` and `high` for which `nll(temperature)` is least.

    `nll` is the mean negative log-likelihood of the right answers when logits are divided by the
    temperature; it has one valley, which golden-section search on the logarithm narrows down to
    the relative `tolerance`. A temperature no better than 1 is not worth having: then 1 is
    returned. Raises MetricError if `nll` is not finite somewhere.
    """
    if not 0 < low < high:
        raise ValueError(f"found low {low} and high {high}, expected 0 < low < high")

    def at(log_t: float) -> float:
        value = float(nll(math.exp(log_t)))
        if not math.isfinite(value):
            raise MetricError(f"nll at temperature {math.exp(log_t):.4g}: found {value}")
        return value

    left, right = math.log(low), math.log(high)
    a, b = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
    at_a, at_b = at(a), at(b)
    while right - left > tolerance:
        if at_a <= at_b:
            right, b, at_b = b, a, at_a
            a = right - _GOLDEN * (right - left)
            at_a = at(a)
        else:
            left, a, at_a = a, b, at_b
            b = left + _GOLDEN * (right - left)
            at_b = at(b)
    best = (left + right) / 2
    if low <= 1 <= high and at(0.0) <= at(best):
        return 1.0
    return math.exp(best)


def _fractions(values: Sequence[float], name: str) -> np.ndarray:
    """(N,) numbers between 0 and 1."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise MetricError(f"{name}: found shape {array.shape}, expected a list of 1 or more")
    bad = array[~((array >= 0) & (array <= 1))]
    if bad.size:
        raise MetricError(f"{name}: found {bad[0]:g}, expected numbers between 0 and 1")
    return array
