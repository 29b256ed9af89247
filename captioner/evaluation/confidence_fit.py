"""Fit the coefficients of confidences on held-out rows, and measure their calibration.

The rows are divided into two halves by image. Each half is evaluated with the coefficients that
were fitted on the other half (cross-fitting with two folds); the stored coefficients are fitted on
both.

Shapes: N rows.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.checkpoint import set_confidence
from captioner.config import AnswerConfidence, CaptionConfidence, ConfidenceConfig
from captioner.errors import DataError
from captioner.evaluation.predictions import PredictionOptions, predict_answers, predict_captions
from captioner.evaluation.tables import (
    ERROR,
    describe_calibration,
    score_acceptability,
    score_correctness,
)
from captioner.metrics import fit_logistic
from captioner.predict.confidence import (
    answer_confidence,
    caption_confidence,
    log_odds,
    question_words,
)

if TYPE_CHECKING:
    from captioner.evaluation.tasks import EvaluationTask
    from captioner.predict import Captioner

MOST_ROWS = 2000
"""Maximum number of rows of each task; with more, the coefficients hardly change."""
FEWEST_ROWS = 25
"""Minimum number of captions, or of answers, to fit coefficients."""
WORD_SHARE, MOST_WORDS = 0.1, 40
"""Words in this share of the questions of a task are features, but only the most frequent ones."""
RIDGE = 3.0
"""L2 penalty of `fit_logistic`."""


@dataclass(frozen=True)
class Outcome:
    """A caption or an answer of the uncalibrated model, and whether it is right."""

    task: str
    image: str
    score: float
    """The score of a caption, or the probability of an answer."""
    correct: float
    """From 0 to 1."""
    question: str = ""
    """Empty for a caption."""


def calibrate_checkpoint(
    folder: Path, captioner: Captioner, tasks: Sequence[EvaluationTask], options: PredictionOptions
) -> dict[str, dict[str, Any]]:
    """Fit confidences on held-out tasks, and store their coefficients in a checkpoint.

    Args:
        folder: The checkpoint.
        captioner: Its captioner.
        tasks: Rows that were not used for training.
        options: Options for the results.

    Returns:
        The figures of `measure_calibrations`, which are stored in `metrics.json`.

    Raises:
        DataError: There are too few captions and answers.
    """
    is_enough = sum(len(task.rows) for task in tasks) >= FEWEST_ROWS  # otherwise skip the search
    outcomes = collect_outcomes(captioner, tasks, options) if is_enough else []
    confidence = fit_confidences(outcomes)
    if confidence == ConfidenceConfig():
        raise DataError(
            f"too few captions or answers to fit confidences: expected at least {FEWEST_ROWS} that"
            " can be scored"
        )
    figures = measure_calibrations(outcomes)
    set_confidence(folder, confidence, figures)
    return figures


def collect_outcomes(
    captioner: Captioner, tasks: Iterable[EvaluationTask], options: PredictionOptions
) -> list[Outcome]:
    """Caption images and answer questions, without the calibration of the captioner.

    At most `MOST_ROWS` rows of each task are drawn. Rows without a result or without references are
    left out, and so are tasks of captions in which no image has two references.
    """
    plain = copy.copy(captioner)
    plain.config = replace(captioner.config, confidence=ConfidenceConfig())
    outcomes: list[Outcome] = []
    for task in tasks:
        rows = [row for row in task.rows if row.references]
        rows = random.Random(f"calibration {task.name}").sample(rows, min(len(rows), MOST_ROWS))
        task = replace(task, rows=rows)
        if rows and task.has_questions:
            outcomes += _answer_outcomes(plain, task, options)
        elif any(len(row.references) > 1 for row in rows):
            outcomes += _caption_outcomes(plain, task, options)
    return outcomes


def fit_confidences(outcomes: Sequence[Outcome]) -> ConfidenceConfig:
    """Return the coefficients for captions and answers; None where there are too few."""
    captions = [outcome for outcome in outcomes if not outcome.question]
    answers = [outcome for outcome in outcomes if outcome.question]
    return ConfidenceConfig(
        _fit_captions(captions) if len(captions) >= FEWEST_ROWS else None,
        _fit_answers(answers) if len(answers) >= FEWEST_ROWS else None,
    )


def cross_fit(outcomes: Sequence[Outcome]) -> list[float]:
    """Return the confidences of outcomes, each fitted on the half without its image."""
    halves = [_half_of(outcome.image) for outcome in outcomes]
    fitted = [
        fit_confidences([o for o, half in zip(outcomes, halves, strict=True) if half != number])
        for number in (0, 1)
    ]
    pairs = zip(outcomes, halves, strict=True)
    return [confidence_of(fitted[half], outcome) for outcome, half in pairs]


def confidence_of(config: ConfidenceConfig, outcome: Outcome) -> float:
    """Return the confidence of a caption or an answer."""
    if not outcome.question:
        return caption_confidence(config.captions, outcome.score)
    if config.answers is None:
        return outcome.score
    return answer_confidence(config.answers, outcome.score, outcome.question)


def measure_calibrations(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return the calibration of each task after cross-fitting, and its error before."""
    before = [confidence_of(ConfidenceConfig(), outcome) for outcome in outcomes]
    after = cross_fit(outcomes)
    figures = {}
    for task in dict.fromkeys(outcome.task for outcome in outcomes):
        places = [i for i, outcome in enumerate(outcomes) if outcome.task == task]
        correct = [outcomes[i].correct for i in places]
        old, new = (
            describe_calibration([values[i] for i in places], correct) for values in (before, after)
        )
        figures[task] = {"rows": len(places), "error before": old[ERROR]} | new
    return figures


def _caption_outcomes(
    captioner: Captioner, task: EvaluationTask, options: PredictionOptions
) -> list[Outcome]:
    results = predict_captions(captioner, task.rows, options)
    images = {row.image_id: row.image for row in task.rows}
    return [
        Outcome(task.name, images[name], results[name].best.score, correct)
        for name, correct in score_acceptability(results, task.rows).items()
    ]


def _answer_outcomes(
    captioner: Captioner, task: EvaluationTask, options: PredictionOptions
) -> list[Outcome]:
    results = predict_answers(captioner, task.rows, options)
    rows = [row for row in task.rows if results[row.question_id].error is None]
    answered = [results[row.question_id] for row in rows]
    correct = score_correctness(rows, [answers.text for answers in answered])
    return [
        Outcome(task.name, row.image, answers.confidence, value, row.question)
        for row, answers, value in zip(rows, answered, correct, strict=True)
    ]


def _fit_captions(outcomes: Sequence[Outcome]) -> CaptionConfidence:
    features = np.array([[outcome.score] for outcome in outcomes])  # (N, 1)
    correct = [outcome.correct for outcome in outcomes]
    beta = fit_logistic(features, correct, weights=np.ones(len(correct)), ridge=RIDGE)
    return CaptionConfidence(*_round(beta))


def _fit_answers(outcomes: Sequence[Outcome]) -> AnswerConfidence:
    """Return coefficients in whose fit all tasks have the same weight."""
    asked = [question_words(outcome.question) for outcome in outcomes]
    counts = Counter(outcome.task for outcome in outcomes)
    words = _choose_words(outcomes, asked, counts)
    features = np.array(
        [
            [log_odds(outcome.score), *(word in present for word in words)]
            for outcome, present in zip(outcomes, asked, strict=True)
        ],
        dtype=np.float64,
    )  # (N, 1 + words)
    share = len(outcomes) / len(counts)
    weights = np.array([share / counts[outcome.task] for outcome in outcomes])
    correct = [outcome.correct for outcome in outcomes]
    beta = _round(fit_logistic(features, correct, weights=weights, ridge=RIDGE))
    return AnswerConfidence(beta[0], beta[1], dict(zip(words, beta[2:], strict=True)))


def _choose_words(
    outcomes: Sequence[Outcome], asked: Sequence[Sequence[str]], counts: Counter[str]
) -> list[str]:
    """Return the words that are frequent in the questions of a task, most frequent first."""
    shares: dict[str, float] = {}
    for task, total in counts.items():
        pairs = zip(outcomes, asked, strict=True)
        within = Counter(word for o, words in pairs if o.task == task for word in words)
        for word, count in within.items():
            shares[word] = max(shares.get(word, 0.0), count / total)
    frequent = [word for word, share in shares.items() if share >= WORD_SHARE]
    return sorted(frequent, key=lambda word: (-shares[word], word))[:MOST_WORDS]


def _half_of(image: str) -> int:
    """Return 0 or 1 by the file name of an image, so that all tasks are divided alike."""
    return hashlib.sha256(PurePath(image).name.encode("utf-8", "surrogatepass")).digest()[0] % 2


def _round(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
