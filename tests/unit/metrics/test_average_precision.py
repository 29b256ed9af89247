"""Mean average precision equals the definition of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.metrics import mean_average_precision


def precision_recall_sum(scores: np.ndarray, present: np.ndarray) -> float:
    """Return the sum over thresholds of (R_n - R_{n-1}) P_n, computed threshold by threshold."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        hits = (chosen & present).sum()
        total += (hits / present.sum() - recall) * hits / chosen.sum()
        recall = hits / present.sum()
    return total


@pytest.mark.parametrize("levels", [3, 10, 10**6], ids=["ties", "some ties", "no ties"])
def test_value_is_that_of_the_precision_recall_curve(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(levels, size=(60, 7)) / levels
    present = rng.random((60, 7)) < 0.2
    present[:, 0] = True
    expected = [precision_recall_sum(s, p) for s, p in zip(scores.T, present.T, strict=True)]
    assert mean_average_precision(scores, present) == pytest.approx(np.mean(expected))
    order = rng.permutation(60)
    assert mean_average_precision(scores[order], present[order]) == pytest.approx(np.mean(expected))


def test_value_of_the_example_of_scikit_learn():
    scores = np.array([[0.1], [0.4], [0.35], [0.8]])
    assert mean_average_precision(scores, [[0], [0], [1], [1]]) == pytest.approx(0.8333333)


def test_tags_that_occur_in_no_image_do_not_count():
    scores = [[0.9, 0.1], [0.2, 0.7], [0.1, 0.3]]
    assert mean_average_precision(scores, [[1, 0], [0, 0], [0, 0]]) == 1
    assert mean_average_precision(scores, np.zeros((3, 2))) == 0
    assert mean_average_precision(np.zeros((0, 2)), np.zeros((0, 2))) == 0
