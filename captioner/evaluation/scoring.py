"""Scores of candidates, or of a checkpoint's own texts, against the references of a task.

The scores of a task are one JSON object. All values are fractions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captioner.errors import DataError
from captioner.evaluation.baselines import answer_baselines, answer_majority_baseline
from captioner.evaluation.candidate_files import Rows, are_answers
from captioner.evaluation.candidates import match_answers, match_captions
from captioner.evaluation.class_tables import Labels, tabulate_captions
from captioner.evaluation.predictions import (
    Notify,
    PredictionOptions,
    answer_texts,
    predict_answers,
    predict_captions,
)
from captioner.evaluation.tables import (
    ACCEPTABLE,
    build_score_table,
    describe_calibration,
    measure_calibration,
    score_acceptability,
)
from captioner.metrics import FEW_IMAGES, caption_statistics

if TYPE_CHECKING:
    from captioner.data import Example
    from captioner.evaluation.tasks import EvaluationTask
    from captioner.predict import Captioner, Result


def score_candidates(
    rows: Rows,
    tasks: Sequence[EvaluationTask],
    *,
    source: str,
    references: str,
    notify: Notify,
    labels: Labels | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the scores of captions or answers from a file.

    Messages name the candidates `source` and the data set `references`. See `score_image_captions`
    for `labels`.

    Raises:
        DataError: The data set has no references of the kind of the candidates.
    """
    answered = are_answers(rows) if rows else tasks[0].has_questions
    task = next((task for task in tasks if task.has_questions == answered), None)
    if task is None:
        theirs, ours = ("answers", "captions") if answered else ("captions", "answers")
        hint = "; add --questions to make questions from the captions" if answered else ""
        raise DataError(f"{source} holds {theirs}, but {references} holds {ours}{hint}")
    if not answered:
        captions = match_captions(rows, task.rows, source=source)
        return score_image_captions(captions, task.rows, labels=labels, seed=seed)
    if labels:
        raise DataError(f"{source} holds answers; labels are named by captions")
    answers = match_answers(rows, task.rows, source=source)
    scored = [row for row in task.rows if row.references]
    if not scored:
        raise DataError(f"{references}: none of its questions has a reference answer")
    _report_unscored(task, notify)
    baselines, missing = answer_majority_baseline(scored, task.train)
    systems = {"answers": _select(scored, answers)} | baselines
    return build_score_table(scored, systems, missing=missing)


def score_image_captions(
    captions: Mapping[str, str],
    rows: Sequence[Example],
    *,
    labels: Labels | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the scores of captions by image id, with 95 % intervals, counts and warnings.

    With `labels`, the labels that captions name are scored too; see `tabulate_captions`.

    Raises:
        DataError: The references of no image name exactly one of the labels.
    """
    references = {row.image_id: row.references for row in rows}
    intervals = caption_statistics(captions, references).intervals(seed=seed)
    scores: dict[str, Any] = {name: value.score for name, value in intervals.items()}
    scores["intervals"] = {name: [value.low, value.high] for name, value in intervals.items()}
    scores |= {"images": len(references), "references": sum(map(len, references.values()))}
    if labels:
        scores["classes"] = {"labels": tabulate_captions(rows, captions, labels)}
    warnings = few_images_warnings(len(references))
    return scores | ({"warnings": warnings} if warnings else {})


def measure_caption_calibration(
    results: Mapping[str, Result], rows: Iterable[Example]
) -> dict[str, Any] | None:
    """Return the calibration of the confidences that captions are acceptable.

    It is None if no image has two references.
    """
    correct = score_acceptability(results, rows)
    if not correct:
        return None
    values = [results[name].best.confidence for name in correct]
    return {"measure": ACCEPTABLE} | describe_calibration(values, list(correct.values()))


def few_images_warnings(images: int) -> list[str]:
    """Return a warning about CIDEr-D if there are fewer than `metrics.FEW_IMAGES` images."""
    weights = "n-grams are weighted by log(images / images whose references contain them)"
    if images == 1:
        return [f"CIDEr-D is 0 for a single image, whatever its caption: {weights}, which is 0"]
    if images < FEW_IMAGES:
        return [f"CIDEr-D is unreliable for {images} images: {weights}, which needs many images"]
    return []


def compare_captions(
    first: Mapping[str, str], second: Mapping[str, str], rows: Iterable[Example], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return, by metric, the scores of two systems, B - A, its 95 % interval and p value."""
    references = {row.image_id: row.references for row in rows}
    a, b = (
        caption_statistics({name: captions[name] for name in references}, references)
        for captions in (first, second)
    )
    scores_a, scores_b = a.corpus(), b.corpus()
    return {
        name: {"A": scores_a[name], "B": scores_b[name]} | difference._asdict()
        for name, difference in a.compare(b, seed=seed).items()
    }


def caption_task(
    captioner: Captioner, task: EvaluationTask, options: PredictionOptions
) -> dict[str, Result]:
    """Return results by image id for the images that can be read; raise DataError if none can."""
    captions = predict_captions(captioner, task.rows, options)
    if not captions:
        raise DataError(f"{options.source}: none of its {len(task.rows)} images can be read")
    if skipped := len(task.rows) - len(captions):
        options.notify(f"scored without {skipped} images that cannot be read")
    return captions


def answer_task(
    captioner: Captioner, task: EvaluationTask, options: PredictionOptions
) -> tuple[dict[str, str], dict[str, float]]:
    """Return answers by question id, empty where there is an error; and the other confidences."""
    answers = predict_answers(captioner, task.rows, options)
    confidences = {name: a.confidence for name, a in answers.items() if a.error is None}
    return answer_texts(answers), confidences


def score_question_answers(
    captioner: Captioner,
    task: EvaluationTask,
    answers: Mapping[str, str],
    confidences: Mapping[str, float],
    options: PredictionOptions,
    *,
    blind: Captioner | None = None,
) -> dict[str, Any]:
    """Return the scores of the results of `answer_task`, with baselines and calibration.

    Questions without a confidence are left out. `blind` is the model trained without images.

    Raises:
        DataError: None of the questions could be answered.
    """
    if not confidences:
        raise DataError(f"{options.source}: none of its {len(task.rows)} questions can be answered")
    if skipped := len(task.rows) - len(confidences):
        options.notify(f"scored without {skipped} questions that cannot be answered")
    _report_unscored(task, options.notify)
    rows = [row for row in task.rows if row.references and row.question_id in confidences]
    if not rows:
        return {"questions": 0}
    baselines, missing = answer_baselines(rows, task.train, captioner, options, blind=blind)
    own = _select(rows, answers)
    table = build_score_table(rows, {"model": own} | baselines, missing=missing)
    return table | {"calibration": measure_calibration(rows, own, confidences)}


def _select(rows: Iterable[Example], answers: Mapping[str, str]) -> dict[str, str]:
    return {row.question_id: answers[row.question_id] for row in rows}


def _report_unscored(task: EvaluationTask, notify: Notify) -> None:
    """Report the number of questions without reference answers."""
    if count := sum(not row.references for row in task.rows):
        notify(f"{count} questions have no reference answers and are left out of the scores")
