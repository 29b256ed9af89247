"""Coefficients of the logistic models that compute calibrated confidences.

A confidence is 1 / (1 + exp(-z)), where z is `intercept` plus the sum of coefficients times
features. `captioner.predict.confidence` computes the features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.errors import ConfigError


@dataclass(frozen=True)
class CaptionConfidence:
    """Coefficients for the probability that a caption is acceptable."""

    intercept: float = 0.0
    score: float = 0.0
    """Mean log-probability per token."""


@dataclass(frozen=True)
class AnswerConfidence:
    """Coefficients for the probability that the most likely answer is correct."""

    intercept: float = 0.0
    log_odds: float = 0.0
    """log(p / (1 - p)) of the probability p that the model assigns to the answer."""
    words: dict[str, float] = field(default_factory=dict)
    """Coefficients of words of the question. They distinguish kinds of questions that are answered
    with different accuracy, such as "how many" and "is there"."""

    def __post_init__(self) -> None:
        for word, value in self.words.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"confidence.answers.words.{word}={value!r}: expected a number")


@dataclass(frozen=True)
class ConfidenceConfig:
    """The calibration of confidences, fitted on the held-out rows of the data sets.

    Without it, the confidence of a caption is the geometric mean of the probabilities of its
    tokens, and that of an answer is its probability under the model.
    """

    captions: CaptionConfidence | None = None
    """For captions."""
    answers: AnswerConfidence | None = None
    """For answers, outside closed sets."""
