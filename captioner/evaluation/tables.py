"""Tables of answer scores: as data for JSON, and as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from captioner.data import Example
from captioner.evaluation.baselines import BASELINES, type_of_question
from captioner.evaluation.class_tables import format_class_tables, tabulate_answers
from captioner.metrics import (
    AnswerGroup,
    AnswerScores,
    acceptable_captions,
    answer_type,
    exact_match,
    expected_calibration_error,
    majority_answers,
    reliability,
    roc_auc,
    score_answers,
    vqa_accuracy,
)

if TYPE_CHECKING:
    from captioner.predict import Result

MIN_ANSWERS = 4
"""Answers that each question needs for VQA accuracy: with fewer, it cannot reach 1."""
BINS = 15
"""Bins of the expected calibration error."""
MAX_TYPES = 20
"""Question types with a line of their own in the text of a table."""
ERROR, ROC = "expected calibration error", "area under the ROC curve"
EXACT_MATCH, VQA_ACCURACY, F1 = "exact match", "VQA accuracy", "macro-F1"
ACCEPTABLE = "acceptable"
"""The measure of the confidences of captions, see `acceptable_captions`."""

Table = dict[str, Any]


def build_score_table(
    rows: Sequence[Example],
    answers: Mapping[str, Mapping[str, str]],
    *,
    missing: Mapping[str, str] | None = None,
) -> Table:
    """Return the scores of one or several systems on the same questions, also by type.

    Scores are fractions. `measure` names the main one: VQA accuracy if each question has at least
    `MIN_ANSWERS` answers, otherwise exact match. `answers` has, by system, its answers by question
    id; `missing`, by baseline, the reason why it was not measured. `classes` is about the first
    system.

    Raises:
        MetricError: A system does not answer a question, or there is no question.
    """
    references = {row.question_id: row.references for row in rows}
    question_types = {row.question_id: type_of_question(row) for row in rows}
    answer_types = {row.question_id: _type_of_answer(row) for row in rows}
    score = partial(score_answers, question_types=question_types, answer_types=answer_types)
    scores = {name: score(texts, references) for name, texts in answers.items()}
    measure = _main_measure(rows)
    return {
        "questions": len(rows),
        "images": len({row.image for row in rows}),
        "measure": measure,
        "scores": {name: _measures(s, measure) | {F1: s.macro_f1} for name, s in scores.items()},
        "not measured": dict(missing or {}),
        "question types": _by_type({n: s.question_types for n, s in scores.items()}, measure),
        "answer types": _by_type({n: s.answer_types for n, s in scores.items()}, measure),
        "classes": tabulate_answers(references, next(iter(answers.values())), question_types),
    }


def measure_calibration(
    rows: Sequence[Example], answers: Mapping[str, str], confidences: Mapping[str, float]
) -> Table:
    """Return the expected calibration error and the reliability diagram of answers.

    The correctness of an answer is its score under the main measure of `build_score_table`.
    """
    correct = score_correctness(rows, [answers[row.question_id] for row in rows])
    values = [confidences[row.question_id] for row in rows]
    return {"measure": _main_measure(rows)} | describe_calibration(values, correct)


def score_correctness(rows: Sequence[Example], answers: Sequence[str]) -> list[float]:
    """Return the score of each answer under the main measure of `build_score_table`."""
    score = vqa_accuracy if _main_measure(rows) == VQA_ACCURACY else exact_match
    return [float(score(text, row.references)) for row, text in zip(rows, answers, strict=True)]


def score_acceptability(results: Mapping[str, Result], rows: Iterable[Example]) -> dict[str, float]:
    """Return 1 for each acceptable caption and 0 for the others, by image id.

    Images without a result are left out. The result is empty if no image has two references, with
    which the CIDEr-D of human captions is measured.
    """
    references = {row.image_id: row.references for row in rows if row.image_id in results}
    if max(map(len, references.values()), default=0) < 2:
        return {}
    texts = {name: results[name].text for name in references}
    good = acceptable_captions(texts, references)
    return {name: float(good[name]) for name in references}


def describe_calibration(confidences: Sequence[float], correct: Sequence[float]) -> Table:
    """Return the calibration error, the area under the ROC curve and the reliability diagram."""
    return {
        ERROR: expected_calibration_error(confidences, correct, bins=BINS),
        ROC: roc_auc(confidences, correct),
        "reliability": [row._asdict() for row in reliability(confidences, correct, bins=BINS)],
    }


def format_table(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a score table, and of its calibration if it has one; values x 100."""
    model, *_ = scores = table["scores"]
    missing = table["not measured"]
    names = [model, *(name for name in BASELINES if name in scores or name in missing)]
    width = max(map(len, ["x 100", *names]))
    yield f"{'x 100':<{width}}" + "".join(f"  {name:>12}" for name in scores[model])
    for name in names:
        if name in scores:
            values = "".join(f"  {100 * value:12.1f}" for value in scores[name].values())
        else:
            values = f"  {missing[name]}"
        yield f"{name:<{width}}{values}"
    for kind in ("question type", "answer type"):
        yield ""
        yield from _format_types(table, kind, names)
    yield ""
    yield from format_class_tables(table["classes"])
    if calibration := table.get("calibration"):
        yield ""
        yield from format_calibration(calibration)


def format_caption_scores(scores: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the scores of captions, with classes and calibration if there are any."""
    yield f"{'metric':<10} {'x 100':>6} {'95 % interval':>15}"
    for name, (low, high) in scores["intervals"].items():
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        yield f"{name:<10} {100 * scores[name]:6.1f} {interval:>15}"
    if classes := scores.get("classes"):
        yield ""
        yield from format_class_tables(classes)
    if calibration := scores.get("calibration"):
        yield ""
        yield from format_calibration(calibration)


def format_calibration(calibration: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a calibration: its error, and the reliability diagram as a table."""
    error, measure = 100 * calibration[ERROR], calibration["measure"]
    yield f"{ERROR}  {error:.1f}  ({BINS} bins, against {measure})"
    if (area := calibration[ROC]) is not None:
        yield f"{ROC}  {100 * area:.1f}"
    yield f"{'confidence':>12}  {'mean':>6}  {measure:>12}  {'rows':>6}"
    for row in calibration["reliability"]:
        interval = f"{100 * row['low']:.0f} to {100 * row['high']:.0f}"
        values = f"{100 * row['confidence']:6.1f}  {100 * row['accuracy']:12.1f}"
        yield f"{interval:>12}  {values}  {row['count']:6}"


def format_figures(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the calibration of confidences by task; errors x 100."""
    width = max(map(len, [*figures, "task"]))
    yield f"{'task':<{width}}    rows  error before  error after  ROC area"
    for name, row in figures.items():
        area = "-" if row[ROC] is None else f"{100 * row[ROC]:.1f}"
        values = f"{100 * row['error before']:12.1f}  {100 * row[ERROR]:11.1f}  {area:>8}"
        yield f"{name:<{width}}  {row['rows']:6}  {values}"


def _format_types(table: Mapping[str, Any], kind: str, names: Sequence[str]) -> Iterator[str]:
    """Yield the main measure by type of question or answer; small types share one line."""
    measure, scores = table["measure"], table["scores"]
    groups = list(table[f"{kind}s"].items())
    rows, others = groups[:MAX_TYPES], [group for _, group in groups[MAX_TYPES:]]
    if others:
        rows.append((f"{len(others)} further types", _merge_types(others, scores, measure)))
    title = f"{measure} by {kind}"
    width = max(len(text) for text in (title, *(name for name, _ in rows)))
    yield f"{title:<{width}}  questions" + "".join(f"  {name:>8}" for name in names)
    for name, group in rows:
        values = [f"{100 * group[n][measure]:.1f}" if n in scores else "-" for n in names]
        cells = "".join(f"  {value:>8}" for value in values)
        yield f"{name:<{width}}  {group['questions']:9}{cells}"


def _merge_types(groups: Sequence[Table], systems: Iterable[str], measure: str) -> Table:
    """Return several types as one: the number of questions, and the mean score over them."""
    total = sum(group["questions"] for group in groups)
    means = {
        name: {measure: sum(g["questions"] * g[name][measure] for g in groups) / total}
        for name in systems
    }
    return {"questions": total} | means


def _main_measure(rows: Iterable[Example]) -> str:
    enough = all(len(row.references) >= MIN_ANSWERS for row in rows)
    return VQA_ACCURACY if enough else EXACT_MATCH


def _measures(scores: AnswerGroup | AnswerScores, measure: str) -> dict[str, float]:
    values = {EXACT_MATCH: scores.exact_match}
    return values | {VQA_ACCURACY: scores.accuracy} if measure == VQA_ACCURACY else values


def _by_type(systems: dict[str, dict[str, AnswerGroup]], measure: str) -> dict[str, Table]:
    """Return {type: {system: scores}} from {system: {type: scores}}."""
    first = next(iter(systems.values()))
    return {
        kind: {"questions": group.count}
        | {name: _measures(types[kind], measure) for name, types in systems.items()}
        for kind, group in first.items()
    }


def _type_of_answer(row: Example) -> str:
    """Return the answer type that the data set states, or else that of the majority answer."""
    return row.answer_type or answer_type(majority_answers([("", row.references)])[""])
