"""Requests to fields and image bytes: JSON, forms, and the bare bytes of an image.

Raises Refusal for what cannot be read as what it says it is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from captioner.config import DecodingConfig
from captioner.serve.fetch import Fetcher
from captioner.serve.problems import Refusal

Model = TypeVar("Model", bound=BaseModel)

MOST_CAPTIONS = 10
MOST_BEAMS = 16
MOST_TEXTS = 64
MOST_WORDS = 8
LONGEST = 10_000
"""Characters of any text; a question that long is refused by what it says."""
_FIELDS = 128
"""Of a form."""

Text = Field(max_length=LONGEST)
_BOUNDS: dict[str, dict[str, Any]] = {
    "beam_size": {"ge": 1, "le": MOST_BEAMS},
    "groups": {"ge": 1, "le": MOST_BEAMS},
    "must_include": {"max_length": MOST_WORDS},
    "banned": {"max_length": MOST_TEXTS},
    "prefix": {"max_length": 200},
    "no_repeat_ngram": {"ge": 0, "le": 100},
    "seed": {"ge": 0, "le": 2**63 - 1},
    "top_k": {"ge": 0, "le": 2**31 - 1},
}


class _Base(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


def _caption_request() -> type[BaseModel]:
    """A field for each setting of decoding, all unset."""
    hints = get_type_hints(DecodingConfig)
    found: dict[str, Any] = {
        field.name: (hints[field.name] | None, Field(None, **_BOUNDS.get(field.name, {})))
        for field in fields(DecodingConfig)
    }
    found["num_captions"] = (int, Field(1, ge=1, le=MOST_CAPTIONS))
    found["stream"] = (bool, Field(False, description="Server-sent events, word after word"))
    return create_model("CaptionRequest", __base__=_Base, **found)


CaptionRequest = _caption_request()
DECODING = tuple(field.name for field in fields(DecodingConfig))


class VqaRequest(_Base):
    """A question, and how it is answered."""

    question: str = Text
    answers: list[str] | None = Field(None, min_length=1, max_length=1000)
    num_answers: int = Field(1, ge=1, le=MOST_CAPTIONS)
    min_confidence: float = Field(0.0, ge=0, le=1)
    beam_size: int | None = Field(None, ge=1, le=MOST_BEAMS)
    stream: bool = False


class ScoreRequest(_Base):
    """Texts to be ranked."""

    texts: list[str] = Field(min_length=1, max_length=MOST_TEXTS)
    question: str | None = Field(None, max_length=LONGEST)


async def read(request: Request, model: type[Model], fetcher: Fetcher) -> tuple[bytes, Model]:
    """The image and the checked fields of a request in any of the three forms."""
    kind = media_type(request)
    if kind == "multipart/form-data":
        image, values = await _form(request)
    elif kind == "application/json":
        values = await read_json(request)
        image = await image_bytes(values.get("image"), fetcher)
    else:
        image, values = await request.body(), _listed(request.query_params.multi_items())
        if not image:
            raise Refusal(415, "not_an_image", f"an empty body of {kind or 'no type'}")
    return image, check(model, values)


async def read_json(request: Request) -> dict[str, Any]:
    """The object that the body is."""
    if media_type(request) != "application/json":
        raise Refusal(415, "bad_request", "expected a body of application/json")
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refusal(400, "bad_request", "the body is not valid JSON") from None
    if not isinstance(found, dict):
        raise Refusal(422, "bad_request", "the body is not a JSON object")
    return found


def check(model: type[Model], values: Mapping[str, Any]) -> Model:
    """The fields, checked."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Refusal(422, "bad_request", f"{place}: {first['msg']}") from None


async def image_bytes(value: Any, fetcher: Fetcher) -> bytes:
    """What a field holds: base64, a data URI, or a URL that may be fetched, maybe under `url`."""
    if isinstance(value, dict):
        value = value.get("url")
    if not isinstance(value, str) or not value:
        raise Refusal(422, "bad_request", "image: expected base64, or a data URI")
    if re.match(r"https?:", value, re.IGNORECASE):
        return await fetcher.get(value)
    if value[:5].lower() == "data:":
        head, comma, value = value[5:].partition(",")
        if not comma or not re.fullmatch(
            r"(image/[\w.+-]+|application/octet-stream)?(;[^,;]*)*;base64", head
        ):
            raise Refusal(
                415,
                "not_an_image",
                f"image: a data URI of {head[:60]!r}; expected image/...;base64",
            )
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(422, "bad_image", "image: is not valid base64") from None


async def _form(request: Request) -> tuple[bytes, dict[str, Any]]:
    try:
        async with request.form(max_files=1, max_fields=_FIELDS) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            texts = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
            if not files:
                raise Refusal(422, "bad_request", "image: expected a file in the form")
            return await files[0].read(), _listed(texts)
    except HTTPException as error:
        raise Refusal(400, "bad_request", str(error.detail)) from None


def _listed(items: list[tuple[str, str]]) -> dict[str, Any]:
    """A form's fields; those of lists may recur."""
    found: dict[str, Any] = {}
    for name, value in items:
        if name in ("must_include", "banned", "answers", "texts"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


def media_type(request: Request) -> str:
    """What the body says it is, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
