"""Find the image, the recording and the request in the messages of a chat."""

from __future__ import annotations

from typing import Any

from captioner.serve.routes.fields import field_error, quote_name, reject_unknown
from captioner.serve.routes.native_fields import MAX_TEXT_LENGTH

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_USER_FIELDS = ("role", "content", "name")
_FILES = {"image_url": "image", "input_audio": "audio"}
"""The types of parts with a file, and the names of the fields of other routes."""
_NOUNS = {"image": "image", "audio": "recording"}
_PART_FIELDS = ("type", "text", *_FILES, "prompt_cache_breakpoint", "cache_control")
"""The last two control prompt caches of other providers; here they have no effect."""
_DETAILS = ("auto", "low")
"""Values of an image's `detail`; the model has a single, small input size."""


def read_messages(messages: list[dict[str, Any]], *, needed: str) -> tuple[dict[str, Any], str]:
    """Return the last `image` and `audio` of a conversation, and the last text of its user.

    `needed` states what the model takes, for the error of a conversation without a file.

    Raises:
        RequestError: There is no file, or a part of a message would have to be ignored.
    """
    files: dict[str, Any] = {}
    text = ""
    for number, message in enumerate(messages):
        path = f"messages.{number}"
        role = message.get("role", "user")
        if role not in _ROLES:
            raise field_error(f"{path}.role", f"expected one of {', '.join(_ROLES)}")
        if role == "user":
            names = [name for name, value in message.items() if value is not None]
            reject_unknown(names, _USER_FIELDS, group=f"{path}.")
        found, texts = _read_content(message.get("content"), f"{path}.content")
        for name, values in found.items():
            if len(values) > 1:
                problem = f"{len(values)} {_NOUNS[name]}s; send one in each message"
                raise field_error(f"{path}.content", problem)
            files[name] = values[0]
        if role == "user":
            text = " ".join(texts) or text
    if not files:
        parts = " or ".join(part for part, name in _FILES.items() if _NOUNS[name] in needed)
        needs = f"this model needs {needed} in the messages"
        raise field_error("messages", f"no {parts}; {needs}")
    if len(text) > MAX_TEXT_LENGTH:
        length = f"more than {MAX_TEXT_LENGTH:,} characters"
        raise field_error("messages", f"the user's text has {length}")
    return files, text.strip()


def _read_content(content: Any, path: str) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the files of a message by the names of `_FILES`, and its texts."""
    if content is None:
        return {}, []
    if isinstance(content, str):
        return {}, [content]
    if not isinstance(content, list):
        raise field_error(path, "expected text, or a list of parts")
    files: dict[str, list[Any]] = {}
    texts: list[str] = []
    for number, part in enumerate(content):
        kind, value = _read_part(part, f"{path}.{number}")
        (files.setdefault(_FILES[kind], []) if kind in _FILES else texts).append(value)
    return files, texts


def _read_part(part: Any, path: str) -> tuple[str, Any]:
    """Return the type of a part, and its text or its file."""
    if not isinstance(part, dict):
        raise field_error(path, "expected an object with text or image_url")
    part = {name: value for name, value in part.items() if value is not None}
    kind = part.get("type", next((name for name in _FILES if name in part), "text"))
    if kind == "refusal":  # an earlier answer of another model
        return "text", ""
    if kind not in ("text", *_FILES):
        message = f"{quote_name(str(kind))} is not supported; send text, image_url or input_audio"
        raise field_error(f"{path}.type", message)
    reject_unknown(part, _PART_FIELDS, group=f"{path}.")
    for other in ("text", *_FILES):
        if other != kind and other in part:
            raise field_error(f"{path}.{other}", f"a part of type {kind} has none; send two parts")
    value = part.get(kind)
    if kind == "input_audio":
        return kind, _read_input_audio(value, f"{path}.input_audio")
    if kind == "image_url":
        return kind, _read_image_url(value, f"{path}.image_url")
    if not isinstance(value, str):
        raise field_error(f"{path}.text", "expected text")
    return kind, value


def _read_image_url(value: Any, path: str) -> Any:
    """Return the URL of an image; raises RequestError for an unsupported `detail`."""
    if not isinstance(value, dict):
        return value
    reject_unknown(value, ("url", "detail"), group=f"{path}.")
    detail = value.get("detail")
    if detail is not None and detail not in _DETAILS:
        message = "the model reads every image at one small size; send auto or low"
        raise field_error(f"{path}.detail", message)
    return value.get("url")


def _read_input_audio(value: Any, path: str) -> Any:
    """Return the base64 text of a recording, whose content decides its format."""
    if not isinstance(value, dict):
        raise field_error(path, "expected an object with data and format")
    reject_unknown(value, ("data", "format"), group=f"{path}.")
    return value.get("data")
