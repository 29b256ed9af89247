"""Find the image and the request in the messages of a chat."""

from __future__ import annotations

from typing import Any

from captioner.serve.routes.fields import field_error, quote_name, reject_unknown
from captioner.serve.routes.native_fields import MAX_TEXT_LENGTH

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_USER_FIELDS = ("role", "content", "name")
_PART_FIELDS = ("type", "text", "image_url", "prompt_cache_breakpoint", "cache_control")
"""The last two control prompt caches of other providers; here they have no effect."""
_DETAILS = ("auto", "low")
"""Values of an image's `detail`; the model has a single, small input size."""


def read_messages(messages: list[dict[str, Any]]) -> tuple[Any, str]:
    """Return the last image of a conversation, and the last text of its user.

    Raises:
        RequestError: There is no image, or a part of a message would have to be ignored.
    """
    image, text = None, ""
    for number, message in enumerate(messages):
        path = f"messages.{number}"
        role = message.get("role", "user")
        if role not in _ROLES:
            raise field_error(f"{path}.role", f"expected one of {', '.join(_ROLES)}")
        if role == "user":
            names = [name for name, value in message.items() if value is not None]
            reject_unknown(names, _USER_FIELDS, group=f"{path}.")
        images, texts = _read_content(message.get("content"), f"{path}.content")
        if len(images) > 1:
            problem = f"{len(images)} images; send one image in each message"
            raise field_error(f"{path}.content", problem)
        image = images[0] if images else image
        if role == "user":
            text = " ".join(texts) or text
    if image is None:
        raise field_error("messages", "no image_url; this model needs an image in the messages")
    if len(text) > MAX_TEXT_LENGTH:
        length = f"more than {MAX_TEXT_LENGTH:,} characters"
        raise field_error("messages", f"the user's text has {length}")
    return image, text.strip()


def _read_content(content: Any, path: str) -> tuple[list[Any], list[str]]:
    """Return the images and the texts of a message."""
    if content is None:
        return [], []
    if isinstance(content, str):
        return [], [content]
    if not isinstance(content, list):
        raise field_error(path, "expected text, or a list of parts")
    images: list[Any] = []
    texts: list[str] = []
    for number, part in enumerate(content):
        kind, value = _read_part(part, f"{path}.{number}")
        (images if kind == "image_url" else texts).append(value)
    return images, texts


def _read_part(part: Any, path: str) -> tuple[str, Any]:
    """Return the type of a part, and its text or its image."""
    if not isinstance(part, dict):
        raise field_error(path, "expected an object with text or image_url")
    part = {name: value for name, value in part.items() if value is not None}
    kind = part.get("type", "image_url" if "image_url" in part else "text")
    if kind == "refusal":  # an earlier answer of another model
        return "text", ""
    if kind not in ("text", "image_url"):
        message = f"{quote_name(str(kind))} is not supported; send text or image_url"
        raise field_error(f"{path}.type", message)
    reject_unknown(part, _PART_FIELDS, group=f"{path}.")
    other = "text" if kind == "image_url" else "image_url"
    if other in part:
        raise field_error(f"{path}.{other}", f"a part of type {kind} has none; send two parts")
    value = part.get(kind)
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
