"""The controls beside a score of answers: what is right without looking at the right image.

- majority: the most frequent training answer to a question's type (Antol et al., "VQA: Visual
  Question Answering", ICCV 2015, section 4, the "per Q-type prior").
- shuffled: the model itself, each question asked of another image (`shuffle_images`).
- blind: the same model trained and tested without an image (`model.blind`).

Answers are mappings from question id to text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from captioner.data import Example
from captioner.metrics import (
    AnswerGroup,
    AnswerScores,
    answer_type,
    exact_match,
    expected_calibration_error,
    majority_answers,
    question_type,
    reliability,
    score_answers,
    vqa_accuracy,
)

ENOUGH_ANSWERS = 4
"""With fewer answers to a question, not even the one they all give has a VQA accuracy of 1."""
BINS = 15
"""Of the expected calibration error."""
EXACT, OFFICIAL, F1 = "exact match", "VQA accuracy", "macro-F1"
Ask = Callable[[Sequence[Example]], Mapping[str, str]]
"""Answers questions."""
CONTROLS = ("blind", "shuffled", "majority")
TYPES_SHOWN = 20
"""Types with a line of their own in the text of a table."""


def shuffle_images(images: Iterable[str], *, seed: int = 0) -> dict[str, str]:
    """For each distinct image another one, each of them once; empty if there is only one.

    The images are put on a circle in an order drawn by the seed, and each has its neighbour's
    place: a question never keeps its image.
    """
    order = list(dict.fromkeys(images))
    random.Random(f"shuffled {seed}").shuffle(order)
    return dict(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else {}


def majority(train: Iterable[Example], rows: Iterable[Example]) -> dict[str, str]:
    """The majority answer to the type of each question; MetricError without training rows.

    A type that the training rows do not have gets the majority of them all.
    """
    best = majority_answers((kind_of(row), row.references) for row in train)
    return {row.question_id: best.get(kind_of(row), best[""]) for row in rows}


def measure(
    rows: Sequence[Example],
    train: Iterable[Example],
    *,
    ask: Ask,
    ask_blind: Ask | None = None,
    seed: int = 0,
) -> tuple[dict[str, Mapping[str, str]], dict[str, str]]:
    """The controls' answers, and of those that cannot be had why: by the names in `CONTROLS`.

    `ask` is the model, `ask_blind` the one that was trained without images.
    """
    answers: dict[str, Mapping[str, str]] = {}
    missing = {"blind": "not measured (give --blind DIR)"}
    if ask_blind is not None:
        answers, missing = {"blind": ask_blind(rows)}, {}
    others = shuffle_images((row.image for row in rows), seed=seed)
    if others:
        answers["shuffled"] = ask([replace(row, image=others[row.image]) for row in rows])
    else:
        missing["shuffled"] = "cannot be made of one image"
    found, why = answer_majority_baseline(rows, train)
    return answers | found, missing | why


def answer_majority_baseline(
    rows: Iterable[Example], train: Iterable[Example]
) -> tuple[dict[str, Mapping[str, str]], dict[str, str]]:
    """As `measure`, of the control that needs no model."""
    known = [row for row in train if row.references]
    if known:
        return {"majority": majority(known, rows)}, {}
    return {}, {"majority": "there are no training answers beside these questions"}


def kind_of(row: Example) -> str:
    """A question's type: the data set's, or else its opening words."""
    return row.question_type or question_type(row.question)


def answer_kind_of(row: Example) -> str:
    """The type of a question's answer: the data set's, or else that of its most frequent one."""
    return row.answer_type or answer_type(majority_answers([("", row.references)])[""])


def is_official(rows: Iterable[Example]) -> bool:
    """Whether each question has enough answers for the VQA accuracy to mean something."""
    return all(len(row.references) >= ENOUGH_ANSWERS for row in rows)


def build_score_table(
    rows: Sequence[Example],
    answers: Mapping[str, Mapping[str, str]],
    *,
    missing: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Scores of several answerers of the same questions, by name, and those of each type.

    `measure` names the main one: VQA accuracy, or, where it is left out for want of answers
    (`is_official`), exact match. Numbers are fractions. `missing` says of other answerers why
    they are not there. Raises MetricError where an answerer leaves out a question, and where
    there is no question.
    """
    official = is_official(rows)
    references = {row.question_id: row.references for row in rows}
    types = {
        "question_types": {row.question_id: kind_of(row) for row in rows},
        "answer_types": {row.question_id: answer_kind_of(row) for row in rows},
    }
    found = {name: score_answers(given, references, **types) for name, given in answers.items()}

    def numbers(scores: AnswerGroup | AnswerScores) -> dict[str, float]:
        values = {EXACT: scores.exact_match}
        return values | {OFFICIAL: scores.accuracy} if official else values

    def by_type(tables: dict[str, dict[str, AnswerGroup]]) -> dict[str, dict[str, Any]]:
        groups = next(iter(tables.values()))
        return {
            kind: {"questions": group.count}
            | {name: numbers(table[kind]) for name, table in tables.items()}
            for kind, group in groups.items()
        }

    return {
        "questions": len(rows),
        "images": len({row.image for row in rows}),
        "measure": OFFICIAL if official else EXACT,
        "scores": {name: numbers(s) | {F1: s.macro_f1} for name, s in found.items()},
        "not measured": dict(missing or {}),
        "question types": by_type({name: s.question_types for name, s in found.items()}),
        "answer types": by_type({name: s.answer_types for name, s in found.items()}),
    }


def calibration(
    rows: Sequence[Example], answers: Mapping[str, str], confidences: Mapping[str, float]
) -> dict[str, Any]:
    """How far confidences can be believed: the expected calibration error, and its bins.

    An answer is as right as its VQA accuracy, or, where that is left out, as exact match says.
    """
    official = is_official(rows)
    judge = vqa_accuracy if official else exact_match
    right = [float(judge(answers[row.question_id], row.references)) for row in rows]
    sure = [confidences[row.question_id] for row in rows]
    return {
        "measure": OFFICIAL if official else EXACT,
        "expected calibration error": expected_calibration_error(sure, right, bins=BINS),
        "reliability": [row._asdict() for row in reliability(sure, right, bins=BINS)],
    }


def format_table(table: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a `build_score_table`, with its `calibration` where it has one; values x 100."""
    scores, missing, measure = table["scores"], table["not measured"], table["measure"]
    first = next(iter(scores))
    names = [first, *(name for name in CONTROLS if name in scores or name in missing)]
    columns = list(scores[first])
    width = max(map(len, ["x 100", *names]))
    yield f"{'x 100':<{width}}" + "".join(f"  {name:>12}" for name in columns)
    for name in names:
        values = (f"  {100 * scores[name][c]:12.1f}" for c in columns) if name in scores else ()
        yield f"{name:<{width}}" + ("".join(values) or f"  {missing[name]}")
    for title in ("question type", "answer type"):
        groups = dict(table[f"{title}s"])
        rows = list(groups.items())[:TYPES_SHOWN]
        rest = [groups[kind] for kind in list(groups)[TYPES_SHOWN:]]
        if rest:
            rows.append((f"{len(rest)} further types", _joined(rest, list(scores), measure)))
        head = f"{measure} by {title}"
        width = max(len(text) for text in (head, *(kind for kind, _ in rows)))
        yield ""
        yield f"{head:<{width}}  questions" + "".join(f"  {name:>8}" for name in names)
        for kind, group in rows:
            found = {name: f"{100 * group[name][measure]:.1f}" for name in scores}
            values = (f"  {found.get(name, '-'):>8}" for name in names)
            yield f"{kind:<{width}}  {group['questions']:9}" + "".join(values)
    if "calibration" in table:
        found = table["calibration"]
        error = 100 * found["expected calibration error"]
        yield ""
        yield f"expected calibration error  {error:.1f}  ({BINS} bins, against {found['measure']})"


def _joined(groups: Sequence[Mapping[str, Any]], names: Sequence[str], measure: str) -> dict:
    """Several types of questions as one."""
    total = sum(group["questions"] for group in groups)
    means = {
        name: {measure: sum(g["questions"] * g[name][measure] for g in groups) / total}
        for name in names
    }
    return {"questions": total} | means
