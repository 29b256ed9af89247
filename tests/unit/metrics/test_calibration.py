"""Calibration: reliability diagrams computed manually, and known temperatures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import MetricError
from captioner.metrics import (
    ReliabilityBin,
    expected_calibration_error,
    fit_logistic,
    fit_temperature,
    reliability,
    roc_auc,
)

ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def test_bins_and_error_match_manual_results() -> None:
    confidences = [0.0, 0.2, 0.3, 0.9, 1.0, 0.95]
    correct = [False, True, False, True, True, False]
    rows = reliability(confidences, correct, bins=5)
    assert rows == [
        pytest.approx(ReliabilityBin(0.0, 0.2, 2, 0.1, 0.5)),
        pytest.approx(ReliabilityBin(0.2, 0.4, 1, 0.3, 0.0)),
        pytest.approx(ReliabilityBin(0.8, 1.0, 3, 0.95, 2 / 3)),
    ]
    error = (2 * 0.4 + 1 * 0.3 + 3 * (0.95 - 2 / 3)) / 6
    assert expected_calibration_error(confidences, correct, bins=5) == pytest.approx(error)


def test_bin_includes_its_upper_edge() -> None:
    rows = reliability([0.25, 0.5, 0.75, 1.0], [1, 1, 1, 1], bins=4)
    assert [(row.low, row.high, row.count) for row in rows] == [
        (0.0, 0.25, 1),
        (0.25, 0.5, 1),
        (0.5, 0.75, 1),
        (0.75, 1.0, 1),
    ]


def test_error_of_extreme_confidences() -> None:
    assert expected_calibration_error([1.0] * 4, [False] * 4) == 1
    assert expected_calibration_error([0.0] * 4, [True] * 4) == 1
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0
    assert expected_calibration_error([0.25] * 4, [True, False, False, False]) == 0
    # A VQA accuracy is used as it is.
    assert expected_calibration_error([0.6], [0.6]) == 0


@given(ANSWERS, st.integers(1, 30), st.randoms(use_true_random=False))
def test_each_answer_is_in_one_bin(answers, bins: int, random) -> None:
    rows = reliability(*zip(*answers, strict=True), bins=bins)
    assert sum(row.count for row in rows) == len(answers)
    assert sum(row.count * row.accuracy for row in rows) == pytest.approx(
        sum(right for _, right in answers)
    )
    for row in rows:
        inside = [p for p, _ in answers if row.low < p <= row.high or p == row.low == 0]
        assert len(inside) == row.count
        assert row.confidence == pytest.approx(sum(inside) / len(inside))
    shuffled = random.sample(answers, len(answers))
    again = expected_calibration_error(*zip(*shuffled, strict=True), bins=bins)
    assert again == pytest.approx(
        expected_calibration_error(*zip(*answers, strict=True), bins=bins)
    )


@given(ANSWERS)
def test_error_grows_with_finer_bins(answers) -> None:
    confidences, correct = zip(*answers, strict=True)
    errors = [expected_calibration_error(confidences, correct, bins=n) for n in (1, 2, 4, 8, 16)]
    assert errors[0] == pytest.approx(abs(np.mean(confidences) - np.mean(correct)), abs=1e-12)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(errors))
    assert 0 <= errors[-1] <= 1


@pytest.mark.parametrize(
    ("confidences", "correct", "message"),
    [
        ([], [], "list of 1 or more"),
        ([0.5], [True, False], "1 confidences of 2 answers"),
        ([1.5], [True], "1.5"),
        ([-0.1], [True], "-0.1"),
        ([math.nan], [True], "nan"),
        ([0.5], [2], "correct: found 2"),
        ([[0.5]], [[1]], "shape"),
    ],
)
def test_values_outside_0_to_1_are_errors(confidences, correct, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        expected_calibration_error(confidences, correct)


def test_number_of_bins_must_be_positive() -> None:
    with pytest.raises(ValueError, match="bins"):
        reliability([0.5], [True], bins=0)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def true_logits() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=1.5, size=(200, 6))


@pytest.mark.parametrize("true", [0.3, 0.8, 1.0, 1.7, 3.5])
def test_temperature_is_found(true: float) -> None:
    """The expected loss of logits that are `true` times too large is minimal at `true`."""
    logits, calls = true_logits(), []
    p = np.exp(log_softmax(logits))

    def nll(temperature: float) -> float:
        calls.append(temperature)
        return float(-(p * log_softmax(logits * true / temperature)).sum(axis=-1).mean())

    assert fit_temperature(nll) == pytest.approx(true, rel=1e-3)
    assert all(0.25 <= t <= 4 for t in calls)
    assert len(calls) < 40


def test_temperature_corrects_overconfidence() -> None:
    rng, logits = np.random.default_rng(1), np.repeat(true_logits(), 20, axis=0)
    gumbel = rng.gumbel(size=logits.shape)
    labels = (logits + gumbel).argmax(axis=-1)  # Drawn with the probabilities of the softmax.
    claimed = logits * 2.5

    def nll(temperature: float) -> float:
        return float(-log_softmax(claimed / temperature)[np.arange(len(labels)), labels].mean())

    def error(temperature: float) -> float:
        p = np.exp(log_softmax(claimed / temperature))
        return expected_calibration_error(p.max(axis=-1), p.argmax(axis=-1) == labels)

    temperature = fit_temperature(nll)
    assert temperature == pytest.approx(2.5, rel=0.1)
    assert error(1) > 0.1
    assert error(temperature) < 0.03


@pytest.mark.parametrize(("true", "bound"), [(0.01, 0.25), (50, 4.0)])
def test_temperature_stays_within_its_bounds(true: float, bound: float) -> None:
    temperature = fit_temperature(lambda t: math.log(t / true) ** 2)
    assert temperature == pytest.approx(bound, rel=1e-3)
    assert 0.25 <= temperature <= 4


def test_bounds_and_tolerance_can_be_set() -> None:
    def nll(temperature: float) -> float:
        return math.log(temperature / 7) ** 2

    assert fit_temperature(nll, low=2, high=10, tolerance=1e-6) == pytest.approx(7, rel=1e-6)
    for low, high in ((0, 1), (2, 1), (-1, 1)):
        with pytest.raises(ValueError, match="low"):
            fit_temperature(nll, low=low, high=high)


def test_temperature_is_1_if_no_other_is_better() -> None:
    assert fit_temperature(lambda t: 3.0) == 1
    assert fit_temperature(lambda t: -(math.log(t) ** 2) if t > 2 else abs(t - 1) - 9) == 1


def test_nan_loss_is_an_error() -> None:
    with pytest.raises(MetricError, match="nan"):
        fit_temperature(lambda t: math.nan)


def test_logistic_regression_recovers_known_coefficients() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal((1, -2), (0.5, 3), (40_000, 2))
    p = 1 / (1 + np.exp(-(0.5 + 2 * features[:, 0] - 0.4 * features[:, 1])))
    beta = fit_logistic(features, rng.random(len(p)) < p, weights=np.ones(len(p)))
    assert beta == pytest.approx([0.5, 2, -0.4], abs=0.08)


def test_logistic_regression_of_fractions_and_weights_equals_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(30, 2))
    hits = rng.integers(0, 5, 30)  # of 4
    weighted = fit_logistic(features, hits / 4, weights=np.full(30, 4.0))
    repeated = [int(i < hit) for hit in hits for i in range(4)]
    rows = np.repeat(features, 4, axis=0)
    assert weighted == pytest.approx(fit_logistic(rows, repeated, weights=np.ones(120)), abs=1e-9)


def test_logistic_regression_of_separable_rows_is_finite() -> None:
    features = np.array([[0.0, 7.0], [1.0, 7.0], [100.0, 7.0], [101.0, 7.0]])
    beta = fit_logistic(features, [0, 0, 1, 1], weights=np.ones(4))
    assert np.isfinite(beta).all()
    assert beta[2] == 0, "a constant feature has no coefficient"
    scores = features @ beta[1:] + beta[0]
    assert (scores[:2] < 0).all()
    assert (scores[2:] > 0).all()
    equal = fit_logistic(features, [1, 1, 1, 1], weights=np.ones(4))
    assert 5 < equal[0] < 20
    assert equal[1:] == pytest.approx([0, 0], abs=1e-3)


def test_area_under_the_roc_curve_counts_ordered_pairs() -> None:
    confidences, correct = [0.1, 0.4, 0.4, 0.8, 0.9], [0, 1, 0, 0, 1]
    pairs = [(p, q) for p, y in zip(confidences, correct, strict=True) if y
             for q, z in zip(confidences, correct, strict=True) if not z]  # fmt: skip
    area = sum(1.0 if p > q else 0.5 if p == q else 0.0 for p, q in pairs) / len(pairs)
    assert roc_auc(confidences, correct) == pytest.approx(area)
    assert roc_auc([0.3] * 4, [0, 1, 1, 0]) == 0.5
    assert roc_auc([0.1, 0.2], [1, 1]) is None
    # A half-correct answer is one correct and one wrong answer of half the weight.
    halves = roc_auc([0.1, 0.4, 0.4], [0, 0, 1])
    assert roc_auc([0.1, 0.4], [0, 0.5]) == pytest.approx((0.5 * 1 + 0.25 * 0.5) / 0.75)
    assert halves == pytest.approx(0.75)
