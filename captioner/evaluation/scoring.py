"""Candidates, or what a checkpoint says, against references: each task's scores as one mapping.

Values are fractions. `tell` is handed each remark, a line of text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from captioner.errors import DataError
from captioner.evaluation.baselines import (
    answer_majority_baseline,
    build_score_table,
    calibration,
    measure,
)

if TYPE_CHECKING:
    from captioner.data import Example
    from captioner.evaluation.candidate_files import Rows
    from captioner.evaluation.predictions import Keep
    from captioner.evaluation.tasks import EvaluationTask
    from captioner.predict import Captioner

Tell = Callable[[str], None]


@dataclass(frozen=True)
class PredictionOptions:
    """How a checkpoint's texts are made, and where they go."""

    prog: str
    name: str
    """Of what is scored, in messages."""
    keep: Keep
    """Is handed each text's row."""
    tell: Tell
    batch_size: int = 16
    beam_size: int | None = None
    seed: int = 0
    """Of the intervals and of the shuffled images."""

    @property
    def options(self) -> dict[str, Any]:
        """For `caption_rows` and `answer_rows`."""
        return {"prog": self.prog, "batch_size": self.batch_size, "beam_size": self.beam_size}


def score_candidates(
    rows: Rows,
    tasks: Sequence[EvaluationTask],
    *,
    source: str,
    references: str,
    tell: Tell,
    seed: int = 0,
) -> dict[str, Any]:
    """The scores of captions or answers from `source`; DataError where they fit no task."""
    from captioner.evaluation.candidate_files import are_answers
    from captioner.evaluation.candidates import match_answers, match_captions

    asks = are_answers(rows) if rows else tasks[0].has_questions
    task = next((task for task in tasks if task.has_questions == asks), None)
    if task is None:
        theirs, ours = ("answers", "captions") if asks else ("captions", "answers")
        hint = "; --questions makes questions of them" if asks else ""
        raise DataError(f"{source}: holds {theirs}, {references} {ours}{hint}")
    if not asks:
        return score_image_captions(
            match_captions(rows, task.rows, source=source), task.rows, seed=seed
        )
    answers = match_answers(rows, task.rows, source=source)
    scored = [r for r in task.rows if r.references]
    if not scored:
        raise DataError(f"{references}: none of its questions has an answer to score by")
    _tell_unscored(task, tell)
    controls, missing = answer_majority_baseline(scored, task.train)
    return build_score_table(
        scored, {"answers": _only(scored, answers)} | controls, missing=missing
    )


def score_image_captions(
    captions: Mapping[str, str], rows: Sequence[Example], *, seed: int = 0
) -> dict[str, Any]:
    """Return the scores of captions by image id, with 95 % intervals, counts and warnings."""
    from captioner.metrics import caption_statistics

    texts = {r.image_id: r.references for r in rows}
    statistics = caption_statistics(captions, texts).intervals(seed=seed)
    scores: dict[str, Any] = {name: value.score for name, value in statistics.items()}
    scores["intervals"] = {name: [value.low, value.high] for name, value in statistics.items()}
    scores |= {"images": len(texts), "references": sum(map(len, texts.values()))}
    warnings = few_images_warnings(len(texts))
    return scores | ({"warnings": warnings} if warnings else {})


def few_images_warnings(images: int) -> list[str]:
    """Return what to know of CIDEr-D if there are fewer than `metrics.FEW_IMAGES` images."""
    from captioner.metrics import FEW_IMAGES

    weights = "n-grams are weighted by log(images / images whose references contain them)"
    if images == 1:
        return [f"CIDEr-D is 0 for a single image, whatever its caption: {weights}, which is 0"]
    if images < FEW_IMAGES:
        return [f"CIDEr-D says little about {images} images: {weights}, which takes many images"]
    return []


def compare_captions(
    sides: Sequence[Mapping[str, str]], rows: Sequence[Example], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Of each metric A's score, B's, their difference, its 95 % interval and p."""
    from captioner.metrics import caption_statistics

    references = {r.image_id: r.references for r in rows}
    one, other = (
        caption_statistics({name: side[name] for name in references}, references) for side in sides
    )
    a, b = one.corpus(), other.corpus()
    differences = one.compare(other, seed=seed)
    return {name: {"A": a[name], "B": b[name]} | d._asdict() for name, d in differences.items()}


def caption_task(
    captioner: Captioner, task: EvaluationTask, options: PredictionOptions
) -> dict[str, str]:
    """Captions by image id, without images that cannot be read; DataError if all are such."""
    from captioner.evaluation.predictions import caption_rows

    found = caption_rows(captioner, task.rows, keep=options.keep, **options.options)
    if not found:
        raise DataError(f"{options.name}: none of its {len(task.rows)} images can be read")
    if len(found) < len(task.rows):
        options.tell(f"scored without {len(task.rows) - len(found)} images that cannot be read")
    return found


def answer_task(
    captioner: Captioner, task: EvaluationTask, options: PredictionOptions
) -> tuple[dict[str, str], dict[str, float]]:
    """Answers, empty where there is an error, and the confidences of the others, by question id."""
    from captioner.evaluation.predictions import answer_rows, texts

    found = answer_rows(captioner, task.rows, keep=options.keep, **options.options)
    sure = {name: result.confidence for name, result in found.items() if result.error is None}
    return texts(found), sure


def score_question_answers(
    captioner: Captioner,
    task: EvaluationTask,
    answers: Mapping[str, str],
    sure: Mapping[str, float],
    options: PredictionOptions,
    *,
    blind: Captioner | None = None,
) -> dict[str, Any]:
    """The scores of `answer_task`'s answers, with the controls and the calibration.

    DataError where none of the questions could be answered.
    """
    from captioner.evaluation.predictions import answer_rows, texts

    if not sure:
        raise DataError(f"{options.name}: none of its {len(task.rows)} questions can be answered")
    if left_out := len(task.rows) - len(sure):
        options.tell(f"scored without {left_out} questions that cannot be answered")
    _tell_unscored(task, options.tell)
    rows = [r for r in task.rows if r.references and r.question_id in sure]
    if not rows:
        return {"questions": 0}
    again = partial(answer_rows, keep=lambda row: None, **options.options)
    controls, missing = measure(
        rows,
        task.train,
        ask=lambda moved: texts(again(captioner, moved, what="shuffled")),
        ask_blind=blind and (lambda same: texts(again(blind, same, what="blind"))),
        seed=options.seed,
    )
    own = _only(rows, answers)
    table = build_score_table(rows, {"model": own} | controls, missing=missing)
    table["calibration"] = calibration(rows, own, sure)
    return table


def _only(rows: Sequence[Example], answers: Mapping[str, str]) -> dict[str, str]:
    """The answers to these rows."""
    return {r.question_id: answers[r.question_id] for r in rows}


def _tell_unscored(task: EvaluationTask, tell: Tell) -> None:
    """Say how many questions have no answers to score by."""
    count = sum(not r.references for r in task.rows)
    if count:
        tell(f"{count} questions have no answers to score by, and are left out of the scores")
