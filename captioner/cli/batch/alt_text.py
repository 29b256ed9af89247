"""Captions as alternative text: one plain sentence that is not too long."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.text import DANGLING_WORDS

# fmt: off
_CLAUSES = {
    "and", "as", "at", "behind", "beside", "by", "for", "from", "in", "near", "on", "or", "over",
    "that", "through", "under", "wearing", "which", "while", "who", "with", "holding",
}
# fmt: on
"""Words before which a sentence may end and still be one."""
_MARKS = " .,;:!?-"


def alt_text(captions: Sequence[str], *, length: int) -> tuple[int, str] | None:
    """The first caption that fits as a sentence, and its place; else the first that can be cut.

    A sentence has a capital, a full stop and at most `length` characters, and does not end on a
    word that more must follow. A caption is cut before a clause, or else before any word, as late
    as possible. None where no whole word fits.
    """
    for shorten in (False, True):
        for place, caption in enumerate(captions):
            words = caption.split()
            for end in _ends(words) if shorten else [len(words)]:
                text = " ".join(words[:end]).rstrip(_MARKS)
                last = text.split()[-1:]
                found = f"{text[:1].upper()}{text[1:]}."
                if last and last[0].lower() not in DANGLING_WORDS and len(found) <= length:
                    return place, found
    return None


def _ends(words: Sequence[str]) -> list[int]:
    """Where to cut: before a clause, as late as possible, and then anywhere."""
    ends = range(len(words) - 1, 0, -1)
    clauses = [i for i in ends if words[i].lower() in _CLAUSES or words[i - 1][-1] in ",;:"]
    return [*clauses, *ends]
