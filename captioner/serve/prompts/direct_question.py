"""Convert indirect questions to direct ones, which are the form of the training data."""

from __future__ import annotations

import re

_FORMS_OF_BE = ("is", "are", "was", "were")
_AUXILIARIES = (*_FORMS_OF_BE, "can", "could", "will", "would", "has", "have", "had", "should")
_SUBJECTS = (
    *("the", "a", "an", "this", "that", "these", "those", "there", "it", "he", "she", "they"),
    *("his", "her", "its", "their", "my", "we", "you", "i"),
)
_NAMING_VERBS = (
    *("name", "tell", "identify", "state", "give", "specify", "guess", "estimate", "determine"),
    *("describe", "recognize", "recognise", "classify", "say", "find", "detect"),
)


def direct_question(text: str) -> str:
    """Return the direct form of an indirect question or request; empty if it is neither.

    `text` is in lower case, without an introduction such as "tell me": "what color the dog is",
    "whether it is raining", "count the people", "name the animal".
    """
    words = text.split()
    first, rest = words[0], words[1:]
    if first == "whether":
        return _join(_invert([], rest))
    if first in ("what", "which", "who", "whose", "where", "when", "why", "how"):
        return _direct_wh_question(words)
    if first == "count" or (first in _NAMING_VERBS and rest[:3] == ["the", "number", "of"]):
        return _ask_count(rest)
    if first in _NAMING_VERBS and rest and rest[0] in ("the", "its", "his", "her", "their"):
        return _join(["what", "is", *rest])
    if first in _NAMING_VERBS and len(rest) > 2 and rest[1] == "of":
        return _join(["what", "is", "the", *rest])
    return ""


def _direct_wh_question(words: list[str]) -> str:
    """Move the verb before the subject: "what color the dog is", "what color is the dog"."""
    start = next((i for i, word in enumerate(words) if i and word in _SUBJECTS), None)
    verb = next((i for i, word in enumerate(words) if word in _AUXILIARIES), None)
    if start is None or verb is None or verb < start:
        return _join(words)
    return _join(_invert(words[:start], words[start:]))


def _invert(front: list[str], clause: list[str]) -> list[str]:
    """Return `front`, the first auxiliary verb of a clause, and the rest of the clause."""
    for index, word in enumerate(clause):
        if word in _AUXILIARIES and index:
            return [*front, word, *clause[:index], *clause[index + 1 :]]
    return [*front, *clause]


def _ask_count(words: list[str]) -> str:
    """Ask for a number: "the birds in the tree" becomes "how many birds are in the tree"."""
    text = re.sub(r"^(?:the )?(?:number|amount) of ", "", " ".join(words))
    text = re.sub(r"^(?:the|all the|all) ", "", text)
    match = re.match(
        r"(.+?) (?:that |who )?(?:are )?((?:in|on|at|near|under|behind|with) .+)", text
    )
    if match:
        return _join(["how", "many", match[1], "are", match[2]])
    return _join(["how", "many", text, "are", "there"]) if text else ""


def _join(words: list[str]) -> str:
    return " ".join(words) + "?"
