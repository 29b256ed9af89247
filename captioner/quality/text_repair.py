"""Recognize and repair mojibake and markup in texts."""

from __future__ import annotations

import html
import re

from captioner.extras import explain_missing
from captioner.text import one_line

LOST = "\ufffd"
"""The replacement character: what was in its place is lost."""
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][\w:-]*(?:\s[^<>]*)?/?>|<![a-zA-Z][^<>]*>", re.DOTALL)
_HIDDEN = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
"""Elements whose content is no text of the caption."""
_CODE_TAG = re.compile(r"\[/?(?:b|i|u|s|url|img|quote|code|size|color)\b[^\[\]]*\]", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_ENTITY = re.compile(r"&(?:#\d{1,6}|#[xX][\da-fA-F]{1,5}|[a-zA-Z][a-zA-Z\d]{1,30});")
_CONTROL = re.compile(
    r"\x1b\[[\d;]*[A-Za-z]|[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""Control sequences of terminals, and control characters other than white space, also those that
change the direction of text."""
_URL = re.compile(r"(?:\b[a-z][a-z\d+.-]{,30}://|\bwww\.)[^\s<>\"]+", re.IGNORECASE)


def has_mojibake(text: str) -> bool:
    """Return whether a text was decoded with a wrong encoding, by the rules of ftfy."""
    if text.isascii():
        return False
    return LOST in text or repair_encoding(text) != text or _is_bad(text)


def repair_encoding(text: str) -> str:
    """Return the text as it was before it was decoded with a wrong encoding."""
    if text.isascii():
        return text
    with explain_missing("captioner check"):
        import ftfy
    repaired: str = ftfy.fix_encoding(text)
    return repaired


def _is_bad(text: str) -> bool:
    from ftfy.badness import is_bad

    return bool(is_bad(text))


def find_markup(text: str) -> str:
    """Return the first piece of markup, or the first URL, in a text; "" without one."""
    for pattern in (_URL, _TAG, _CODE_TAG, _LINK):
        if match := pattern.search(text):
            return match[0]
    entities = (match[0] for match in _ENTITY.finditer(text))
    return next((entity for entity in entities if html.unescape(entity) != entity), "")


def list_controls(text: str) -> list[str]:
    """Return the different control characters in a text, such as "U+0007"."""
    characters = dict.fromkeys(match[0][0] for match in _CONTROL.finditer(text))
    return [f"U+{ord(character):04X}" for character in characters]


def escape_controls(text: str) -> str:
    """Return a text with an escape for each control character, for display."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def strip_markup(text: str) -> str:
    """Return a text without markup and URLs, on one line; a text without any is unchanged."""
    if not find_markup(text):
        return text
    text = _LINK.sub(r"\1", text)
    for pattern in (_HIDDEN, _TAG, _CODE_TAG):
        text = pattern.sub(" ", text)
    text = html.unescape(text)
    for pattern in (_HIDDEN, _TAG):  # escaped tags
        text = pattern.sub(" ", text)
    return one_line(_URL.sub(" ", text))


def repair(text: str) -> str:
    """Return a text with its encoding repaired, without markup and control characters."""
    text = repair_encoding(text)
    if _CONTROL.search(text):
        text = one_line(_CONTROL.sub("", text))
    return strip_markup(text)
