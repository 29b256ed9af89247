"""Result types of the Python API. This module imports no heavy libraries.

Shapes: R rows and C columns of a grid of image positions.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from captioner.errors import CaptionerError, InputError, QuestionError
from captioner.images.kinds import PHOTOGRAPH, describe_kind

if TYPE_CHECKING:
    import numpy as np

    from captioner.backends.base import Backend, Memory


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of an image's width and height."""

UNSURE = "unsure"
"""The text of a result whose best answer is below `min_confidence`."""


class ImageTraits(NamedTuple):
    """The properties of an image; see the fields of `Result`."""

    low_confidence: bool = False
    kind: str | None = None
    kind_probability: float | None = None
    inputs: tuple[str, ...] = ("image",)


@dataclass(frozen=True)
class Caption:
    """One caption of an image."""

    text: str
    score: float
    """The mean log-probability of its tokens, EOS included."""
    confidence: float
    """The calibrated probability that the caption is acceptable (see `confidence` in the
    configuration). If the checkpoint is not calibrated, the geometric mean of the tokens'
    probabilities."""
    tokens: tuple[int, ...] = field(default=(), repr=False, compare=False)
    """The generated tokens; without EOS at the end, the text reached `max_length`."""


@dataclass(frozen=True)
class Scored:
    """The likelihood of a given text as a caption, or as the answer to a question."""

    text: str
    logprob: float
    """Log probability of the whole text, with EOS; exp(logprob) of an answer is its confidence."""
    score: float
    """`logprob` divided by the number of tokens, EOS included, as `Caption.score`."""


@dataclass(frozen=True)
class Result:
    """The captions of one image, or the error if there are none.

    Those of a search are in the order of its ranking, best first; samples are in the order in which
    they were drawn.
    """

    captions: tuple[Caption, ...] = ()
    error: CaptionerError | None = None
    """The image cannot be read, or no caption satisfies the options."""
    low_confidence: bool = False
    """True if the image is a single color or noise, or the recording silence or noise, so that no
    caption can be correct."""
    kind: str | None = None
    """What the image is: "photograph", "text", "screenshot", "chart", "icon", "drawing", "blank" or
    "rendering" (shaded computer graphics); None if the model does not recognize kinds."""
    kind_probability: float | None = None
    """The probability of `kind`."""
    inputs: tuple[str, ...] = ("image",)
    """What was read: "image", "audio", or both."""

    @property
    def text(self) -> str:
        """The best caption; raises `error` if there is one."""
        return self.best.text

    @property
    def notice(self) -> str:
        """A sentence that warns of an image that is not a photograph; otherwise empty."""
        return _format_notice(self.kind, "caption")

    @property
    def best(self) -> Caption:
        """The best caption with its score; raises `error` if there is one."""
        if self.error is not None:
            raise self.error
        return self.captions[0]


@dataclass(frozen=True)
class Answer:
    """One answer to a question."""

    text: str
    confidence: float
    """The calibrated probability that the answer is correct. In a closed set, or if the checkpoint
    is not calibrated, the probability of the answer under the model."""
    tokens: tuple[int, ...] = field(default=(), repr=False, compare=False)
    """Like `Caption.tokens`, for the most likely spelling of the answer."""


@dataclass(frozen=True)
class Answers:
    """The answers to one question, most likely first, or the error if there are none.

    The properties raise `error` if there is one.
    """

    answers: tuple[Answer, ...] = ()
    error: InputError | QuestionError | None = None
    min_confidence: float = 0.0
    low_confidence: bool = False
    """As `Result.low_confidence`; a property of the image, not of the answers."""
    kind: str | None = None
    """As `Result.kind`."""
    kind_probability: float | None = None
    """The probability of `kind`."""
    inputs: tuple[str, ...] = ("image",)
    """As `Result.inputs`."""

    @property
    def best(self) -> Answer:
        """The most likely answer, regardless of its confidence."""
        if self.error is not None:
            raise self.error
        return self.answers[0]

    @property
    def confidence(self) -> float:
        """The confidence of the most likely answer."""
        return self.best.confidence

    @property
    def unsure(self) -> bool:
        """True if the confidence of the most likely answer is below `min_confidence`."""
        return self.confidence < self.min_confidence

    @property
    def text(self) -> str:
        """The most likely answer, or the word `unsure`."""
        return UNSURE if self.unsure else self.best.text

    @property
    def notice(self) -> str:
        """A sentence that warns of an image that is not a photograph; otherwise empty."""
        return _format_notice(self.kind, "answer")


@dataclass(frozen=True, eq=False)
class Attention:
    """The cross-attention to the image with which a word was generated.

    `captioner.images.heatmap.overlay(image, weights, box)` draws it.
    """

    word: str
    """With its punctuation; all words joined by spaces are the text."""
    weights: np.ndarray
    """(R, C), sums to 1; the mean over the word's tokens and the members of an ensemble."""
    box: Box
    """The part of the image that the model sees: all of it, unless `image.resize` is crop."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An image, encoded by the model of one captioner, for any number of calls."""

    memory: Memory
    backend: Backend | None
    """The backend that encoded it."""
    size: tuple[int, int]
    """Width and height of the image as it was read, possibly at a reduced scale; (0, 0) without an
    image."""
    low_confidence: bool = False
    """As `Result.low_confidence`."""
    kind: str | None = None
    """As `Result.kind`."""
    kind_probability: float | None = None
    """The probability of `kind`."""
    inputs: tuple[str, ...] = ("image",)
    """As `Result.inputs`."""

    @property
    def traits(self) -> ImageTraits:
        """The properties of the image."""
        return ImageTraits(self.low_confidence, self.kind, self.kind_probability, self.inputs)

    def check_backend(self, backend: Backend) -> Encoded:
        """Return itself; raise CaptionerError if another backend has encoded it."""
        if backend is not self.backend:
            raise CaptionerError(
                "an image that another model has encoded; encode it with this captioner"
            )
        return self

    def __copy__(self) -> Encoded:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Encoded:
        return replace(self, memory=copy.deepcopy(self.memory, memo))

    def __getstate__(self) -> dict[str, Any]:
        if self.backend is not None:
            raise CaptionerError(
                "an encoded image cannot be pickled: it can only be used with the captioner in"
                " memory that encoded it; pickle the image and encode it again"
            )
        return self.__dict__


def _format_notice(kind: str | None, text: str) -> str:
    if kind in (None, PHOTOGRAPH):
        return ""
    return f"This looks like {describe_kind(kind)}, not a photograph; the {text} may be wrong."
