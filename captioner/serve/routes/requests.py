"""Read the files and the fields of a request: JSON, a form, or the bytes of one file.

RequestError is raised for a body that cannot be read, and for everything that would otherwise be
ignored: a duplicate name, a further file, or query parameters when the body contains the fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from captioner.serve.fetch import Fetcher
from captioner.serve.http_errors import RequestError
from captioner.serve.routes.fields import Model, field_error, quote_name, reject_unknown, validate
from captioner.serve.routes.image_field import read_image_field
from captioner.serve.routes.native_fields import LIST_FIELDS
from captioner.serve.routes.request_schema import FILE_FIELDS

MISSING_FILE = "image: expected an image or, in the field audio, a recording"
_MAX_FORM_FIELDS = 128


async def read_request(
    request: Request, model: type[Model], fetcher: Fetcher
) -> tuple[list[bytes], Model]:
    """Return the files and the fields of a request; raises RequestError."""
    kind = media_type(request)
    if kind == "application/json":
        values = await read_json(request)
        files = {name: values.pop(name) for name in FILE_FIELDS if name in values}
        fields = validate(model, values)
        if not files:
            raise RequestError(422, "bad_request", MISSING_FILE)
        found = [await read_image_field(v, fetcher, name=name) for name, v in files.items()]
        return found, fields
    if kind == "multipart/form-data":
        reject_query(request)
        return await _read_form(request, model)
    data, pairs = await read_bytes(request), request.query_params.multi_items()
    for name, _ in pairs:
        if name in FILE_FIELDS:
            raise field_error(name, f"the body is the {name}; leave it out of the query string")
    return [data], validate(model, _collect(pairs))


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body; raises RequestError for query parameters too."""
    if media_type(request) != "application/json":
        raise RequestError(415, "bad_request", "expected a body of application/json")
    reject_query(request)
    _check_encoding(request)
    try:
        values = json.loads(await request.body(), object_pairs_hook=_reject_duplicates)
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_request", "the body is not valid JSON") from None
    if not isinstance(values, dict):
        raise RequestError(422, "bad_request", "the body is not a JSON object")
    return values


async def read_bytes(request: Request) -> bytes:
    """Return a body that is a file; raises RequestError if it is empty or compressed."""
    _check_encoding(request)
    data = await request.body()
    if not data:
        kind = media_type(request)
        raise RequestError(415, "not_an_image", f"the body of type {kind or '(none)'} is empty")
    return data


def reject_query(request: Request) -> None:
    """Raise RequestError for query parameters, which only a body that is a file may have."""
    for name in request.query_params:
        message = "query parameters are not read here; put options into the body"
        raise field_error(quote_name(name), message)


def media_type(request: Request) -> str:
    """Return the media type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_form(request: Request, model: type[Model]) -> tuple[list[bytes], Model]:
    _check_encoding(request)
    try:
        async with request.form(max_files=len(FILE_FIELDS), max_fields=_MAX_FORM_FIELDS) as form:
            items = form.multi_items()
            files = [(name, value) for name, value in items if isinstance(value, UploadFile)]
            texts = [(name, value) for name, value in items if isinstance(value, str)]
            names = [name for name, _ in files]
            reject_unknown(names, FILE_FIELDS)
            if not files:
                raise RequestError(422, "bad_request", "image: expected a file in the form")
            for name in FILE_FIELDS:
                if [*names, *(name for name, _ in texts)].count(name) > 1:
                    raise field_error(name, "given more than once; send one file")
            found = [await file.read() for _, file in files]
            return found, validate(model, _collect(texts))
    except HTTPException as error:
        raise RequestError(400, "bad_request", str(error.detail)) from None


def _collect(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields by name; only lists may be repeated."""
    lists: dict[str, Any] = {}
    single = []
    for name, value in items:
        if name in LIST_FIELDS:
            lists.setdefault(name, []).append(value)
        else:
            single.append((name, value))
    return lists | _reject_duplicates(single)


def _reject_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; by default, `json` would keep the last of equal names."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise field_error(quote_name(name), "given more than once; send it once")
        values[name] = value
    return values


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        problem = f"{quote_name(encoding)} is not supported; send no compressed body"
        raise RequestError(415, "bad_request", f"Content-Encoding: {problem}")
