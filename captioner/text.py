"""Caption normalization and word lists."""

from __future__ import annotations

import re

_BEFORE_PUNCTUATION = re.compile(r" +(?=[.,;:!?)\]%](?:\s|$|[.,;:!?)\]\"]))")
_AFTER_BRACKET = re.compile(r"(?<=[(\[]) +")
_CLITIC = re.compile(r" +(?=(?:'(?:s|m|d|re|ve|ll)|n't)\b)", re.IGNORECASE)
_INNER_QUOTES = re.compile(r'(?<!\S)" ([^"]*[^"\s]) "(?!\S)')
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}

# fmt: off
DANGLING_WORDS = [
    "a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "their", "my", "your",
    "our", "some", "another", "each", "every", "of", "with", "in", "on", "at", "by", "for", "from",
    "to", "into", "onto", "over", "under", "near", "next", "through", "across", "behind", "beside",
    "between", "against", "around", "along", "above", "below", "up", "down", "out", "off", "as",
    "than", "like", "while", "and", "or", "but", "is", "are", "was", "were", "be", "being", "has",
    "have", "who", "which", "whose", "where", "wearing", "holding",
]
# fmt: on
"""Words that more must follow: a caption that ends in one has lost its end."""


def normalize_caption(text: str, *, lowercase: bool = True) -> str:
    """Returns the caption in the form that the model learns to write.

    White space (line breaks too) becomes single spaces; the space that tokenised captions such as
    Flickr8k's hold before punctuation and clitics goes ("a man 's hat ." -> "a man's hat"), as do
    a final full stop and quotation marks around the whole. Applying it twice changes nothing.
    An empty result means that the caption said nothing.
    """
    if lowercase:
        text = text.lower()
    previous = None
    while text != previous:  # each step only removes characters, so this ends
        previous = text
        text = _tidy_once(text)
    return text


def normalize_question(text: str, *, lowercase: bool = True) -> str:
    """Returns the question as the model reads it: as a caption, without its question marks."""
    previous = None
    while text != previous:
        previous = text
        text = normalize_caption(text, lowercase=lowercase).rstrip(" ?")
    return text


def _tidy_once(text: str) -> str:
    text = " ".join(text.split())
    text = _BEFORE_PUNCTUATION.sub("", text)
    text = _AFTER_BRACKET.sub("", text)
    text = _CLITIC.sub("", text)
    text = _INNER_QUOTES.sub(r'"\1"', text)
    text = text.rstrip(" .")
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        inner = text[1:-1]
        # '"Stop" says the "man"' is not one quotation.
        if text[0] not in inner and text[-1] not in inner:
            text = inner
    return text


def one_line(text: object) -> str:
    """Return a text, or the message of an error, with single spaces for all white space."""
    return " ".join(str(text).split())
