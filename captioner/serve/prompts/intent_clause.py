"""Classify one clause of a chat prompt.

Introductions such as "can you tell me" are removed. The rest begins with a question word, an
auxiliary verb or an imperative, whose object decides: "describe the picture" and "what is in it"
request a caption, "describe the color of the car" and "what is on the table" are questions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from captioner.serve.prompts.direct_question import direct_question
from captioner.serve.prompts.intent_words import (
    ASK,
    ATTRIBUTE,
    AUXILIARIES,
    CONTENT,
    CREATE,
    DESCRIBE,
    GENERAL,
    GREETINGS,
    IMAGE,
    IMPERATIVES,
    PREPOSITIONS,
    PRESENT,
    PRINTED,
    PRONOUNS,
    SUBJECTS,
    TEXT,
    WH,
    WRITE,
)

Words = list[str]

_REQUEST = re.compile(
    r"(?:(?:can|could|would|will|will not|might) (?:you|u)|you (?:should|must|have to|need to)"
    r"|(?:can|could|may|might) i ask you to"
    r"|your (?:task|job|goal) is to|i(?:'d| would)? (?:like|love|want|need|ask) you to"
    r"|(?:is|would) it (?:be )?possible (?:for you )?to|are you able to|try to|let's|go ahead and)"
    r"(?: (?:please|kindly|just|maybe|possibly|perhaps|be able to|be so kind as to|help me(?: to)?"
    r"|try to|go ahead and))* |(?:help me|try|help us)(?: to)? (?!with )"
)
_WISH = re.compile(
    r"(?:i(?:'d| would)? (?:like|love|want|need)|(?:can|could|may) (?:i|we) (?:have|get|see))"
    r"(?: to (?:have|get|see))? (?!you |to )"
)
_INQUIRY = re.compile(
    r"(?:(?:can|could|may|might) i (?:ask|know)|i(?:'d| would)? (?:like|love|want|need) to"
    r" (?:know|find out|learn|ask|understand)|i (?:wonder|am wondering|was wondering|am curious"
    r"|ask)|i'm (?:wondering|curious|not sure|unsure)|i (?:can not|do not)"
    r" (?:tell|know|understand)|(?:do|would) you (?:happen to )?know|(?:have you )?(?:any|got any)"
    r" (?:idea|clue)|let (?:me|us) know|tell (?:me|us)|inform me|help me (?:see|understand))"
    r"(?: please)?(?: |$)"
)
_SEE = re.compile(
    r"(?:can|could|do|did)(?: not)? (?:you|u) (?:see|spot|notice|find|make out|recognize)(?: |$)"
)
_HOW_TO = re.compile(r"how (?:would|do|can|could|should|might|will) (?:you|i|we|one|people) ")
_MIND = re.compile(r"(?:would|do) you mind (\w+ing)\b")


@dataclass(frozen=True)
class ClauseIntent:
    """The intent of a clause."""

    kind: Literal["caption", "question", "instruction", "nothing"]
    """An instruction requests neither, such as "be brief"."""
    question: str = ""
    """The question in direct form; empty if the clause itself is the question."""


_CAPTION, _QUESTION = ClauseIntent("caption"), ClauseIntent("question")
_INSTRUCTION, _NOTHING = ClauseIntent("instruction"), ClauseIntent("nothing")


def classify_clause(text: str, *, alone: bool = False) -> ClauseIntent:
    """Return the intent of a normalized clause; `alone` is a clause that is a whole sentence."""
    if not text:
        return _NOTHING
    if match := _MIND.match(text):
        return _classify_imperative([_base_form(match[1]), *text[match.end() :].split()])
    if match := _SEE.match(text):
        return _classify_seen_object(text[match.end() :])
    if match := _HOW_TO.match(text):
        words = text[match.end() :].split()
        return _classify_imperative(words) if words and words[0] in DESCRIBE else _QUESTION
    if match := _REQUEST.match(text):
        rest = text[match.end() :].split()
        if rest[:1] in (["say"], ["think"]):
            return _QUESTION
        return _classify_imperative(_strip_leading(rest, "please", "also", "just"))
    if match := _INQUIRY.match(text):
        return _classify_object(text[match.end() :])
    if match := _WISH.match(text):
        return _classify_imperative(["give", *text[match.end() :].split()])
    words = text.split()
    if words[0] in WH:
        return _classify_wh(words)
    if words[0] in AUXILIARIES:
        return _classify_auxiliary(words)
    if words[0] in IMPERATIVES and not _is_noun_phrase(words):
        return _classify_imperative(words)
    return _classify_fragment(words, alone=alone)


def _classify_seen_object(rest: str) -> ClauseIntent:
    """Classify the object of "can you see": a thing, or the whole image."""
    words = _strip_determiners(rest.split())
    if not words or set(words) <= GENERAL:
        return _INSTRUCTION
    return _classify_wh(words, indirect=True) if words[0] in WH else _QUESTION


def _classify_wh(words: Words, *, indirect: bool = False) -> ClauseIntent:
    """Classify a question with a question word; `indirect` is a form like "what the dog is"."""
    question = ClauseIntent("question", direct_question(" ".join(words)) if indirect else "")
    if words[0] != "what":
        return question
    rest = words[1:]
    if set(rest) <= GENERAL:
        return _CAPTION
    if "question" in rest and set(rest) & {"answer", "following", "this"}:
        return _INSTRUCTION
    # "what would be a good caption for this"
    rest = _strip_leading(rest, *AUXILIARIES, "be", "s")
    head = _head_phrase(rest)
    if set(head) & TEXT and words[1] not in ("do", "does", "did"):
        # "what is the title of the book"
        owner = set(rest[len(rest) - len(_strip_determiners(rest)) + len(head) :])
        return question if set(head) & PRINTED and not owner <= GENERAL else _CAPTION
    # "what story does the photo tell"
    subject = _strip_determiners(rest)
    if subject[:1] and subject[0] in IMAGE and set(subject[1:]) & PRESENT and len(subject) == 2:
        return _CAPTION
    return question


def _classify_auxiliary(words: Words) -> ClauseIntent:
    """Classify a clause that begins with an auxiliary verb: a question, or "do not ..."."""
    rest = words[1:]
    if rest[:1] == ["not"]:
        if words[0] == "do" and not (rest[1:] and rest[1] in SUBJECTS):
            return _INSTRUCTION
        return _QUESTION
    if words[0] == "do" and rest and rest[0] in DESCRIBE:
        return _classify_imperative(rest)
    if words[:3] == ["have", "a", "look"] or not rest:
        return _INSTRUCTION
    # "is there anything you can tell me about this image"
    return _CAPTION if "anything" in rest and set(rest) <= GENERAL else _QUESTION


def _classify_imperative(words: Words) -> ClauseIntent:
    """Classify a clause that begins with the base form of a verb."""
    if not words:
        return _INSTRUCTION
    verb = words[0]
    rest = _strip_leading(words[1:], "me", "us", "please", "out", "down", "up", "through")
    if verb in DESCRIBE:
        return _classify_topic(rest)
    if verb in WH:
        return _classify_wh(words)
    if verb in CREATE:
        if set(rest) <= GENERAL | GREETINGS | {"only", "answer"}:  # "return yes or no"
            return _INSTRUCTION
        # "write some text", but "give me the text on the sign"
        text = TEXT | {"text", "words"} if verb in WRITE else TEXT
        return _classify_topic(rest, text=text)
    if verb in ASK:
        return _classify_object(" ".join(rest), verb)
    if verb in AUXILIARIES:
        return _classify_auxiliary(words)
    if rest and rest[0] in WH | {"if", "whether"}:
        return _classify_object(" ".join(rest))
    # "use the image to determine how many"
    purpose = next((i for i, word in enumerate(rest) if word == "to"), None)
    if purpose is not None and rest[purpose + 1 :] and rest[purpose + 1] in DESCRIBE | ASK:
        return _classify_imperative(rest[purpose + 1 :])
    return _INSTRUCTION


def _classify_topic(words: Words, *, text: frozenset[str] = TEXT) -> ClauseIntent:
    """Classify the object of "describe" or "give": a question if it is a single property.

    `text` are the nouns that stand for a caption.
    """
    if words and words[0] in WH:
        return _classify_wh(words, indirect=True)
    head = _head_phrase(words)
    if head and head[-1] in ATTRIBUTE and not set(head) & text:
        return _ask_about(words)
    return _CAPTION


def _classify_object(text: str, verb: str = "tell") -> ClauseIntent:
    """Classify the object of a verb such as "name", "count" or "tell"."""
    text = re.sub(r"^(?:please|me|us|of|exactly) ", "", text)
    words = text.split()
    if not words:
        return _INSTRUCTION
    if words[0] in WH:
        result = _classify_wh(words, indirect=True)
        return result if verb != "count" else ClauseIntent("question", result.question)
    if words[0] in ("if", "whether"):
        return _classify_condition(words[1:])
    if words[0] == "about":
        return _classify_topic(words[1:])
    head = _head_phrase(words)
    whole = bool(head) and head[-1] in CONTENT | IMAGE and verb != "count"
    if set(head) & TEXT or (whole and not {"as", "or"} & set(words)):
        return _CAPTION
    if verb in ("answer", "say", "read", "point") and set(words) <= GENERAL | {"question"}:
        return _INSTRUCTION
    if verb == "answer":
        return _INSTRUCTION
    return _ask_about(words, verb)


def _classify_condition(words: Words) -> ClauseIntent:
    """Classify the clause after "if" or "whether"."""
    text = " ".join(words)
    if re.match(r"you (?:can |could )?(?:see|spot|notice)\b", text):
        return _QUESTION
    if match := re.match(r"you (?:can|could|would|might|may) ", text):
        return classify_clause("can you " + text[match.end() :])
    return ClauseIntent("question", direct_question("whether " + text))


def _classify_fragment(words: Words, *, alone: bool) -> ClauseIntent:
    """Classify a clause that does not begin with a verb."""
    embedded = next((i for i, word in enumerate(words[:3]) if word in WH), None)
    if embedded is not None and words[0] not in SUBJECTS | PREPOSITIONS:
        return _classify_wh(words[embedded:], indirect=True)
    head = _head_phrase(words)
    if set(head) & TEXT:
        return _CAPTION
    if alone and words[0] in ("any", "anybody", "anyone") and len(words) > 1:
        return _QUESTION
    if head and head[-1] in ATTRIBUTE and f"{head[-1]} of" in " ".join(words):
        return _ask_about(words)
    if alone and "or" in words[1:-1] and len(words) <= 6 and words[0] not in PREPOSITIONS | {"no"}:
        return _QUESTION
    return _NOTHING


def _ask_about(words: Words, verb: str = "") -> ClauseIntent:
    """Return a question about a thing or its property."""
    return ClauseIntent("question", direct_question(" ".join([verb or "name", *words])))


def _head_phrase(words: Words) -> Words:
    """Return the words of a noun phrase up to its head noun."""
    words = _strip_determiners(words)
    after = PREPOSITIONS | PRONOUNS
    end = next((i for i, word in enumerate(words) if i and word in after), len(words))
    return [] if words[:1] and words[0] in PREPOSITIONS else words[:end]


def _strip_determiners(words: Words) -> Words:
    return _strip_leading(words, *(SUBJECTS - CONTENT), "me", "us") or words[-1:]


def _is_noun_phrase(words: Words) -> bool:
    """Return whether the first word is a noun here: "caption for this", "count of the dogs"."""
    return len(words) == 1 or words[1] in ("of", "for", "please", "or", "in")


def _strip_leading(words: Words, *dropped: str) -> Words:
    """Return the words without those of `dropped` at the start."""
    start = 0
    while start < len(words) and words[start] in dropped:
        start += 1
    return words[start:]


def _base_form(gerund: str) -> str:
    """Return the verb of a gerund: describing, describe."""
    stem = gerund.removesuffix("ing")
    forms = (stem, stem + "e", stem[:-1])
    return next((form for form in forms if form in IMPERATIVES), stem)
