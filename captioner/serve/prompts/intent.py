"""Classify a chat prompt as a request for a caption or as a question.

A prompt is split into sentences and clauses, which `intent_clause` classifies. A prompt with a
question in any clause is a question; one without requests a caption. Prompts in a few other
languages are recognized by their function words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from captioner.serve.prompts.intent_clause import ClauseIntent, classify_clause
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
    correct_spelling,
)

MAX_CLAUSE_WORDS = 60
"""Maximum number of words of a clause that are classified; its question is not truncated."""

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
    (
        re.compile(r"^(?:do|would) you (?:think|believe|suppose) (?:that )?you (can|could)\b"),
        r"\1 you",
    ),
    (re.compile(r"\b(what|who|where|how|when|which|that|there|it|he|she)'s\b"), r"\1 is"),
    (re.compile(r"\b(what|who|where|how|when|that|there)s\b"), r"\1 is"),
)
_CAPTION_WORD = re.compile(r"\b(?:caption(?:s|ed|ing)?|alt text)\b")
_READING_VERB = re.compile(r"\b(?:says?|said|reads?|written|means?|spells?)\b")
"""Verbs with which "caption" means a text in the image."""
_TITLE = re.compile(
    r"what (?:would|could|should) (?:you|i|we) (?:call|title|name)"
    rf" (?:(?:this|the|that|my) )?(?:this|it|{'|'.join(sorted(IMAGE))})$"
)
_TRAILING_PHRASE = re.compile(
    r" (?:please|pls|plz|thanks|thank you|for me"
    r"|in (?:\w+ ){0,3}(?:words?|sentences?|english|details?|brief|short|lines?))$"
)
_PARENTHESIS = re.compile(r",\s+(?:in|with|using|at) [\w ]+,")
_POLITE = re.compile(
    r"(?:please|pls|plz|kindly|just|also|maybe|perhaps|now|then|so|well|and|but|or|ok|okay|first"
    r"|next|finally|thanks|thank you|sorry|excuse me|good (?:morning|evening|afternoon|day)"
    r"|(?:hi|hey|hello|dear)(?: there| \w+(?=$))?|simply|briefly|quickly|carefully|again)(?: |$)"
)
_IMAGE_PHRASE = re.compile(
    r"(?:in|from|on|given|using|based on|looking at|according to|within|for|about|regarding)"
    rf" (?:\w+ ){{0,3}}(?:{'|'.join(sorted(IMAGE))}) (?=\w)"
)
"""Phrases that only refer to the image, such as "in this picture"."""
_NOTHING = ClauseIntent("nothing")


@dataclass(frozen=True)
class Intent:
    """The intent of a prompt."""

    task: Literal["caption", "question"]
    question: str | None = None
    """The question for the model; None if a caption is requested."""


def classify_intent(prompt: str, *, captions: bool = True) -> Intent:
    """Return the intent of a prompt.

    For a model without `captions`, any prompt that ends with a question mark is a question.
    """
    if not captions and prompt.rstrip().endswith(("?", "\uff1f")):
        intent = classify_intent(prompt)
        return intent if intent.question else Intent("question", prompt.strip())
    prompt = prompt.replace("\u2019", "'").replace("`", "'")
    prompt = _LABEL.sub("\n", _QUOTED.sub(r"\n\1\n", prompt))
    prompt = _PARENTHESIS.sub("", prompt)
    questions, elaborates = [], False
    for sentence in map(str.strip, _SENTENCE.split(prompt)):
        # Text after "describe the people:" specifies the description.
        result = _NOTHING if elaborates else _classify_sentence(sentence)
        elaborates = result.kind == "caption" and sentence.endswith(":")
        if result.kind == "question":
            questions.append(result.question)
    return Intent("question", " ".join(questions)) if questions else Intent("caption")


def _classify_sentence(sentence: str) -> ClauseIntent:
    """Return the intent of a sentence."""
    words, verbatim = _words_of(sentence), ClauseIntent("question", sentence)
    if _CJK.search(sentence):
        return verbatim if _asks_in_cjk(sentence) else _NOTHING
    if _is_foreign(words):
        return verbatim if _asks_in_foreign(words, sentence) else _NOTHING
    kinds, clauses = set(), _clauses(sentence)
    for start, clause in clauses:
        result = _classify_start(_normalize(clause), alone=len(clauses) == 1)
        if result.kind == "question":
            return ClauseIntent("question", result.question or sentence[start:].strip(" ,;:"))
        kinds.add(result.kind)
    if sentence.endswith("?") and kinds <= {"nothing"} and not set(words) <= GENERAL | GREETINGS:
        return verbatim
    return ClauseIntent("caption") if "caption" in kinds else _NOTHING


def _classify_start(clause: str, *, alone: bool) -> ClauseIntent:
    """Classify a clause by its first words."""
    words = clause.split()
    if _TITLE.match(clause) or (_CAPTION_WORD.search(clause) and not _READING_VERB.search(clause)):
        return ClauseIntent("caption")
    if len(words) <= MAX_CLAUSE_WORDS:
        return classify_clause(clause, alone=alone)
    return ClauseIntent(classify_clause(" ".join(words[:MAX_CLAUSE_WORDS]), alone=alone).kind)


def _clauses(sentence: str) -> list[tuple[int, str]]:
    """Split a sentence at commas, and before an imperative or a question word after "and"."""
    cuts = [(match.start(), match.end()) for match in _CLAUSE.finditer(sentence)]
    cuts += [
        (match.start(), match.end())
        for match in _CONJUNCTION.finditer(sentence)
        if correct_spelling(match[1].lower()) in IMPERATIVES | WH
    ]
    clauses, start = [], 0
    for end, following in sorted(cuts):
        if end >= start:
            clauses.append((start, sentence[start:end]))
            start = following
    return [*clauses, (start, sentence[start:])]


def _normalize(clause: str) -> str:
    """Return a clause in lower case, with typing errors corrected, without polite phrases."""
    text = " ".join(correct_spelling(word) for word in _words_of(clause))
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    while match := _TRAILING_PHRASE.search(text):
        text = text[: match.start()]
    while match := _POLITE.match(text) or _IMAGE_PHRASE.match(text):
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
