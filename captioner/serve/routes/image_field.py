"""The image or audio field of a request: base64, a data URI, or a URL that may be fetched."""

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
    r"((?:image|audio)/[\w.+-]+|application/octet-stream)?(;[^,;]*)*;\s*base64\s*", re.IGNORECASE
)
_MAX_HEAD = 200
"""Maximum number of characters of a data URI before its comma."""
_URL_SAFE = str.maketrans("-_", "+/")


async def read_image_field(value: Any, fetcher: Fetcher, *, name: str = "image") -> bytes:
    """Return the file in a field, a text or an object with the key `url`; raises RequestError.

    `name` is that of the field in messages.
    """
    if isinstance(value, dict):
        reject_unknown(value, ("url",), group=f"{name}.")
        value = value.get("url")
    if not isinstance(value, str) or not value.strip():
        raise RequestError(422, "bad_request", f"{name}: expected base64, or a data URI")
    value = value.strip()
    match = _SCHEME.match(value)
    scheme = match[1].lower() if match else ""
    if scheme in ("http", "https"):
        try:
            return await fetcher.get(value)
        except RequestError as error:
            raise RequestError(error.status, error.reason, f"{name}: {error}") from None
    if scheme == "data":
        return _decode(_parse_data_uri(value, name), name)
    if scheme:
        raise RequestError(422, "bad_url", f"{name}: {_describe_scheme_error(scheme, name)}")
    return _decode(value, name)


def _describe_scheme_error(scheme: str, name: str) -> str:
    instead = f"send the {name} itself: its bytes, base64 or a data URI"
    if scheme == "file" or len(scheme) == 1:  # one letter is a Windows drive
        return f"the server never reads local files, neither by path nor by URL; {instead}"
    return f"URLs of the scheme {scheme[:20]!r} are not supported; {instead}, or an https URL"


def _parse_data_uri(uri: str, name: str) -> str:
    """Return the base64 text of a data URI."""
    head, comma, text = uri.partition(",")
    head = head[len("data:") :]
    if not comma or len(head) > _MAX_HEAD or not _DATA_URI.fullmatch(head):
        message = f"{name}: a data URI of {head[:60]!r}; expected {name}/...;base64"
        reason = "not_an_image" if name == "image" else "not_audio"
        raise RequestError(415, reason, message)
    return unquote(text) if "%" in text else text


def _decode(text: str, name: str) -> bytes:
    """Decode base64 in the standard or the URL-safe alphabet, with or without padding."""
    text = "".join(text.split()).translate(_URL_SAFE)
    body = text.rstrip("=")
    padding = -len(body) % 4
    if len(text) - len(body) in (0, padding):
        with suppress(ValueError):
            return base64.b64decode(body + "=" * padding, validate=True)
    message = f"{name}: is not valid base64; send the content of the file, not its name"
    raise RequestError(422, f"bad_{name}", message)
