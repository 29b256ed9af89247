"""The image field of a request: base64, a data URI, or a URL that the server may fetch."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from captioner.serve.fetch import Fetcher
from captioner.serve.http_errors import RequestError
from captioner.serve.routes.fields import reject_unknown

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_DATA_URI = re.compile(
    r"(image/[\w.+-]+|application/octet-stream)?(;[^,;]*)*;\s*base64\s*", re.IGNORECASE
)
_MAX_HEAD = 200
"""Maximum number of characters of a data URI before its comma."""
_URL_SAFE = str.maketrans("-_", "+/")


async def read_image_field(value: Any, fetcher: Fetcher) -> bytes:
    """Return the image in a field, a text or an object with the key `url`; raises RequestError."""
    if isinstance(value, dict):
        reject_unknown(value, ("url",), group="image.")
        value = value.get("url")
    if not isinstance(value, str) or not value.strip():
        raise RequestError(422, "bad_request", "image: expected base64, or a data URI")
    value = value.strip()
    match = _SCHEME.match(value)
    scheme = match[1].lower() if match else ""
    if scheme in ("http", "https"):
        return await fetcher.get(value)
    if scheme == "data":
        return _decode(_parse_data_uri(value))
    if scheme:
        raise RequestError(422, "bad_url", f"image: {_describe_scheme_error(scheme)}")
    return _decode(value)


def _describe_scheme_error(scheme: str) -> str:
    instead = "send the image itself: its bytes, base64 or a data URI"
    if scheme == "file" or len(scheme) == 1:  # one letter is a Windows drive
        return f"the server never reads local files, neither by path nor by URL; {instead}"
    return f"URLs of the scheme {scheme[:20]!r} are not supported; {instead}, or an https URL"


def _parse_data_uri(uri: str) -> str:
    """Return the base64 text of a data URI."""
    head, comma, text = uri.partition(",")
    head = head[len("data:") :]
    if not comma or len(head) > _MAX_HEAD or not _DATA_URI.fullmatch(head):
        message = f"image: a data URI of {head[:60]!r}; expected image/...;base64"
        raise RequestError(415, "not_an_image", message)
    return unquote(text) if "%" in text else text


def _decode(text: str) -> bytes:
    """Decode base64 in the standard or the URL-safe alphabet, with or without padding."""
    text = "".join(text.split()).translate(_URL_SAFE)
    body = text.rstrip("=")
    padding = -len(body) % 4
    if len(text) - len(body) in (0, padding):
        with suppress(ValueError):
            return base64.b64decode(body + "=" * padding, validate=True)
    message = "image: is not valid base64; send the image's content, not a file name"
    raise RequestError(422, "bad_image", message)
