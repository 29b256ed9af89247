"""Calibrated confidences: logistic models of a caption or an answer.

The coefficients are in the section `confidence` of a checkpoint's configuration. The features
depend on the log-probability of the text and on the question only, so that every backend has them,
and neither the number of results nor the other hypotheses of a beam change them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from captioner.config import AnswerConfidence, CaptionConfidence
from captioner.predict.results import Answers
from captioner.text import normalize_question

SMALLEST = 1e-6
"""Smallest probability, and distance from 1, of which log-odds are computed."""


def logistic(z: float) -> float:
    """Return 1 / (1 + exp(-z)), without overflow."""
    small = math.exp(-abs(z)) / (1 + math.exp(-abs(z)))
    return small if z < 0 else 1 - small


def caption_confidence(model: CaptionConfidence | None, score: float) -> float:
    """Return the calibrated probability that a caption is acceptable.

    Without a `model`, return the geometric mean of the probabilities of its tokens. `score` is the
    mean log-probability per token.
    """
    if model is None:
        return math.exp(min(score, 0.0))
    return logistic(model.intercept + model.score * score)


def answer_confidence(model: AnswerConfidence, probability: float, question: str) -> float:
    """Return the calibrated probability that the most likely answer is correct.

    `probability` is that of the answer under the model.
    """
    z = model.intercept + model.log_odds * log_odds(probability)
    return logistic(z + sum(model.words.get(word, 0.0) for word in question_words(question)))


def log_odds(probability: float) -> float:
    """Return log(p / (1 - p)) of a probability p, limited to `SMALLEST` and 1 - `SMALLEST`."""
    p = min(max(probability, SMALLEST), 1 - SMALLEST)
    return math.log(p / (1 - p))


def question_words(question: str) -> list[str]:
    """Return the distinct words of a question, in lower case and in order."""
    return list(dict.fromkeys(normalize_question(question).split()))


def calibrate_answers(model: AnswerConfidence, answers: Answers, question: str) -> Answers:
    """Return the answers to a question with calibrated confidences.

    The logistic model gives the confidence of the most likely answer. The probabilities of the
    others are multiplied by a common factor, so that their order stays and all sum to 1 at most.
    """
    best, *others = answers.answers
    p, confidence = best.confidence, answer_confidence(model, best.confidence, question)
    factor = confidence / p if confidence < p else (1 - confidence) / max(1 - p, SMALLEST)
    rest = [replace(a, confidence=min(a.confidence * factor, confidence)) for a in others]
    return replace(answers, answers=(replace(best, confidence=confidence), *rest))
