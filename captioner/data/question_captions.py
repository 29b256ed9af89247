"""Captions made from questions and their answers, for images that have no captions.

COCO-QA turned captions into questions by replacing a noun or a number with a question word and
moving it to the front (Ren, Kiros and Zemel 2015, Exploring Models and Data for Image Question
Answering, section 3.3). This module reverses that: "what is the man riding?" with the answer
"horse" becomes "the man is riding a horse". Word lists replace a parser; a question whose verb is
not recognized gives no caption. Questions about colors and places give none, as their captions
would be too short or lack a preposition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from captioner.data.caption_questions import words
from captioner.data.caption_questions.lexicon import add_article, load_lexicon
from captioner.data.example import Example, pack_weights

_BE, _DO = ("is", "are", "was", "were"), ("do", "does", "did")
_SUBJECT_STARTS = words.DETERMINERS | words.MANY | words.POSSESSIVE
_COMPOUND = {("on", "top"), ("next", "to"), ("in", "front"), ("out", "of"), ("up", "to")}
_MIN_WORDS = 5
"""Words of the shortest caption."""


def captions_from_questions(examples: Iterable[Example]) -> list[Example]:
    """Return one Example per image of the given questions that has at least one caption."""
    captions: dict[tuple[str, str], tuple[Example, dict[str, float]]] = {}
    for example in examples:
        _, texts = captions.setdefault((example.image, example.split), (example, {}))
        weights: dict[str, float] = {}
        for answer, weight in zip(example.references, example.reference_weights, strict=True):
            weights.setdefault(answer, weight)
        for answer, weight in weights.items():
            if text := make_caption(example.question, answer):
                texts.setdefault(text, weight)
    return [
        Example(
            example.image,
            example.image_id,
            tuple(texts),
            example.split,
            rows=example.rows,
            audio=example.audio,
            weights=pack_weights(list(texts.values())),
        )
        for example, texts in captions.values()
        if texts
    ]


def make_caption(question: str, answer: str) -> str:
    """Return the statement of a question and its answer, or "" if no rule applies.

    Both are in lower case; the question mark is optional.
    """
    tokens = question.lower().replace("?", " ").split()
    if "how" in tokens:
        caption = _state_number(tokens, answer)
    elif "what" in tokens and tokens[:4] != ["what", "is", "the", "color"]:
        caption = _state_object(tokens, answer)
    else:
        caption = []
    return " ".join(caption) if len(caption) >= _MIN_WORDS else ""


def _state_number(tokens: list[str], answer: str) -> list[str]:
    """Return the statement for "how many giraffes are standing in a field" and "two"."""
    if tokens[:2] != ["how", "many"] or answer not in load_lexicon().numbers:
        return []
    # COCO-QA takes "is" from the template: "how many people is standing".
    agree = {"is": "are", "was": "were"} if answer != "one" else {}
    return [answer, *(agree.get(token, token) for token in tokens[2:])]


def _state_object(tokens: list[str], answer: str) -> list[str]:
    """Return the statement for a question that has "what" in place of a noun."""
    at = tokens.index("what")
    if at:  # "a man and a woman both holding what"
        return [*tokens[:at], *_noun_phrase(answer), *tokens[at + 1 :]]
    rest = tokens[1:]
    if not rest or rest[0] in ("kind", "type", "color"):
        return []
    if rest[0] in _BE and len(rest) > 1 and _starts_subject(rest[1]):
        return _insert_object(rest[1:], answer, rest[0])
    if rest[0] in _DO:
        return _insert_object(rest[1:], answer, rest[0])
    # "what sits on a table": the noun is the subject
    return [*_noun_phrase(answer), *rest]


def _starts_subject(word: str) -> bool:
    """Return whether a word after "what is" starts a subject ("the man"), and not a predicate."""
    lexicon = load_lexicon()
    is_verb = lexicon.verbs.get(word, ("", ""))[1] in ("ing", "ed")
    if word in _SUBJECT_STARTS or word in lexicon.numbers:
        return True
    return not is_verb and (word in lexicon.nouns or word in words.ADJECTIVES or word == "someone")


def _insert_object(tokens: list[str], answer: str, auxiliary: str) -> list[str]:
    """Return a statement with the object after its verb: "the man is riding a horse on a beach"."""
    forms = ("ing",) if auxiliary in _BE else ("base",)
    at = _find_verb(tokens, forms)
    if at is None:
        return []
    subject, verb, rest = tokens[:at], tokens[at], tokens[at + 1 :]
    if auxiliary in _BE:
        return [*subject, auxiliary, verb, *_place_object(rest, answer)]
    is_plural = auxiliary == "do" or "and" in subject or subject[0] in load_lexicon().numbers
    verb = verb if is_plural else _third_person(verb)
    return [*subject, verb, *_place_object(rest, answer)]


def _place_object(rest: list[str], answer: str) -> list[str]:
    """Return the words after a verb with the object: at their start, or after a preposition.

    A preposition takes the object if another preposition or nothing follows: "lying on" a couch.
    """
    for i, word in enumerate(rest[:3]):
        following = rest[i + 1] if i + 1 < len(rest) else ""
        is_stranded = word in words.PREPOSITIONS and following in {"", *words.PREPOSITIONS}
        if is_stranded and (word, following) not in _COMPOUND:
            return [*rest[: i + 1], *_noun_phrase(answer), *rest[i + 1 :]]
    return [*_noun_phrase(answer), *rest]


def _find_verb(tokens: Sequence[str], forms: Sequence[str]) -> int | None:
    """Return the index of the main verb, which follows the subject."""
    lexicon = load_lexicon()
    for i, word in enumerate(tokens):
        if i == 0 or tokens[i - 1] in words.DETERMINERS:
            continue
        known = lexicon.verbs.get(word, ("", ""))[1] in forms
        if known and (forms[0] == "ing" or word not in lexicon.nouns or i == len(tokens) - 1):
            return i
        if forms[0] == "ing" and word.endswith("ing") and word not in lexicon.nouns:
            return i
    return None


def _third_person(verb: str) -> str:
    lexicon = load_lexicon()
    gerund = lexicon.verbs[verb][0]
    known = (form for form, (name, kind) in lexicon.verbs.items() if kind == "s" and name == gerund)
    return next((form for form in known if form[:2] == verb[:2]), verb + "s")


def _noun_phrase(answer: str) -> list[str]:
    """Return an answer with its article: "a horse", "an umbrella", "horses", "grass"."""
    noun, is_plural = load_lexicon().nouns.get(answer, (answer, answer.endswith("s")))
    if is_plural or answer in words.DETERMINERS or (noun == "person" and answer != "person"):
        return [answer]
    return add_article(answer).split()
