"""Keywords of a caption: its nouns, in the singular and with one word for synonyms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from captioner.text import parse_words

_KINDS = {"part", "group thing", "body part", "other"}
"""Kinds of nouns that are no subject of a photograph, such as "side" or "hand"."""
_SUBJECTS = parse_words("""cloud rain dust smoke sky sun sunset sunlight shadow reflection flock
    herd beard mohawk""")
"""Nouns of these kinds that are a subject."""
_VAGUE = parse_words("""group bunch duo trio pair local figure object place role event container
    equipment device garment""")
"""Nouns of other kinds that are too general."""
_ON_TOP = re.compile(r"\bon (?:the )?top of\b")
_SEPARATOR = ", "


def find_keywords(caption: str) -> list[str]:
    """Return the nouns of a caption that name what a photograph shows, in their order.

    "Two dogs play with a tennis ball" has the keywords "dog" and "tennis ball".
    """
    # Imported here: `inflect` takes a second to import.
    from captioner.data.caption_questions.chunker import chunk_caption
    from captioner.data.caption_questions.lexicon import get_kinds

    nouns: dict[str, None] = {}
    for chunk in chunk_caption(_ON_TOP.sub("on", caption.lower())):
        noun = chunk.text
        if chunk.phrase is None or chunk.phrase.determiner == "no" or noun in _VAGUE:
            continue
        if noun in _SUBJECTS or not get_kinds(noun) & _KINDS:
            nouns[noun] = None
    return list(nouns)


def keywords_of(row: Mapping[str, Any]) -> list[str]:
    """Return the keywords in a row; in CSV, they are one text."""
    keywords = row.get("keywords") or []
    return keywords.split(_SEPARATOR) if isinstance(keywords, str) else keywords


def join_keywords(keywords: list[str]) -> str:
    """Return keywords as one text."""
    return _SEPARATOR.join(keywords)
