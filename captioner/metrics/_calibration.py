"""Calibration of confidences: error and reliability diagram, temperature, logistic regression.

Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017): reliability diagrams and
the expected calibration error (section 2, range 0 to 1), temperature scaling (section 4.2).
Logistic regression of the outcome is Platt scaling (Platt, "Probabilistic Outputs for Support
Vector Machines", 1999) with several features.

Shapes: N answers, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from captioner.errors import MetricError

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_CONSTANT = 1e-9
"""Standard deviation below which a feature is constant."""
_INTERCEPT_RIDGE = 1e-3
_NEWTON_STEPS, _NEWTON_TOLERANCE = 100, 1e-9


class ReliabilityBin(NamedTuple):
    """Answers whose confidence lies in (low, high]; the lowest bin includes 0."""

    low: float
    high: float
    count: int  # type: ignore[assignment]  # hides tuple.count; the name is a JSON key
    """Answers in the bin."""
    confidence: float
    """Mean confidence."""
    accuracy: float
    """Mean accuracy."""


def reliability(
    confidences: Sequence[float], correct: Sequence[float], *, bins: int = 15
) -> list[ReliabilityBin]:
    """Return the non-empty bins of a reliability diagram, all of equal width.

    Args:
        confidences: (N) confidences from 0 to 1.
        correct: (N) whether each answer is right, or its VQA accuracy, from 0 to 1.
        bins: Bins into which 0 to 1 is divided.

    Raises:
        MetricError: The two differ in length, are empty or hold numbers outside 0 to 1.
    """
    if bins < 1:
        raise ValueError(f"bins: found {bins}, expected at least 1")
    p, y = _check_fractions(confidences, "confidences"), _check_fractions(correct, "correct")
    if len(p) != len(y):
        raise MetricError(f"found {len(p)} confidences of {len(y)} answers, expected one of each")
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.digitize(p, edges[1:-1], right=True)  # (N,)
    rows = []
    for i in np.unique(bin_of):
        inside = bin_of == i
        means = float(p[inside].mean()), float(y[inside].mean())
        rows.append(ReliabilityBin(float(edges[i]), float(edges[i + 1]), int(inside.sum()), *means))
    return rows


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[float], *, bins: int = 15
) -> float:
    """Return the expected calibration error, from 0 (calibrated) to 1.

    It is the mean distance of confidence and accuracy over the bins of `reliability`, weighted by
    their number of answers. The arguments are those of `reliability`.
    """
    rows = reliability(confidences, correct, bins=bins)
    gaps = sum(row.count * abs(row.confidence - row.accuracy) for row in rows)
    return gaps / sum(row.count for row in rows)


def roc_auc(confidences: Sequence[float], correct: Sequence[float]) -> float | None:
    """Return the probability that a correct answer has a higher confidence than a wrong one.

    This is the area under the ROC curve: 0.5 for a constant confidence, 1 for a perfect order. Ties
    count half, and an answer that is partly correct counts as both, by its shares.

    Returns:
        The area, or None if all answers are correct or all are wrong.
    """
    p, y = _check_fractions(confidences, "confidences"), _check_fractions(correct, "correct")
    _, level = np.unique(p, return_inverse=True)
    right, wrong = np.bincount(level, y), np.bincount(level, 1 - y)  # by distinct confidence
    pairs = right.sum() * wrong.sum()
    above = np.cumsum(wrong) - wrong / 2  # wrong answers with a lower confidence
    return float(right @ above / pairs) if pairs else None


def fit_logistic(
    features: np.ndarray, targets: Sequence[float], *, weights: np.ndarray, ridge: float = 1.0
) -> np.ndarray:
    """Return the logistic regression of targets on features, fitted by Newton's method.

    Args:
        features: (N, F).
        targets: (N), from 0 to 1.
        weights: (N), the weight of each row in the likelihood.
        ridge: L2 penalty of the coefficients, which applies to features of standard deviation 1.

    Returns:
        (1 + F), the intercept and the coefficients. That of a constant feature is 0.

    Raises:
        MetricError: There are no targets, or one is outside 0 to 1.
    """
    y = _check_fractions(targets, "targets")
    center, scale = features.mean(0), features.std(0)
    scale[scale < _CONSTANT] = np.inf
    x = np.column_stack([np.ones(len(y)), (features - center) / scale])  # (N, 1 + F)
    # The intercept is penalized slightly, so that it is finite if all targets are equal.
    penalty = np.diag([_INTERCEPT_RIDGE, *np.full(len(scale), ridge)])
    beta = np.zeros(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (weights * (y - p)) - penalty @ beta
        hessian = (x.T * (weights * p * (1 - p))) @ x + penalty
        step = np.linalg.solve(hessian, gradient)
        # Limited, because a full step from a distant point can diverge.
        beta += step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < _NEWTON_TOLERANCE:
            break
    beta[1:] /= scale
    beta[0] -= center @ beta[1:]
    return beta


def fit_temperature(
    nll: Callable[[float], float], *, low: float = 0.25, high: float = 4.0, tolerance: float = 1e-4
) -> float:
    """Return the temperature between `low` and `high` that minimizes `nll(temperature)`.

    The minimum is found by golden-section search on the logarithm of the temperature; 1 is returned
    if it is no better than 1. `nll` is the mean negative log-likelihood of the right answers when
    logits are divided by the temperature. It must have a single minimum, which is found to the
    relative `tolerance`.

    Raises:
        MetricError: A value of `nll` is not finite.
    """
    if not 0 < low < high:
        raise ValueError(f"found low {low} and high {high}, expected 0 < low < high")
    left, right = math.log(low), math.log(high)
    a, b = right - _GOLDEN_RATIO * (right - left), left + _GOLDEN_RATIO * (right - left)
    nll_a, nll_b = _finite_nll(nll, a), _finite_nll(nll, b)
    while right - left > tolerance:
        if nll_a <= nll_b:
            right, b, nll_b = b, a, nll_a
            a = right - _GOLDEN_RATIO * (right - left)
            nll_a = _finite_nll(nll, a)
        else:
            left, a, nll_a = a, b, nll_b
            b = left + _GOLDEN_RATIO * (right - left)
            nll_b = _finite_nll(nll, b)
    best = (left + right) / 2
    if low <= 1 <= high and _finite_nll(nll, 0.0) <= _finite_nll(nll, best):
        return 1.0
    return math.exp(best)


def _finite_nll(nll: Callable[[float], float], log_temperature: float) -> float:
    temperature = math.exp(log_temperature)
    value = float(nll(temperature))
    if not math.isfinite(value):
        raise MetricError(f"nll at temperature {temperature:.4g}: found {value}")
    return value


def _check_fractions(values: Sequence[float], name: str) -> np.ndarray:
    """Return the values as an array (N,); raise MetricError unless all lie between 0 and 1."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise MetricError(f"{name}: found shape {array.shape}, expected a list of 1 or more")
    bad = array[~((array >= 0) & (array <= 1))]
    if bad.size:
        raise MetricError(f"{name}: found {bad[0]:g}, expected numbers between 0 and 1")
    return array
