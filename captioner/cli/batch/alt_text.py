"""Alternative texts: one sentence of limited length from the captions of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from captioner.errors import CaptionerError
from captioner.text import DANGLING_WORDS

if TYPE_CHECKING:
    from captioner.predict import Result

# fmt: off
_CLAUSES = {
    "and", "as", "at", "behind", "beside", "by", "for", "from", "in", "near", "on", "or", "over",
    "that", "through", "under", "wearing", "which", "while", "who", "with", "holding",
}
# fmt: on
"""Words that begin a clause: a sentence may end before them."""
_MARKS = " .,;:!?-"


def choose_sentence(captions: Sequence[str], *, length: int) -> tuple[int, str] | None:
    """Return the first caption that fits as a sentence, with its index, or else a shortened one.

    A sentence begins with a capital letter, ends with a full stop and does not end on a word such
    as "with" or "a", which others must follow. A caption is shortened before a clause, or else
    before any word, as late as possible. The result is None if no whole word fits.

    Args:
        captions: The captions of an image, best first.
        length: Maximum length of the sentence in characters.
    """
    for shorten in (False, True):
        for index, caption in enumerate(captions):
            words = caption.split()
            for end in _cut_points(words) if shorten else [len(words)]:
                text = " ".join(words[:end]).rstrip(_MARKS)
                last = text.split()[-1:]
                sentence = f"{text[:1].upper()}{text[1:]}."
                if last and last[0].lower() not in DANGLING_WORDS and len(sentence) <= length:
                    return index, sentence
    return None


def _cut_points(words: Sequence[str]) -> list[int]:
    """Return the numbers of words to keep: up to a clause, longest first, and then any."""
    ends = range(len(words) - 1, 0, -1)
    clauses = [i for i in ends if words[i].lower() in _CLAUSES or words[i - 1][-1] in ",;:"]
    return [*clauses, *ends]


def to_alt_text(result: Result, length: int) -> Result:
    """Return a result whose only caption is one sentence, or an error if none is short enough."""
    if result.error is not None:
        return result
    choice = choose_sentence([caption.text for caption in result.captions], length=length)
    if choice is None:
        error = CaptionerError(f"no caption fits in {length} characters; increase --alt-length")
        return replace(result, captions=(), error=error)
    index, text = choice
    return replace(result, captions=(replace(result.captions[index], text=text),))
