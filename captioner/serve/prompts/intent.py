"""Whether a chat prompt asks for a caption or a question, and what the question is.

A prompt is split into sentences and clauses, which `intent_clause` reads. One question in a prompt
makes it a question; a prompt without one asks for a caption. Prompts in a few other languages are
recognized by their function words alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from captioner.serve.prompts.intent_clause import Reading, read_clause
from captioner.serve.prompts.intent_words import (
    CJK_ASK,
    CJK_DESCRIBE,
    ENGLISH,
    FOREIGN,
    FOREIGN_DESCRIBE,
    FOREIGN_WH,
    GENERAL,
    GREETINGS,
    IMAGE,
    IMPERATIVES,
    WH,
    corrected,
)

MOST_WORDS = 60
"""Of a clause that are read; its question is not cut by that."""

_QUOTED = re.compile(r"[\"\u201c]([^\"\u201c\u201d]*\?)[\"\u201d]")
_LABEL = re.compile(r"(?i)(?:^|(?<=\s))(?:q|question|a|answer|short answer|user|assistant) ?:")
_SENTENCE = re.compile(r"(?<=[.!?;:])\s+|(?<=[\u3002\uff1f\uff01])|\n+")
_CLAUSE = re.compile(r"[,()]\s*|\s[-\u2013\u2014]+\s")
_CONJUNCTION = re.compile(r"(?i)\s(?:and|then|and then)\s+(?:please\s+)?(?=(\w+))")
_CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
_CONTRACTIONS = (
    (re.compile(r"\b(?:can't|cant|cannot)\b"), "can not"),
    (re.compile(r"\b(?:won't|wont)\b"), "will not"),
    (re.compile(r"\b(\w+)n't\b"), r"\1 not"),
    (re.compile(r"\b(do|does|did|is|are|was|were|has|have|would|could|should)nt\b"), r"\1 not"),
    (re.compile(r"^(\w+) (?:do|would) you (?:think|say|believe|guess)\b"), r"\1"),
    (re.compile(r"\b(what|who|where|how|when|which|that|there|it|he|she)'s\b"), r"\1 is"),
    (re.compile(r"\b(what|who|where|how|when|that|there)s\b"), r"\1 is"),
)
_CAPTIONS = re.compile(r"\b(?:caption(?:s|ed|ing)?|alt text)\b")
_READS = re.compile(r"\b(?:says?|said|reads?|written|means?|spells?)\b")
"""With these, a caption is a text within the image."""
_TITLE = re.compile(
    r"what (?:would|could|should) (?:you|i|we) (?:call|title|name)"
    rf" (?:(?:this|the|that|my) )?(?:this|it|{'|'.join(sorted(IMAGE))})$"
)
_END = re.compile(
    r" (?:please|pls|plz|thanks|thank you|for me"
    r"|in (?:\w+ ){0,3}(?:words?|sentences?|english|details?|brief|short|lines?))$"
)
_ASIDE = re.compile(r",\s+(?:in|with|using|at) [\w ]+,")
_POLITE = re.compile(
    r"(?:please|pls|plz|kindly|just|also|maybe|perhaps|now|then|so|well|and|but|or|ok|okay|first"
    r"|next|finally|thanks|thank you|sorry|excuse me|good (?:morning|evening|afternoon|day)"
    r"|(?:hi|hey|hello|dear)(?: there| \w+(?=$))?|simply|briefly|quickly|carefully|again)(?: |$)"
)
_SETTING = re.compile(
    r"(?:in|from|on|given|using|based on|looking at|according to|within|for|about|regarding)"
    rf" (?:\w+ ){{0,3}}(?:{'|'.join(sorted(IMAGE))}) (?=\w)"
)
"""Words that only name the image, such as "in this picture"."""
_NOTHING = Reading("nothing")


@dataclass(frozen=True)
class Intent:
    """What a prompt asks for."""

    task: Literal["caption", "question"]
    question: str | None = None
    """What the model is to be asked; None where a caption is asked for."""


def read_intent(prompt: str) -> Intent:
    """Decide what a prompt asks for."""
    prompt = prompt.replace("\u2019", "'").replace("`", "'")
    prompt = _LABEL.sub("\n", _QUOTED.sub(r"\n\1\n", prompt))
    prompt = _ASIDE.sub("", prompt)
    questions, elaborates = [], False
    for sentence in map(str.strip, _SENTENCE.split(prompt)):
        # What follows "describe the people:" says how.
        reading = _NOTHING if elaborates else _read_sentence(sentence)
        elaborates = reading.kind == "caption" and sentence.endswith(":")
        if reading.kind == "question":
            questions.append(reading.question)
    return Intent("question", " ".join(questions)) if questions else Intent("caption")


def _read_sentence(sentence: str) -> Reading:
    """Return what a sentence asks for."""
    words, asked = _words_of(sentence), Reading("question", sentence)
    if _CJK.search(sentence):
        return asked if _asks_in_cjk(sentence) else _NOTHING
    if _is_foreign(words):
        return asked if _asks_in_foreign(words, sentence) else _NOTHING
    kinds, clauses = set(), _clauses(sentence)
    for start, clause in clauses:
        reading = _read_start(_normalized(clause), alone=len(clauses) == 1)
        if reading.kind == "question":
            return Reading("question", reading.question or sentence[start:].strip(" ,;:"))
        kinds.add(reading.kind)
    if sentence.endswith("?") and kinds <= {"nothing"} and not set(words) <= GENERAL | GREETINGS:
        return asked
    return Reading("caption") if "caption" in kinds else _NOTHING


def _read_start(clause: str, *, alone: bool) -> Reading:
    """Read a clause, of a very long one its start."""
    words = clause.split()
    if _TITLE.match(clause) or (_CAPTIONS.search(clause) and not _READS.search(clause)):
        return Reading("caption")
    if len(words) <= MOST_WORDS:
        return read_clause(clause, alone=alone)
    return Reading(read_clause(" ".join(words[:MOST_WORDS]), alone=alone).kind)


def _clauses(sentence: str) -> list[tuple[int, str]]:
    """Split a sentence at commas, and before an imperative or a question word after "and"."""
    cuts = [(match.start(), match.end()) for match in _CLAUSE.finditer(sentence)]
    cuts += [
        (match.start(), match.end())
        for match in _CONJUNCTION.finditer(sentence)
        if corrected(match[1].lower()) in IMPERATIVES | WH
    ]
    clauses, start = [], 0
    for end, following in sorted(cuts):
        if end >= start:
            clauses.append((start, sentence[start:end]))
            start = following
    return [*clauses, (start, sentence[start:])]


def _normalized(clause: str) -> str:
    """Return a clause in lower case, with typing errors corrected, without politeness."""
    text = " ".join(corrected(word) for word in _words_of(clause))
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    while match := _END.search(text):
        text = text[: match.start()]
    while match := _POLITE.match(text) or _SETTING.match(text):
        text = text[match.end() :]
    return text


def _words_of(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)?", text.lower().replace("-", " "))


def _is_foreign(words: Sequence[str]) -> bool:
    known = [word for word in words if word in FOREIGN]
    return len(known) >= 2 and not set(words) & (ENGLISH - FOREIGN)


def _asks_in_foreign(words: Sequence[str], sentence: str) -> bool:
    asks = sentence.endswith("?") or words[0] in FOREIGN_WH
    if set(words) & FOREIGN_DESCRIBE or not asks:
        return False
    return bool(set(words) & FOREIGN_WH) or not set(words) <= FOREIGN | IMAGE


def _asks_in_cjk(sentence: str) -> bool:
    if any(word in sentence for word in CJK_DESCRIBE):
        return False
    return sentence.endswith(("?", "\uff1f")) or any(word in sentence for word in CJK_ASK)
