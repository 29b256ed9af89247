"""Calibrated confidences: logistic models on the features of a caption or an answer.

The coefficients are in the section `confidence` of a checkpoint's configuration. The features
depend on a text, its log-probability and the question only, so that every backend has them, and
neither the number of results nor the beam changes them.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

from captioner.config import AnswerConfidence, CaptionConfidence
from captioner.predict.results import Answer, Answers

SMALLEST = 1e-6
"""The log-odds of a probability are those of one between this value and 1 minus it."""

Features = dict[str, float]
"""The values of features, by the names of their coefficients."""


def answer_features(answer: Answer, question: str) -> Features:
    """Return the features of an answer, whose confidence is the model's probability."""
    p = min(max(answer.confidence, SMALLEST), 1 - SMALLEST)
    return {"log_odds": math.log(p / (1 - p))}


def apply_logistic(model: CaptionConfidence | AnswerConfidence, features: Features) -> float:
    """Return the probability that a logistic model gives for features."""
    names = [setting.name for setting in fields(model) if setting.name != "intercept"]
    z = model.intercept + sum(getattr(model, name) * features[name] for name in names)
    # With the negative magnitude, exp cannot overflow.
    small = math.exp(-abs(z)) / (1 + math.exp(-abs(z)))
    return small if z < 0 else 1 - small


def caption_confidence(model: CaptionConfidence | None, score: float) -> float:
    """Return the calibrated probability that a caption is acceptable.

    Without a `model`, return the geometric mean of the probabilities of its tokens. `score` is the
    mean log-probability per token.
    """
    return apply_logistic(model, {"score": score}) if model else math.exp(min(score, 0.0))


def calibrate_answers(model: AnswerConfidence, answers: Answers, question: str) -> Answers:
    """Return the answers to a question with calibrated confidences.

    The model is that of the most likely answer. The probabilities of the others are reduced by a
    common factor, which keeps their order and the sum of all at 1 or less.
    """
    best, *others = answers.answers
    p, confidence = best.confidence, apply_logistic(model, answer_features(best, question))
    factor = confidence / p if confidence < p else (1 - confidence) / max(1 - p, SMALLEST)
    rest = [replace(a, confidence=a.confidence * min(factor, 1.0)) for a in others]
    return replace(answers, answers=(replace(best, confidence=confidence), *rest))
