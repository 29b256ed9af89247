"""Indirect questions to direct ones, which is how the model was trained to be asked."""

from __future__ import annotations

import re

_BE = ("is", "are", "was", "were")
_AUXILIARIES = (*_BE, "can", "could", "will", "would", "has", "have", "had", "should")
_SUBJECTS = (
    *("the", "a", "an", "this", "that", "these", "those", "there", "it", "he", "she", "they"),
    *("his", "her", "its", "their", "my", "we", "you", "i"),
)
_NAMING = (
    *("name", "tell", "identify", "state", "give", "specify", "guess", "estimate", "determine"),
    *("describe", "recognize", "recognise", "classify", "say", "find", "detect"),
)


def direct_question(text: str) -> str:
    """Return a direct question for an indirect one or a request; empty where it is none of these.

    Args:
        text: Words in lower case, without the frame ("tell me"): "what color the dog is", "whether
            it is raining", "count the people", "name the animal", "the color of the dog".
    """
    words = text.split()
    first, rest = words[0], words[1:]
    if first == "whether":
        return _ask(_inverted([], rest))
    if first in ("what", "which", "who", "whose", "where", "when", "why", "how"):
        return _direct_wh(words)
    if first == "count" or (first in _NAMING and rest[:3] == ["the", "number", "of"]):
        return _counted(rest)
    if first in _NAMING and rest and rest[0] in ("the", "its", "his", "her", "their"):
        return _ask(["what", "is", *rest])
    if first in _NAMING and len(rest) > 2 and rest[1] == "of":
        return _ask(["what", "is", "the", *rest])
    return ""


def _direct_wh(words: list[str]) -> str:
    """Move the verb before the subject: "what color the dog is" to "what color is the dog"."""
    start = next((i for i, word in enumerate(words) if i and word in _SUBJECTS), None)
    verb = next((i for i, word in enumerate(words) if word in _AUXILIARIES), None)
    if start is None or verb is None or verb < start:
        return _ask(words)
    return _ask(_inverted(words[:start], words[start:]))


def _inverted(front: list[str], clause: list[str]) -> list[str]:
    """Return `front`, the first auxiliary of a clause, and the rest of the clause."""
    for place, word in enumerate(clause):
        if word in _AUXILIARIES and place:
            return [*front, word, *clause[:place], *clause[place + 1 :]]
    return [*front, *clause]


def _counted(words: list[str]) -> str:
    """Ask for a number: "the birds in the tree" to "how many birds are in the tree"."""
    text = re.sub(r"^(?:the )?(?:number|amount) of ", "", " ".join(words))
    text = re.sub(r"^(?:the|all the|all) ", "", text)
    match = re.match(
        r"(.+?) (?:that |who )?(?:are )?((?:in|on|at|near|under|behind|with) .+)", text
    )
    if match:
        return _ask(["how", "many", match[1], "are", match[2]])
    return _ask(["how", "many", text, "are", "there"]) if text else ""


def _ask(words: list[str]) -> str:
    return " ".join(words) + "?"
