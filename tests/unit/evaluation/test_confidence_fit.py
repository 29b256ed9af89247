"""Fitting of confidences: known coefficients, cross-fitting, and the files of a checkpoint."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from tiny import COLOURS, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.config import ConfidenceConfig, load_config
from captioner.data import Example
from captioner.errors import DataError
from captioner.evaluation import confidence_fit
from captioner.evaluation.confidence_fit import Outcome, cross_fit, fit_confidences
from captioner.evaluation.predictions import PredictionOptions
from captioner.evaluation.tables import format_figures
from captioner.evaluation.tasks import EvaluationTask
from captioner.files import find_damage
from captioner.metrics import expected_calibration_error

OPTIONS = PredictionOptions("data", write_row=lambda _: None, notify=lambda _: None)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def draw_outcomes(count: int) -> list[Outcome]:
    """Return captions of known confidence, and answers of a good task and a bad one."""
    rng = random.Random(3)
    outcomes = []
    for i in range(count):
        score, p = -rng.random(), rng.uniform(0.3, 0.95)
        good = rng.random() < sigmoid(2 + 4 * score)
        outcomes.append(Outcome("captions", f"{i}.jpg", score, good))
        odds = math.log(p / (1 - p))
        color = rng.random() < sigmoid(odds + 1)
        outcomes.append(Outcome("colors", f"{i}.jpg", p, color, f"what color is thing {i}?"))
        count_right = rng.random() < sigmoid(odds - 2)
        outcomes.append(Outcome("counts", f"c{i}.jpg", p, count_right, f"How many are {i}?"))
    return outcomes


def test_known_coefficients_are_recovered() -> None:
    fitted = fit_confidences(draw_outcomes(4000))
    assert fitted.captions.intercept == pytest.approx(2, abs=0.2)
    assert fitted.captions.score == pytest.approx(4, abs=0.3)
    answers = fitted.answers
    assert answers.log_odds == pytest.approx(1, abs=0.1)
    assert set(answers.words) == {"what", "color", "is", "thing", "how", "many", "are"}
    for question, shift in (("what color is thing", 1), ("how many are", -2)):
        z = answers.intercept + sum(answers.words[word] for word in question.split())
        assert z == pytest.approx(shift, abs=0.2)


def test_cross_fitting_calibrates_each_task() -> None:
    outcomes = draw_outcomes(4000)
    figures = confidence_fit.measure_calibrations(outcomes)
    assert set(figures) == {"captions", "colors", "counts"}
    for row in figures.values():
        assert row["rows"] == 4000
        assert row["expected calibration error"] < 0.04 < row["error before"]
        assert row["area under the ROC curve"] > 0.6
    confidences = cross_fit(outcomes)
    chosen = [i for i, outcome in enumerate(outcomes) if outcome.task == "counts"]
    error = expected_calibration_error(
        [confidences[i] for i in chosen], [outcomes[i].correct for i in chosen]
    )
    assert figures["counts"]["expected calibration error"] == pytest.approx(error)
    *_, last = format_figures(figures)
    assert last.split()[:2] == ["counts", "4000"]


def test_a_row_is_not_evaluated_by_a_fit_that_contains_it() -> None:
    outcomes = draw_outcomes(60)
    changed = [
        Outcome(o.task, o.image, o.score, 1 - o.correct, o.question) if o.image == "7.jpg" else o
        for o in outcomes
    ]
    before, after = cross_fit(outcomes), cross_fit(changed)
    same = [x == y for x, y in zip(before, after, strict=True)]
    assert all(s for s, o in zip(same, outcomes, strict=True) if o.image == "7.jpg")
    assert not all(same)


def test_too_few_rows_are_not_fitted() -> None:
    assert fit_confidences(draw_outcomes(confidence_fit.FEWEST_ROWS)).captions is not None
    few = draw_outcomes(confidence_fit.FEWEST_ROWS // 2 - 1)
    assert fit_confidences(few) == ConfidenceConfig()


@pytest.fixture
def tasks(tmp_path: Path) -> list[EvaluationTask]:
    captions, questions = [], []
    for i in range(30):
        picture(i).save(path := tmp_path / f"{i}.png")
        captions.append(Example(str(path), str(i), ("a red dog", f"a dog {i}"), "val"))
        row = Example(str(path), str(i), (COLOURS[i % 3],), "val", QUESTIONS[0], f"q{i}")
        questions.append(row)
    return [EvaluationTask("captions", captions), EvaluationTask("questions", questions)]


def test_a_checkpoint_is_calibrated(tmp_path, tasks) -> None:
    folder = make_vqa_checkpoint(tmp_path / "best")
    before = load_config(folder / "config.yaml")
    raw = captioner.load(folder, backend="torch")
    figures = confidence_fit.calibrate_checkpoint(folder, raw, tasks, OPTIONS)
    assert list(figures) == ["captions", "questions"]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["calibration"] == figures
    config = load_config(folder / "config.yaml")
    assert config.answers == before.answers
    assert set(config.confidence.answers.words) == set(QUESTIONS[0].rstrip("?").split())
    assert not find_damage(folder)
    model = captioner.load(folder, backend="torch")
    (result,) = model.caption(tasks[0].rows[0].image)
    fitted = config.confidence.captions
    z = fitted.intercept + fitted.score * result.best.score
    assert result.best.confidence == pytest.approx(sigmoid(z))
    # A calibrated checkpoint is calibrated again from the probabilities of the model.
    again = confidence_fit.calibrate_checkpoint(folder, model, tasks, OPTIONS)
    assert again == figures
    assert load_config(folder / "config.yaml") == config


def test_too_few_rows_of_a_checkpoint_are_an_error(tmp_path, tasks) -> None:
    folder = make_vqa_checkpoint(tmp_path / "best")
    few = [EvaluationTask(task.name, task.rows[:5]) for task in tasks]
    model = captioner.load(folder, backend="torch")
    with pytest.raises(DataError, match="expected at least 25 that can be scored"):
        confidence_fit.calibrate_checkpoint(folder, model, few, OPTIONS)
