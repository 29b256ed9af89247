"""Names of kinds of images."""

from __future__ import annotations

PHOTOGRAPH = "photograph"
"""The kind of image that captions are trained on."""


def describe_kind(kind: str) -> str:
    """Return a kind of image as a noun phrase, such as "a screenshot"."""
    phrases = {"text": "text", "blank": "a blank image"}
    article = "an" if kind[0] in "aeiou" else "a"
    return phrases.get(kind, f"{article} {kind}")
