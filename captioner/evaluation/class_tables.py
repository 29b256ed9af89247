"""Tables of classification scores: of answers, and of the labels that captions name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from captioner.data import Example
from captioner.errors import DataError
from captioner.metrics import (
    answer_class,
    confusion_table,
    join_words,
    named_label,
    normalize_answer,
    score_classes,
)

MOST_CLASSES = 20
"""Classes with a score of their own; a type of questions with more has no table."""
MOST_CONFUSED = 10
"""Classes of a confusion table besides "(other)"."""
NO_LABEL = "(none)"
"""The predicted class of a caption that names no label, or several."""
ALL = "all"

Table = dict[str, Any]
Name = TypeVar("Name", bound=Hashable)
Labels = Mapping[str, Sequence[str]]
"""Other names of each label."""


def tabulate_answers(
    references: Mapping[Name, Sequence[str]], answers: Mapping[Name, str], types: Mapping[Name, str]
) -> dict[str, Table]:
    """Return the classification scores of answers: of all questions, and by question type.

    The class of a question is its most frequent answer, normalized. A type is left out if it has
    one class, or more than `MOST_CLASSES`. All arguments are by question.
    """
    expected = {name: answer_class(texts) for name, texts in references.items()}
    members: dict[str, list[Name]] = {}
    for name in expected:
        members.setdefault(types[name], []).append(name)
    groups = {
        kind: names
        for kind, names in sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
        if 1 < len({expected[name] for name in names}) <= MOST_CLASSES
    }
    return {
        kind: tabulate_classes(
            [normalize_answer(answers[name]) for name in names], [expected[name] for name in names]
        )
        for kind, names in ({ALL: list(expected)} | groups).items()
    }


def tabulate_captions(
    rows: Sequence[Example], captions: Mapping[str, str], labels: Labels
) -> Table:
    """Return the classification scores of the labels that captions name.

    The class of an image is the label that one of its references names; images whose references
    name none, or different ones, are left out.

    Args:
        rows: The images.
        captions: By image id.
        labels: Other names of each label, see `captioner.metrics.named_label`.

    Raises:
        DataError: No image is left.
    """
    predicted: list[str] = []
    expected: list[str] = []
    for row in rows:
        named = {label for text in row.references if (label := named_label(text, labels))}
        if len(named) == 1:
            expected += named
            predicted.append(named_label(captions[row.image_id], labels) or NO_LABEL)
    if not expected:
        raise DataError(f"labels: no image has references that name one of {', '.join(labels)}")
    return tabulate_classes(predicted, expected)


def parse_labels(texts: Iterable[str]) -> dict[str, list[str]]:
    """Return labels with their other names, from texts such as `dog=barking|bark`.

    Raises:
        DataError: There are no labels, a name has no words, or two labels have the same name.
    """
    labels: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for text in filter(str.strip, texts):
        label, _, others = text.partition("=")
        label, names = label.strip(), others.split("|") if others else []
        if not text.isprintable():
            raise DataError(f"labels: {text!r} has unprintable characters; expected UTF-8 text")
        for name in (label, *names):
            words = join_words(name)
            if not words:
                raise DataError(f"labels: {text!r}: the name {name!r} has no words; remove it")
            if label in labels or owners.setdefault(words, label) != label:
                raise DataError(
                    f"labels: {name!r} is given twice; each label needs names of its own"
                )
        labels[label] = names
    if not labels:
        raise DataError("labels: found none; name at least one, such as dog=barking|bark")
    return labels


def tabulate_classes(predicted: Sequence[str], expected: Sequence[str]) -> Table:
    """Return accuracy, means and the most frequent classes, with a confusion table, for JSON.

    The means are those over the expected classes.
    """
    scores = score_classes(predicted, expected, classes=expected)
    confusion = confusion_table(predicted, expected, most=MOST_CONFUSED)
    return {
        "examples": len(expected),
        "classes": len(scores.classes),
        "accuracy": scores.accuracy,
        "macro": scores.macro._asdict(),
        "weighted": scores.weighted._asdict(),
        "by class": {
            name: score._asdict() for name, score in list(scores.classes.items())[:MOST_CLASSES]
        },
        "confusion": {"classes": confusion.classes, "counts": confusion.counts.tolist()},
    }


def format_class_tables(tables: Mapping[str, Table]) -> Iterator[str]:
    """Yield the lines of classification scores, and the confusion table of the first; x 100."""
    names = [f"{mean} {name}" for mean in ("macro", "weighted") for name in ("P", "R", "F1")]
    width = max(map(len, [*tables, "classification"]))
    head = "".join(f"  {name:>11}" for name in ("accuracy", *names))
    yield f"{'classification':<{width}}  examples  classes{head}"
    for name, table in tables.items():
        means = [list(table[mean].values())[:3] for mean in ("macro", "weighted")]
        values = [table["accuracy"], *means[0], *means[1]]
        cells = "".join(f"  {100 * value:11.1f}" for value in values)
        yield f"{name:<{width}}  {table['examples']:8}  {table['classes']:7}{cells}"
    yield ""
    yield from _format_confusion(next(iter(tables.values()))["confusion"])


def _format_confusion(confusion: Mapping[str, Any]) -> Iterator[str]:
    title, names = "class / predicted", confusion["classes"]
    width, column = max(map(len, [title, *names])), max(5, *map(len, names))
    yield f"{title:<{width}}" + "".join(f"  {name:>{column}}" for name in names)
    for name, row in zip(names, confusion["counts"], strict=True):
        yield f"{name:<{width}}" + "".join(f"  {count:{column}}" for count in row)
