"""The image and the request in the messages of a chat; raises Refusal for what cannot be used."""

from __future__ import annotations

from typing import Any

from captioner.serve.http_errors import Refusal
from captioner.serve.routes.fields import reject_unknown, shown, unusable
from captioner.serve.routes.native_fields import LONGEST

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_OF_USER = ("role", "content", "name")
_OF_PART = ("type", "text", "image_url", "prompt_cache_breakpoint", "cache_control")
"""The last two are for providers that keep prompts; here they change nothing."""
_DETAILS = ("auto", "low")
"""Of an image: the model has one size, which is small."""


def read_messages(messages: list[dict[str, Any]]) -> tuple[Any, str]:
    """Return the last image of a conversation, and the last text of its user.

    Raises:
        Refusal: There is no image, or a part of a message would have to be ignored.
    """
    image, text = None, ""
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        role = message.get("role", "user")
        if role not in _ROLES:
            raise unusable(f"{where}.role", f"expected one of {', '.join(_ROLES)}")
        if role == "user":
            names = [name for name, value in message.items() if value is not None]
            reject_unknown(names, _OF_USER, group=f"{where}.")
        images, texts = _read_content(message.get("content"), f"{where}.content")
        if len(images) > 1:
            raise unusable(
                f"{where}.content", f"{len(images)} images; send one image in each message"
            )
        image = images[0] if images else image
        if role == "user":
            text = " ".join(texts) or text
    if image is None:
        raise Refusal(
            422, "bad_request", "messages: no image_url in them; this model looks at images"
        )
    if len(text) > LONGEST:
        raise unusable("messages", f"the user's text has more than {LONGEST:,} characters")
    return image, text.strip()


def _read_content(content: Any, where: str) -> tuple[list[Any], list[str]]:
    """Return the images and the texts of a message."""
    if content is None:
        return [], []
    if isinstance(content, str):
        return [], [content]
    if not isinstance(content, list):
        raise unusable(where, "expected text, or a list of parts")
    images, texts = [], []
    for number, part in enumerate(content):
        kind, value = _read_part(part, f"{where}.{number}")
        (images if kind == "image_url" else texts).append(value)
    return images, texts


def _read_part(part: Any, where: str) -> tuple[str, Any]:
    """Return the type of a part, and its text or its image."""
    if not isinstance(part, dict):
        raise unusable(where, "expected an object with text or image_url")
    part = {name: value for name, value in part.items() if value is not None}
    kind = part.get("type", "image_url" if "image_url" in part else "text")
    if kind == "refusal":  # of an earlier answer
        return "text", ""
    if kind not in ("text", "image_url"):
        raise unusable(f"{where}.type", f"{shown(str(kind))} is not read; send text or image_url")
    reject_unknown(part, _OF_PART, group=f"{where}.")
    other = "text" if kind == "image_url" else "image_url"
    if other in part:
        raise unusable(f"{where}.{other}", f"a part of type {kind} has none; send two parts")
    value = part.get(kind)
    if kind == "image_url":
        return kind, _image_of(value, f"{where}.image_url")
    if not isinstance(value, str):
        raise unusable(f"{where}.text", "expected text")
    return kind, value


def _image_of(value: Any, where: str) -> Any:
    """Return what names the image; raises Refusal where it is to be read in another detail."""
    if not isinstance(value, dict):
        return value
    reject_unknown(value, ("url", "detail"), group=f"{where}.")
    detail = value.get("detail")
    if detail is not None and detail not in _DETAILS:
        raise unusable(
            f"{where}.detail", "the model reads every image at one small size; send auto or low"
        )
    return value.get("url")
