"""Classification metrics against scikit-learn, and the labels that texts name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import MetricError
from captioner.metrics import OTHER, confusion_table, named_label, score_classes

CLASSES = ("cat", "dog", "rain", "sea")
LABELS = st.sampled_from(CLASSES)
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=12)


def sklearn_scores(predicted, expected, **options):
    metrics = pytest.importorskip("sklearn.metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metrics.precision_recall_fscore_support(expected, predicted, **options)


@given(
    PAIRS,
    st.sampled_from([0.0, 1.0, float("nan")]),
    st.none() | st.lists(LABELS, min_size=1, unique=True),
)
def test_scores_equal_those_of_scikit_learn(pairs, zero_division, classes):
    predicted, expected = map(list, zip(*pairs, strict=True))
    scores = score_classes(predicted, expected, classes=classes, zero_division=zero_division)
    options = {"labels": list(scores.classes), "zero_division": zero_division}
    rows = np.array([*zip(*sklearn_scores(predicted, expected, **options), strict=True)])
    np.testing.assert_allclose(list(scores.classes.values()), rows, atol=1e-12)
    for name in ("macro", "weighted"):
        means = sklearn_scores(predicted, expected, average=name, **options)[:3]
        np.testing.assert_allclose(getattr(scores, name)[:3], means, atol=1e-12)
    assert scores.macro.support == scores.weighted.support == rows[:, 3].sum()
    assert scores.accuracy == np.mean([a == b for a, b in pairs])
    wanted = set(classes or predicted + expected)
    order = [(-score.support, name) for name, score in scores.classes.items()]
    assert {name for _, name in order} == wanted
    assert order == sorted(order)


@given(PAIRS, st.integers(1, 5))
def test_confusion_table_equals_that_of_scikit_learn(pairs, most):
    confusion_matrix = pytest.importorskip("sklearn.metrics").confusion_matrix
    predicted, expected = map(list, zip(*pairs, strict=True))
    names, counts = confusion_table(predicted, expected, most=most)
    shown = [name for name in names if name != OTHER]
    assert len(shown) == min(most, len({*predicted, *expected}))
    assert (OTHER in names) == (len({*predicted, *expected}) > most)
    left = set(expected) - set(shown)
    assert max(map(expected.count, left), default=0) <= min(map(expected.count, shown))
    moved = [[name if name in shown else OTHER for name in side] for side in (expected, predicted)]
    np.testing.assert_array_equal(counts, confusion_matrix(*moved, labels=names))


@pytest.mark.parametrize(("predicted", "expected"), [([], []), (["a"], ["a", "b"])])
def test_classes_must_pair(predicted, expected):
    for metric in (score_classes, confusion_table):
        with pytest.raises(MetricError, match=f"found {len(predicted)} predicted"):
            metric(predicted, expected)


NAMES = {"dog bark": ["dog is barking", "barking dog"], "rain": [], "train": [], "train horn": []}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A Dog is barking, outside.", "dog bark"),
        ("the dog_bark is loud", "dog bark"),
        ("heavy rain", "rain"),
        ("a brain", None),
        ("a dog in a park, barking", None),
        ("rain and a barking dog", None),
        ("rain, rain, rain", "rain"),
        ("a train horn", "train horn"),
        ("a train passes", "train"),
        ("a train, then a train horn", None),
        ("", None),
    ],
)
def test_named_label(text, label):
    assert named_label(text, NAMES) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("ein Hu\u0308nd bellt", "H\u00fcnd"),
        ("ein h\u00fcnd", "H\u00fcnd"),
        ("DIE STRASSE", "Stra\u00dfe"),
        ("\u0e01\u0e32 \u0e1a\u0e34\u0e19", "\u0e01\u0e32"),
        ("\u0e01\u0e49\u0e32", "\u0e01\u0e49\u0e32"),
    ],
    ids=["decomposed", "composed", "sharp s", "without a tone mark", "with a tone mark"],
)
def test_labels_of_any_script_are_recognized(text, label):
    labels = dict.fromkeys(("H\u00fcnd", "Stra\u00dfe", "\u0e01\u0e32", "\u0e01\u0e49\u0e32"), ())
    assert named_label(text, labels) == label
