"""The fields of the native routes `/v1/caption`, `/v1/vqa` and `/v1/score`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, get_type_hints

from pydantic import BaseModel, Field, create_model, model_validator

from captioner.config import DecodingConfig
from captioner.serve.routes.fields import Fields, unusable

MOST_CAPTIONS = 10
MOST_BEAMS = 16
MOST_TEXTS = 64
MOST_WORDS = 8
LONGEST = 10_000
"""Characters of any text; the model reads far shorter questions."""
COLDEST = 1e-4
"""The lowest temperature; divided by a much smaller one, numbers overflow."""

DECODING = tuple(field.name for field in fields(DecodingConfig))
LISTS = frozenset({"must_include", "banned", "answers", "texts"})
"""Fields that a form or a query string may hold several times."""

_BOUNDS: dict[str, dict[str, Any]] = {
    "beam_size": {"ge": 1, "le": MOST_BEAMS},
    "groups": {"ge": 1, "le": MOST_BEAMS},
    "must_include": {"max_length": MOST_WORDS},
    "banned": {"max_length": MOST_TEXTS},
    "prefix": {"max_length": 200},
    "no_repeat_ngram": {"ge": 0, "le": 100},
    "seed": {"ge": 0, "le": 2**63 - 1},
    "temperature": {"ge": COLDEST},
    "top_k": {"ge": 0, "le": 2**31 - 1},
}
_CAPTION, _VQA, _SCORE = (f"/v1/{name}" for name in ("caption", "vqa", "score"))
_ASK = f"to ask a question, use {_VQA}"
_ANSWERS = f"it is for answers to a question; use {_VQA}"
_CAPTIONS = f"it is for captions; use {_CAPTION}"
_TEXTS = f"to score texts, use {_SCORE}"


class _Native(Fields):
    also_valid: ClassVar[tuple[str, ...]] = ("image",)


class _CaptionFields(_Native):
    elsewhere: ClassVar[Mapping[str, str]] = {
        "question": _ASK,
        "texts": _TEXTS,
        **dict.fromkeys(("answers", "num_answers", "min_confidence"), _ANSWERS),
    }

    @model_validator(mode="after")
    def _check_combination(self) -> _CaptionFields:
        if self.stream:
            # A stream writes one text, word by word; these belong to a search among several.
            _reject_effects(
                self,
                "cannot be applied to a stream",
                num_captions=1,
                beam_size=1,
                groups=1,
                diversity=0,
                length_penalty=1,
                length_form="average",
            )
        elif self.method == "sample":
            why = "has no effect on method=sample"
            _reject_effects(self, why, length_penalty=1, length_form="average")
        return self


def _caption_request() -> type[_CaptionFields]:
    """Return the model with a field for each decoding setting, all unset."""
    hints = get_type_hints(DecodingConfig)
    settings: dict[str, Any] = {
        name: (hints[name] | None, Field(None, **_BOUNDS.get(name, {}))) for name in DECODING
    }
    settings["num_captions"] = (int, Field(1, ge=1, le=MOST_CAPTIONS))
    settings["stream"] = (bool, Field(False, description="Server-sent events, word after word"))
    return create_model("CaptionRequest", __base__=_CaptionFields, **settings)


CaptionRequest = _caption_request()


class VqaRequest(_Native):
    """A question, and how it is answered."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "texts": _TEXTS,
        **dict.fromkeys(set(DECODING) - {"beam_size"} | {"num_captions"}, _CAPTIONS),
    }
    question: str = Field(max_length=LONGEST)
    answers: list[str] | None = Field(
        None, min_length=1, max_length=1000, description="The only answers that may come"
    )
    num_answers: int = Field(
        1, ge=1, le=MOST_CAPTIONS, description="The most answers to return, likeliest first"
    )
    min_confidence: float = Field(
        0.0, ge=0, le=1, description="Below it, the answer is the word unsure"
    )
    beam_size: int | None = Field(None, ge=1, le=MOST_BEAMS)
    stream: bool = Field(False, description="Server-sent events, word after word")

    @model_validator(mode="after")
    def _check_combination(self) -> VqaRequest:
        if self.stream:
            why = "cannot be applied to a stream"
            _reject_effects(self, why, answers=None, num_answers=1, min_confidence=0, beam_size=1)
        if self.beam_size is not None:
            if self.answers is not None:
                raise unusable("beam_size", "has no effect with answers, which are all searched")
            if self.num_answers > self.beam_size:
                raise unusable(
                    "beam_size",
                    f"{self.beam_size} beams cannot find num_answers={self.num_answers}; send as"
                    " many beams as answers, or leave beam_size out",
                )
        return self


class ScoreRequest(_Native):
    """Texts to be ranked."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys({*DECODING, "num_captions", "stream"}, _CAPTIONS),
        **dict.fromkeys(("answers", "num_answers", "min_confidence"), _ANSWERS),
    }
    texts: list[str] = Field(min_length=1, max_length=MOST_TEXTS)
    question: str | None = Field(None, max_length=LONGEST)


def caption_options(asked: BaseModel) -> dict[str, Any]:
    """Return the decoding settings of a request, as `Captioner.caption` takes them."""
    options = {name: getattr(asked, name) for name in DECODING}
    return {name: value for name, value in options.items() if value is not None}


def _reject_effects(asked: BaseModel, why: str, **no_effect: Any) -> None:
    """Raise Refusal for the first field that is set to another value than the one given."""
    for name, neutral in no_effect.items():
        value = getattr(asked, name)
        if value is not None and value != neutral:
            raise unusable(name, f"{why}; leave it out")
