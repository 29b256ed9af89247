"""What comes of an image, and of a question about one. Nothing heavy is imported.

Shapes: P memory positions, D width; R rows and C columns of a grid of places.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError, ImageError, QuestionError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from captioner.model.seq2seq import Seq2Seq


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of a picture's width and height."""

UNSURE = "unsure"
"""What is said in the place of an answer of too little confidence."""


@dataclass(frozen=True)
class Caption:
    """One candidate for an image."""

    text: str
    score: float
    """Log-probability over the number of tokens, EOS included: nearer to 0 is surer."""
    tokens: tuple[int, ...] = field(default=(), repr=False, compare=False)
    """The tokens that were written; without EOS at the end, the text reached `max_length`."""

    @property
    def confidence(self) -> float:
        """exp(score): the geometric mean of its tokens' probabilities."""
        return math.exp(min(self.score, 0.0))


@dataclass(frozen=True)
class Scored:
    """How likely a given text is, of an image or as the answer to a question about it."""

    text: str
    logprob: float
    """Of the whole text, its end included; of an answer, exp(logprob) is its confidence."""
    score: float
    """`logprob` over the number of tokens, EOS included, as `Caption.score`."""


@dataclass(frozen=True)
class Result:
    """What came of one image: its captions, best first, or the error that stands in their place."""

    captions: tuple[Caption, ...] = ()
    error: CaptionerError | None = None
    """Of the image, which cannot be read, or of the options, which leave nothing to say of it."""
    low_confidence: bool = False
    """Whether the image shows nothing that could be told: a single colour, or noise."""

    @property
    def text(self) -> str:
        """The best caption; raises the image's error where there is none."""
        return self.best.text

    @property
    def best(self) -> Caption:
        """The best caption with its score; raises the image's error where there is none."""
        if self.error is not None:
            raise self.error
        return self.captions[0]


@dataclass(frozen=True)
class Answer:
    """One answer to a question."""

    text: str
    confidence: float
    """Probability of the whole answer, as the checkpoint is calibrated, in (0, 1]."""
    tokens: tuple[int, ...] = field(default=(), repr=False, compare=False)
    """As `Caption.tokens`, of the likeliest way to write the answer."""


@dataclass(frozen=True)
class Answers:
    """What came of one question: answers, likeliest first, or the error in their place.

    The properties raise that error where there is one.
    """

    answers: tuple[Answer, ...] = ()
    error: ImageError | QuestionError | None = None
    min_confidence: float = 0.0
    low_confidence: bool = False
    """As in `Result`; of the image, not of the answers."""

    @property
    def best(self) -> Answer:
        """The likeliest answer, however unlikely it is."""
        if self.error is not None:
            raise self.error
        return self.answers[0]

    @property
    def confidence(self) -> float:
        """That of the likeliest answer."""
        return self.best.confidence

    @property
    def unsure(self) -> bool:
        """Whether even the likeliest answer is below the confidence that was asked for."""
        return self.confidence < self.min_confidence

    @property
    def text(self) -> str:
        """The likeliest answer, or the word `unsure`."""
        return UNSURE if self.unsure else self.best.text


@dataclass(frozen=True, eq=False)
class Attention:
    """Where the model looked when it wrote a word; of an ensemble, the mean of its members.

    `captioner.images.heatmap.overlay(image, weights, box)` shows it.
    """

    word: str
    """With its punctuation; all words joined by spaces are the text."""
    weights: np.ndarray
    """(R, C) over the places of the box, which sum to 1; the mean over the word's tokens."""
    box: Box
    """The part of the picture that the model saw: all of it, but where `image.resize` is crop."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An image as the models of one captioner see it, for any number of questions."""

    memories: tuple[Tensor, ...]
    """(1, P, D) of each model."""
    models: Sequence[Seq2Seq]
    size: tuple[int, int]
    """Width and height of the image as it was read, which may have been at a reduced scale."""
    low_confidence: bool = False
    """As in `Result`."""

    def of(self, models: Sequence[Seq2Seq]) -> Encoded:
        """Itself, for the models that made it; raises CaptionerError."""
        if models is not self.models:
            raise CaptionerError("an image that another model has encoded; encode it with this one")
        return self

    def __copy__(self) -> Encoded:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Encoded:
        return replace(self, memories=copy.deepcopy(self.memories, memo))

    def __getstate__(self) -> dict[str, Any]:
        if self.models:
            raise CaptionerError(
                "an encoded image cannot be pickled: it can only be used with the captioner in"
                " memory that encoded it; pickle the image and encode it again"
            )
        return self.__dict__
