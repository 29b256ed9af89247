"""Metrics of class labels: accuracy, precision, recall and F1, and the confusion table.

Source: the definitions and the rules for divisions by zero are those of scikit-learn 1.9
(`precision_recall_fscore_support`, `confusion_matrix`). All metrics range from 0 to 1.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from captioner.errors import MetricError

OTHER = "(other)"
"""The class of `confusion_table` for all but the most frequent classes."""


class ClassScore(NamedTuple):
    """Precision, recall and F1 of one class, or their mean over the classes."""

    precision: float
    recall: float
    f1: float
    support: int
    """Examples of the class, or of all classes."""


class ClassificationScores(NamedTuple):
    """The scores of predicted classes."""

    accuracy: float
    macro: ClassScore
    """Means over the classes."""
    weighted: ClassScore
    """Means weighted by the support of each class."""
    classes: dict[str, ClassScore]
    """Classes with more examples first."""


class ConfusionTable(NamedTuple):
    """Counts of examples by expected and predicted class."""

    classes: list[str]
    counts: np.ndarray
    """(C, C): one row for each expected class, one column for each predicted class."""


def score_classes(
    predicted: Sequence[str],
    expected: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    zero_division: float = 0.0,
) -> ClassificationScores:
    """Return accuracy, and precision, recall and F1 of each class and on average.

    Args:
        predicted: (N) predicted classes.
        expected: (N) correct classes.
        classes: Classes to score and to average over; all that occur by default.
        zero_division: Precision of a class that is never predicted, recall of one that is never
            expected, and F1 if it is neither. NaN leaves the class out of the mean.

    Raises:
        MetricError: There are no examples, or the two differ in length.
    """
    _check_labels(predicted, expected)
    support, predictions = Counter(expected), Counter(predicted)
    correct = Counter(a for a, b in zip(predicted, expected, strict=True) if a == b)
    chosen = list(dict.fromkeys(classes if classes is not None else {**support, **predictions}))
    chosen.sort(key=lambda name: (-support[name], name))

    def divide(part: float, total: float) -> float:
        return part / total if total else zero_division

    scores = {
        name: ClassScore(
            divide(correct[name], predictions[name]),
            divide(correct[name], support[name]),
            divide(2 * correct[name], predictions[name] + support[name]),
            support[name],
        )
        for name in chosen
    }
    weights = np.array([support[name] for name in chosen], dtype=float)
    macro, weighted = (_average(scores.values(), w) for w in (np.ones_like(weights), weights))
    return ClassificationScores(correct.total() / len(expected), macro, weighted, scores)


def confusion_table(
    predicted: Sequence[str], expected: Sequence[str], *, most: int = 20
) -> ConfusionTable:
    """Count the examples by expected and predicted class.

    The classes are the `most` frequent expected ones, and `OTHER` for the rest if there is any.

    Raises:
        MetricError: There are no examples, or the two differ in length.
    """
    _check_labels(predicted, expected)
    support = Counter(expected)
    names = sorted({*support, *predicted}, key=lambda name: (-support[name], name))
    shown = [*names[:most], *([OTHER] if len(names) > most else [])]
    place = {name: i for i, name in enumerate(shown)}
    counts = np.zeros((len(shown), len(shown)), dtype=int)
    rest = len(shown) - 1
    for a, b in zip(predicted, expected, strict=True):
        counts[place.get(b, rest), place.get(a, rest)] += 1
    return ConfusionTable(shown, counts)


def named_label(text: str, labels: Mapping[str, Sequence[str]]) -> str | None:
    """Return the label that a text names; None if it names no label, or several.

    A label is named by its own words, or by those of one of its other names, in a row and without
    regard to case. A name inside a longer one ("train" in "train horn") does not count. See
    `join_words` for the words of a text.

    Args:
        text: A caption.
        labels: Other names of each label.
    """
    words = f" {join_words(text)} "
    spans = [
        (at.start(), at.end(), label)
        for label, others in labels.items()
        for name in map(join_words, (label, *others))
        for at in re.finditer(rf"(?<= ){re.escape(name)}(?= )", words)
    ]
    named = {
        label
        for start, end, label in spans
        if not any(a <= start and end <= b and b - a > end - start for a, b, _ in spans)
    }
    return named.pop() if len(named) == 1 else None


def join_words(text: str) -> str:
    """Return the words of a text, without case and punctuation, joined by spaces.

    A word is a sequence of letters, numbers and combining marks. Equivalent sequences of characters
    (NFC and NFD) give the same words.
    """
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return " ".join("".join(kept).split())


def _average(scores: Collection[ClassScore], weights: np.ndarray) -> ClassScore:
    """Return the weighted means (C,) of the scores of the classes."""
    precision, recall, f1 = (
        _mean(np.array([score[i] for score in scores], dtype=float), weights) for i in range(3)
    )
    return ClassScore(precision, recall, f1, sum(score.support for score in scores))


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted mean of the values (C,) that are numbers; NaN if there are none."""
    known = ~np.isnan(values)
    if not known.any():
        return float("nan")
    values, weights = values[known], weights[known]
    return float(np.average(values, weights=weights if weights.any() else None))


def _check_labels(predicted: Sequence[str], expected: Sequence[str]) -> None:
    if len(predicted) != len(expected) or not expected:
        raise MetricError(
            f"found {len(predicted)} predicted and {len(expected)} expected classes; expected one"
            " of each per example, and at least one example"
        )
