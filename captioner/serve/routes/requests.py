"""Requests to fields and image bytes: JSON, forms, and the bare bytes of an image.

Raises Refusal for a body that cannot be read, and for whatever would have to be ignored: a name
that comes twice, a second file, query parameters beside a body that has fields of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from captioner.serve.fetch import Fetcher
from captioner.serve.http_errors import Refusal
from captioner.serve.routes.fields import Model, check, reject_unknown, shown, unusable
from captioner.serve.routes.image_field import image_bytes
from captioner.serve.routes.native_fields import LISTS

_MOST_FIELDS = 128
"""Of a form."""


async def read(request: Request, model: type[Model], fetcher: Fetcher) -> tuple[bytes, Model]:
    """Return the image and the checked fields of a request in any of the three forms."""
    kind = media_type(request)
    if kind == "application/json":
        values = await read_json(request)
        image = values.pop("image", None)
        asked = check(model, values)
        return await image_bytes(image, fetcher), asked
    if kind == "multipart/form-data":
        reject_query(request)
        return await _form(request, model)
    data, pairs = await read_bytes(request), request.query_params.multi_items()
    if any(name == "image" for name, _ in pairs):
        raise unusable("image", "the body is the image; leave it out of the query string")
    return data, check(model, _collect(pairs))


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request that has no query parameters."""
    if media_type(request) != "application/json":
        raise Refusal(415, "bad_request", "expected a body of application/json")
    reject_query(request)
    _check_encoding(request)
    try:
        values = json.loads(await request.body(), object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise Refusal(400, "bad_request", "the body is not valid JSON") from None
    if not isinstance(values, dict):
        raise Refusal(422, "bad_request", "the body is not a JSON object")
    return values


async def read_bytes(request: Request) -> bytes:
    """Return a body that is an image; raises Refusal where it is empty or compressed."""
    _check_encoding(request)
    data = await request.body()
    if not data:
        kind = media_type(request)
        raise Refusal(415, "not_an_image", f"an empty body of {kind or 'no type'}")
    return data


def reject_query(request: Request) -> None:
    """Raise Refusal for query parameters, which are only read beside the bare bytes of an image."""
    for name in request.query_params:
        raise unusable(shown(name), "query parameters are not read here; put options into the body")


def media_type(request: Request) -> str:
    """Return the type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _form(request: Request, model: type[Model]) -> tuple[bytes, Model]:
    _check_encoding(request)
    try:
        async with request.form(max_files=1, max_fields=_MOST_FIELDS) as form:
            items = form.multi_items()
            files = [(name, value) for name, value in items if isinstance(value, UploadFile)]
            texts = [(name, value) for name, value in items if isinstance(value, str)]
            for name, _ in files:
                reject_unknown([name], ["image"])
            if not files:
                raise Refusal(422, "bad_request", "image: expected a file in the form")
            if any(name == "image" for name, _ in texts):
                raise unusable("image", "given more than once; send one file")
            return await files[0][1].read(), check(model, _collect(texts))
    except HTTPException as error:
        raise Refusal(400, "bad_request", str(error.detail)) from None


def _collect(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return fields by name; only those of lists may be repeated."""
    values: dict[str, Any] = {}
    for name, value in items:
        if name in LISTS:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise unusable(shown(name), "given more than once; send it once")
        else:
            values[name] = value
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, in which `json` alone would keep the last of equal names."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise unusable(shown(name), "given more than once; send it once")
        values[name] = value
    return values


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refusal(
            415, "bad_request", f"Content-Encoding: {shown(encoding)} is not read; send it as it is"
        )
