"""The request fields of the native routes `/v1/caption`, `/v1/vqa` and `/v1/score`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from captioner.config import DecodingConfig
from captioner.config.decoding_options import MAX_TEMPERATURE
from captioner.serve.routes.fields import Fields, field_error
from captioner.serve.routes.request_schema import FILE_FIELDS

MAX_CAPTIONS = 10
MAX_BEAMS = 16
MAX_TEXTS = 64
MAX_PHRASES = 8
"""Maximum number of phrases that a caption must include."""
MAX_TEXT_LENGTH = 10_000
"""Maximum number of characters of a text; the model reads far shorter questions."""
MIN_TEMPERATURE = 1e-4
"""The lowest temperature; logits divided by a much smaller one overflow."""

NumCaptions = Annotated[int, Field(ge=1, le=MAX_CAPTIONS)]
LongText = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
OptionalBeams = Annotated[int | None, Field(ge=1, le=MAX_BEAMS)]
OptionalNgramSize = Annotated[int | None, Field(ge=0, le=100)]
OptionalSeed = Annotated[int | None, Field(ge=0, le=2**63 - 1)]
OptionalTemperature = Annotated[float | None, Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)]
OptionalTopK = Annotated[int | None, Field(ge=0, le=2**31 - 1)]

DECODING_FIELDS = tuple(field.name for field in fields(DecodingConfig))
LIST_FIELDS = frozenset({"must_include", "banned", "answers", "texts"})
"""Fields that a form or a query string may contain several times."""

_CAPTION, _VQA, _SCORE = (f"/v1/{name}" for name in ("caption", "vqa", "score"))
_FOR_QUESTIONS = f"to ask a question, use {_VQA}"
_FOR_ANSWERS = f"it is for answers to a question; use {_VQA}"
_FOR_CAPTIONS = f"it is for captions; use {_CAPTION}"
_FOR_SCORES = f"to score texts, use {_SCORE}"
_STREAM = "Send the text as server-sent events, word by word"
_NEUTRAL_LENGTH = {"length_penalty": 1, "length_form": "average"}


class _NativeFields(Fields):
    also_valid: ClassVar[tuple[str, ...]] = FILE_FIELDS


class CaptionRequest(_NativeFields):
    """Decoding options of a caption; an option that is not set has the checkpoint's default."""

    advice: ClassVar[Mapping[str, str]] = {
        "question": _FOR_QUESTIONS,
        "texts": _FOR_SCORES,
        **dict.fromkeys(("answers", "num_answers", "min_confidence"), _FOR_ANSWERS),
    }
    method: Literal["beam", "sample"] | None = None
    beam_size: OptionalBeams = None
    max_length: int | None = None
    min_length: int | None = None
    length_penalty: float | None = None
    length_form: Literal["average", "gnmt"] | None = None
    groups: OptionalBeams = None
    diversity: float | None = None
    temperature: OptionalTemperature = None
    top_k: OptionalTopK = None
    top_p: float | None = None
    min_p: float | None = None
    seed: OptionalSeed = None
    no_repeat_ngram: OptionalNgramSize = None
    repetition_penalty: float | None = None
    must_include: tuple[str, ...] | None = Field(default=None, max_length=MAX_PHRASES)
    banned: tuple[str, ...] | None = Field(default=None, max_length=MAX_TEXTS)
    prefix: str | None = Field(default=None, max_length=200)
    no_dangling: bool | None = None
    num_captions: NumCaptions = 1
    stream: bool = Field(default=False, description=_STREAM)

    @model_validator(mode="after")
    def _check_combination(self) -> CaptionRequest:
        if self.stream:
            # A stream generates one text, word by word, without a search among several.
            neutral = {"num_captions": 1, "beam_size": 1, "groups": 1, "diversity": 0}
            _reject_effects(self, "cannot be applied to a stream", neutral | _NEUTRAL_LENGTH)
        elif self.method == "sample":
            _reject_effects(self, "has no effect on method=sample", _NEUTRAL_LENGTH)
        return self


class VqaRequest(_NativeFields):
    """A question and the options of its answers."""

    advice: ClassVar[Mapping[str, str]] = {
        "texts": _FOR_SCORES,
        **dict.fromkeys(set(DECODING_FIELDS) - {"beam_size"} | {"num_captions"}, _FOR_CAPTIONS),
    }
    question: LongText
    answers: list[str] | None = Field(default=None, min_length=1, max_length=1000)
    """The only possible answers."""
    num_answers: NumCaptions = 1
    """Maximum number of answers to return, most likely first."""
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    """Below it, the answer is the word unsure."""
    beam_size: OptionalBeams = None
    stream: bool = Field(default=False, description=_STREAM)

    @model_validator(mode="after")
    def _check_combination(self) -> VqaRequest:
        if self.stream:
            neutral = {"answers": None, "num_answers": 1, "min_confidence": 0, "beam_size": 1}
            _reject_effects(self, "cannot be applied to a stream", neutral)
        if self.beam_size is not None:
            if self.answers is not None:
                raise field_error("beam_size", "has no effect with answers, which are all scored")
            if self.num_answers > self.beam_size:
                hint = "send as many beams as answers, or leave beam_size out"
                message = f"{self.beam_size} beams cannot find num_answers={self.num_answers}"
                raise field_error("beam_size", f"{message}; {hint}")
        return self


class ScoreRequest(_NativeFields):
    """Texts to score."""

    advice: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys({*DECODING_FIELDS, "num_captions", "stream"}, _FOR_CAPTIONS),
        **dict.fromkeys(("answers", "num_answers", "min_confidence"), _FOR_ANSWERS),
    }
    texts: list[str] = Field(min_length=1, max_length=MAX_TEXTS)
    question: LongText | None = None


def decoding_options(request: CaptionRequest) -> dict[str, Any]:
    """Return the decoding options that are set, as keyword arguments of `Captioner.caption`.

    Samples have a new seed if the request has none.
    """
    named = {name: getattr(request, name) for name in DECODING_FIELDS}
    options = {name: value for name, value in named.items() if value is not None}
    if request.method == "sample":
        options.setdefault("seed", secrets.randbits(63))
    return options


def _reject_effects(request: BaseModel, reason: str, neutral: Mapping[str, Any]) -> None:
    """Raise RequestError for the first field whose value differs from the one without effect."""
    for name, value in neutral.items():
        if getattr(request, name) not in (None, value):
            raise field_error(name, f"{reason}; leave it out")
