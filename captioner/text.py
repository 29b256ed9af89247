"""Caption normalization and word lists."""

from __future__ import annotations

import re

_BEFORE_PUNCTUATION = re.compile(r" +(?=[.,;:!?)\]%](?:\s|$|[.,;:!?)\]\"]))")
_AFTER_BRACKET = re.compile(r"(?<=[(\[]) +")
_CLITIC = re.compile(r" +(?=(?:'(?:s|m|d|re|ve|ll)|n't)\b)", re.IGNORECASE)
_INNER_QUOTES = re.compile(r'(?<!\S)" ([^"]*[^"\s]) "(?!\S)')
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}

DANGLING_WORDS = [
    "a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "their", "my", "your",
    "our", "some", "another", "each", "every", "of", "with", "in", "on", "at", "by", "for", "from",
    "to", "into", "onto", "over", "under", "near", "next", "through", "across", "behind", "beside",
    "between", "against", "around", "along", "above", "below", "up", "down", "out", "off", "as",
    "than", "like", "while", "and", "or", "but", "is", "are", "was", "were", "be", "being", "has",
    "have", "who", "which", "whose", "where", "wearing", "holding",
]  # fmt: skip
"""Words that cannot end a caption: one that ends in them is truncated."""


def parse_words(text: str) -> frozenset[str]:
    """Return the words of a list; an underscore stands for a space."""
    return frozenset(word.replace("_", " ") for word in text.split())


def normalize_caption(text: str, *, lowercase: bool = True) -> str:
    """Return a caption in the form that the model is trained on.

    White space becomes single spaces. Removed are the spaces before punctuation and clitics in
    tokenized captions such as Flickr8k's ("a man 's hat ." -> "a man's hat"), a final period, and
    quotation marks around the whole caption. The function is idempotent. The result is empty if
    the caption has no words.
    """
    if lowercase:
        text = text.lower()
    previous = None
    while text != previous:  # ends, because each step only removes characters
        previous = text
        text = _normalize_once(text)
    return text


def normalize_question(text: str, *, lowercase: bool = True) -> str:
    """Return a question in the form that the model is trained on, without question marks."""
    previous = None
    while text != previous:
        previous = text
        text = normalize_caption(text, lowercase=lowercase).rstrip(" ?")
    return text


def _normalize_once(text: str) -> str:
    text = " ".join(text.split())
    text = _BEFORE_PUNCTUATION.sub("", text)
    text = _AFTER_BRACKET.sub("", text)
    text = _CLITIC.sub("", text)
    text = _INNER_QUOTES.sub(r'"\1"', text)
    text = text.rstrip(" .")
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        inner = text[1:-1]
        # Not one quotation: '"Stop" says the "man"'.
        if text[0] not in inner and text[-1] not in inner:
            text = inner
    return text


def one_line(text: object) -> str:
    """Return a text, or the message of an error, with single spaces for all white space."""
    return " ".join(str(text).split())
