"""Calibrated confidences: logistic models of captions and answers, on both backends."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from backend_pairs import CONFIDENCE, calibrate, make_full_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from tiny import COLOURS, picture
from tiny_vqa import QUESTIONS

import captioner
from captioner.config import AnswerConfidence, load_config
from captioner.errors import ConfigError
from captioner.predict.confidence import (
    answer_confidence,
    calibrate_answers,
    caption_confidence,
    logistic,
)
from captioner.predict.results import Answer, Answers

CAPTIONS, ANSWERS = CONFIDENCE.captions, CONFIDENCE.answers
SHARES = st.floats(1e-9, 1)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose configuration has no section `confidence`, as those of old versions."""
    folder = make_full_checkpoint(tmp_path_factory.mktemp("plain") / "best")
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    section = "confidence:\n  captions: null\n  answers: null\n"
    assert section in text
    path.write_text(text.replace(section, ""), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrate(make_full_checkpoint(tmp_path_factory.mktemp("calibrated") / "best"))


def test_logistic_values_match_manual_results() -> None:
    assert caption_confidence(CAPTIONS, -0.8) == pytest.approx(sigmoid(1.5 - 0.4))
    assert caption_confidence(None, -0.8) == pytest.approx(math.exp(-0.8))
    assert caption_confidence(None, 1e-7) == 1, "rounding may raise a score above 0"
    model = AnswerConfidence(-1.0, 0.5, {"how": 0.25, "is": -2.0, "dogs": 1.0})
    z = -1 + 0.5 * math.log(0.3 / 0.7) + 0.25 + 1
    for question in (" how many DOGS ?", "How many dogs of dogs?"):
        assert answer_confidence(model, 0.3, question) == pytest.approx(sigmoid(z))
    assert answer_confidence(model, 1.0, "what?") == pytest.approx(sigmoid(-1 + 0.5 * 13.8155))


@pytest.mark.parametrize(("z", "expected"), [(1e6, 1), (-1e6, 0), (0, 0.5)])
def test_extreme_values_do_not_overflow(z: float, expected: float) -> None:
    assert logistic(z) == expected


@given(st.lists(SHARES, min_size=1, max_size=6), SHARES, st.floats(-9, 9), st.floats(0, 3))
def test_calibration_keeps_the_order_and_the_sum(weights, rest, intercept, slope) -> None:
    total = sum(weights) + rest
    shares = sorted((weight / total for weight in weights), reverse=True)
    found = Answers(tuple(Answer(str(i), share) for i, share in enumerate(shares)))
    model = AnswerConfidence(intercept=intercept, log_odds=slope)
    answers = calibrate_answers(model, found, "what is it?").answers
    confidences = [answer.confidence for answer in answers]
    assert [a.text for a in answers] == [a.text for a in found.answers]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0 <= c <= 1 for c in confidences)
    assert sum(confidences) <= 1 + 1e-5


def test_calibration_does_not_depend_on_the_number_of_answers() -> None:
    found = Answers((Answer("red", 0.6), Answer("blue", 0.3)))
    alone = dataclasses.replace(found, answers=found.answers[:1])
    both, one = (calibrate_answers(ANSWERS, x, "what color is it?") for x in (found, alone))
    assert both.confidence == one.confidence == pytest.approx(sigmoid(-1 + 0.5 * math.log(1.5)))
    assert both.answers[1].confidence == pytest.approx(0.3 * one.confidence / 0.6)


def test_a_calibrated_checkpoint_changes_confidences_only(plain, calibrated) -> None:
    old, new = (captioner.load(folder, backend="torch") for folder in (plain, calibrated))
    options = {"num_captions": 3, "beam_size": 3}
    (one,), (other,) = (model.caption(picture(0), **options) for model in (old, new))
    assert [(c.text, c.score) for c in one.captions] == [(c.text, c.score) for c in other.captions]
    for before, after in zip(one.captions, other.captions, strict=True):
        assert before.confidence == pytest.approx(math.exp(before.score))
        assert after.confidence == pytest.approx(sigmoid(1.5 + 0.5 * after.score))
    one, other = (model.ask(picture(0), QUESTIONS[0], num_answers=3) for model in (old, new))
    assert [a.text for a in one.answers] == [a.text for a in other.answers]
    odds = math.log(one.confidence / (1 - one.confidence))
    assert other.confidence == pytest.approx(sigmoid(-1 + 0.5 * odds))
    unsure = new.ask(picture(0), QUESTIONS[0], min_confidence=min(1, other.confidence * 1.01))
    assert unsure.unsure


def test_probabilities_of_a_closed_set_are_not_calibrated(plain, calibrated) -> None:
    options = {"answers": COLOURS, "num_answers": len(COLOURS)}
    one, other = (
        captioner.load(folder, backend="torch").ask(picture(0), QUESTIONS[0], **options)
        for folder in (plain, calibrated)
    )
    assert one.answers == other.answers
    assert sum(a.confidence for a in other.answers) == pytest.approx(1)


def test_unknown_coefficient_is_an_error(calibrated) -> None:
    word = "confidence.captions.scores=1"
    with pytest.raises(ConfigError, match=r"nearest is confidence\.captions\.score$"):
        load_config(calibrated / "config.yaml", [word])
    word = "confidence.answers.words.how=many"
    with pytest.raises(ConfigError, match=r"^confidence\.answers\.words\.how='many': expected a"):
        load_config(calibrated / "config.yaml", [word])
    assert load_config(calibrated / "config.yaml").confidence == CONFIDENCE
