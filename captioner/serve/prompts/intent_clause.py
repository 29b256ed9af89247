"""What one clause of a chat prompt asks for.

Frames such as "can you tell me" are removed. What is left begins with a question word, an auxiliary
verb or an imperative, and is read by the object of that: "describe the picture" and "what is in it"
ask for a caption, "describe the color of the car" and "what is on the table" are questions.
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
_SIGHT = re.compile(
    r"(?:can|could|do|did)(?: not)? (?:you|u) (?:see|spot|notice|find|make out|recognize)(?: |$)"
)
_HOW_TO = re.compile(r"how (?:would|do|can|could|should|might|will) (?:you|i|we|one|people) ")
_MIND = re.compile(r"(?:would|do) you mind (\w+ing)\b")


@dataclass(frozen=True)
class Reading:
    """What a clause asks for."""

    kind: Literal["caption", "question", "instruction", "nothing"]
    """An instruction is a request that asks for neither, such as "be brief"."""
    question: str = ""
    """The question in direct form; empty where the clause itself is to be asked."""


_CAPTION, _QUESTION = Reading("caption"), Reading("question")
_INSTRUCTION, _NOTHING = Reading("instruction"), Reading("nothing")


def read_clause(text: str, *, alone: bool = False) -> Reading:
    """Read a normalized clause; removes frames until an imperative or a question is left.

    `alone` is whether it is all of its sentence.
    """
    if not text:
        return _NOTHING
    if match := _MIND.match(text):
        return _read_imperative([_base(match[1]), *text[match.end() :].split()])
    if match := _SIGHT.match(text):
        return _read_sight(text[match.end() :])
    if match := _HOW_TO.match(text):
        words = text[match.end() :].split()
        return _read_imperative(words) if words and words[0] in DESCRIBE else _QUESTION
    if match := _REQUEST.match(text):
        rest = text[match.end() :].split()
        if rest[:1] in (["say"], ["think"]):
            return _QUESTION
        return _read_imperative(_without(rest, "please", "also", "just"))
    if match := _INQUIRY.match(text):
        return _read_object(text[match.end() :])
    if match := _WISH.match(text):
        return _read_imperative(["give", *text[match.end() :].split()])
    words = text.split()
    if words[0] in WH:
        return _read_wh(words)
    if words[0] in AUXILIARIES:
        return _read_auxiliary(words)
    if words[0] in IMPERATIVES and not _is_noun_phrase(words):
        return _read_imperative(words)
    return _read_fragment(words, alone=alone)


def _read_sight(rest: str) -> Reading:
    """Read what follows "can you see": whether a thing is there, or the whole image."""
    words = _strip_determiners(rest.split())
    if not words or set(words) <= GENERAL:
        return _INSTRUCTION
    return _read_wh(words, indirect=True) if words[0] in WH else _QUESTION


def _read_wh(words: Words, *, indirect: bool = False) -> Reading:
    """Read a clause that begins with a question word; `indirect` is one like "what the dog is"."""
    question = Reading("question", direct_question(" ".join(words)) if indirect else "")
    if words[0] != "what":
        return question
    rest = words[1:]
    if set(rest) <= GENERAL:
        return _CAPTION
    if "question" in rest and set(rest) & {"answer", "following", "this"}:
        return _INSTRUCTION
    # "what would be a good caption for this"
    rest = _without(rest, *AUXILIARIES, "be", "s")
    head = _head_phrase(rest)
    if set(head) & TEXT and words[1] not in ("do", "does", "did"):
        return _CAPTION
    # "what story does the photo tell"
    subject = _strip_determiners(rest)
    if subject[:1] and subject[0] in IMAGE and set(subject[1:]) & PRESENT and len(subject) == 2:
        return _CAPTION
    return question


def _read_auxiliary(words: Words) -> Reading:
    """Read a clause that begins with an auxiliary verb: a question, or "do not ..."."""
    rest = words[1:]
    if rest[:1] == ["not"]:
        if words[0] == "do" and not (rest[1:] and rest[1] in SUBJECTS):
            return _INSTRUCTION
        return _QUESTION
    if words[0] == "do" and rest and rest[0] in DESCRIBE:
        return _read_imperative(rest)
    if words[:3] == ["have", "a", "look"] or not rest:
        return _INSTRUCTION
    # "is there anything you can tell me about this image"
    return _CAPTION if "anything" in rest and set(rest) <= GENERAL else _QUESTION


def _read_imperative(words: Words) -> Reading:
    """Read a clause that begins with the base form of a verb."""
    if not words:
        return _INSTRUCTION
    verb, rest = words[0], _without(words[1:], "me", "us", "please", "out", "down", "up", "through")
    if verb in DESCRIBE:
        return _read_topic(rest)
    if verb in WH:
        return _read_wh(words)
    if verb in CREATE:
        if set(rest) <= GENERAL | GREETINGS | {"only", "answer"}:  # "return yes or no"
            return _INSTRUCTION
        # "write some text", but "give me the text on the sign"
        text = TEXT | {"text", "words"} if verb in WRITE else TEXT
        return _read_topic(rest, text=text)
    if verb in ASK:
        return _read_object(" ".join(rest), verb)
    if verb in AUXILIARIES:
        return _read_auxiliary(words)
    if rest and rest[0] in WH | {"if", "whether"}:
        return _read_object(" ".join(rest))
    # "use the image to determine how many"
    purpose = next((i for i, word in enumerate(rest) if word == "to"), None)
    if purpose is not None and rest[purpose + 1 :] and rest[purpose + 1] in DESCRIBE | ASK:
        return _read_imperative(rest[purpose + 1 :])
    return _INSTRUCTION


def _read_topic(words: Words, *, text: frozenset[str] = TEXT) -> Reading:
    """Read what is to be described or given: one property is a question, all else a caption.

    `text` are the nouns for a caption.
    """
    if words and words[0] in WH:
        return _read_wh(words, indirect=True)
    head = _head_phrase(words)
    if head and head[-1] in ATTRIBUTE and not set(head) & text:
        return _about(words)
    return _CAPTION


def _read_object(text: str, verb: str = "tell") -> Reading:
    """Read what is to be named, counted or reported."""
    text = re.sub(r"^(?:please|me|us|of|exactly) ", "", text)
    words = text.split()
    if not words:
        return _INSTRUCTION
    if words[0] in WH:
        reading = _read_wh(words, indirect=True)
        return reading if verb != "count" else Reading("question", reading.question)
    if words[0] in ("if", "whether"):
        return _read_condition(words[1:])
    if words[0] == "about":
        return _read_topic(words[1:])
    head = _head_phrase(words)
    whole = bool(head) and head[-1] in CONTENT | IMAGE and verb != "count"
    if set(head) & TEXT or (whole and not {"as", "or"} & set(words)):
        return _CAPTION
    if verb in ("answer", "say", "read", "point") and set(words) <= GENERAL | {"question"}:
        return _INSTRUCTION
    if verb == "answer":
        return _INSTRUCTION
    return _about(words, verb)


def _read_condition(words: Words) -> Reading:
    """Read what follows "if" or "whether"."""
    text = " ".join(words)
    if re.match(r"you (?:can |could )?(?:see|spot|notice)\b", text):
        return _QUESTION
    if match := re.match(r"you (?:can|could|would|might|may) ", text):
        return read_clause("can you " + text[match.end() :])
    return Reading("question", direct_question("whether " + text))


def _read_fragment(words: Words, *, alone: bool) -> Reading:
    """Read a clause without a verb at its start."""
    embedded = next((i for i, word in enumerate(words[:3]) if word in WH), None)
    if embedded is not None and words[0] not in SUBJECTS | PREPOSITIONS:
        return _read_wh(words[embedded:], indirect=True)
    head = _head_phrase(words)
    if set(head) & TEXT:
        return _CAPTION
    if alone and words[0] in ("any", "anybody", "anyone") and len(words) > 1:
        return _QUESTION
    if head and head[-1] in ATTRIBUTE and f"{head[-1]} of" in " ".join(words):
        return _about(words)
    if alone and "or" in words[1:-1] and len(words) <= 6 and words[0] not in PREPOSITIONS | {"no"}:
        return _QUESTION
    return _NOTHING


def _about(words: Words, verb: str = "") -> Reading:
    """Return the question about a thing or a property of it."""
    return Reading("question", direct_question(" ".join([verb or "name", *words])))


def _head_phrase(words: Words) -> Words:
    """Return the words of a noun phrase up to its head noun."""
    words = _strip_determiners(words)
    after = PREPOSITIONS | PRONOUNS
    end = next((i for i, word in enumerate(words) if i and word in after), len(words))
    return [] if words[:1] and words[0] in PREPOSITIONS else words[:end]


def _strip_determiners(words: Words) -> Words:
    return _without(words, *(SUBJECTS - CONTENT), "me", "us") or words[-1:]


def _is_noun_phrase(words: Words) -> bool:
    """Whether an imperative's word is a noun here: "caption for this", "count of the dogs"."""
    return len(words) == 1 or words[1] in ("of", "for", "please", "or", "in")


def _without(words: Words, *dropped: str) -> Words:
    """Return words without the given ones at their start."""
    start = 0
    while start < len(words) and words[start] in dropped:
        start += 1
    return words[start:]


def _base(gerund: str) -> str:
    """Return the verb of a gerund: describing, describe."""
    stem = gerund.removesuffix("ing")
    forms = (stem, stem + "e", stem[:-1])
    return next((form for form in forms if form in IMPERATIVES), stem)
