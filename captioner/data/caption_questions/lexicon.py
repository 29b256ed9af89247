"""The word lists made ready to look up: the forms of nouns and verbs, and what is of which kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import inflect

from captioner.data.caption_questions import nouns, words

_INFLECT = inflect.engine()


@dataclass(frozen=True)
class Lexicon:
    """What `lexicon()` builds from the lists."""

    nouns: dict[str, tuple[str, bool]]
    """Any form ("puppies", "guys") -> the noun ("puppy", "man") and whether the form is plural."""
    parents: dict[str, tuple[str, ...]]
    """A noun -> its kinds, direct ones only."""
    verbs: dict[str, tuple[str, str]]
    """Any form ("runs") -> the gerund of the verb that stands for it ("running") and which form
    it is: "s", "ing", "base" or "ed"."""
    numbers: dict[str, int]
    longest: int
    """Words in the longest noun."""


@cache
def lexicon() -> Lexicon:
    """The one lexicon, built on first use in a fraction of a second."""
    forms: dict[str, tuple[str, bool]] = {}
    parents: dict[str, list[str]] = {}
    kind = ""
    for line in nouns.NOUNS.strip().splitlines():
        head, colon, rest = line.partition(":")
        if colon:
            kind = _add_synonyms(head, forms)
        else:
            rest = line
        for entry in rest.split():
            noun = _add_synonyms(entry, forms)
            above = parents.setdefault(noun, [])
            if noun != kind and kind not in above:
                above.append(kind)
    forms |= dict.fromkeys(("people", "persons", "humans", "folks"), ("person", True))
    numbers = {str(_INFLECT.number_to_words(n)): n for n in range(1, 21)}
    numbers |= {str(n): n for n in range(1, 21)}
    return Lexicon(
        forms,
        {noun: tuple(above) for noun, above in parents.items()},
        _verb_forms(),
        numbers,
        max(form.count(" ") for form in forms) + 1,
    )


def _add_synonyms(entry: str, forms: dict[str, tuple[str, bool]]) -> str:
    """Enters "man=guy" in both numbers; returns the noun that they stand for."""
    names = [name.replace("_", " ") for name in entry.split("=")]
    first = forms.get(names[0], (names[0], False))[0]
    for name in names:
        always_plural = {name, first} & nouns.PLURAL_ONLY
        forms.setdefault(name, (first, bool(always_plural)))
        if not always_plural and first not in nouns.MASS:
            forms.setdefault(plural(name), (first, True))
    return first


@cache
def plural(noun: str) -> str:
    """ "boxes" of "box"; a noun without singular stays."""
    if noun in nouns.PLURAL_ONLY:
        return noun
    return "people" if noun == "person" else str(_INFLECT.plural_noun(noun))


@cache
def with_article(noun: str) -> str:
    """ "an umbrella" of "umbrella"; a noun that takes no article stays."""
    return noun if noun in nouns.MASS | nouns.PLURAL_ONLY else str(_INFLECT.a(noun))


def _verb_forms() -> dict[str, tuple[str, str]]:
    forms: dict[str, tuple[str, str]] = {}
    for entry in words.VERBS.split():
        names = entry.split("=")
        result = _gerund(names[0])
        for name in names:
            forms.setdefault(_gerund(name), (result, "ing"))
            forms.setdefault(_third_person(name), (result, "s"))
            forms.setdefault(name, (result, "base"))
            forms.setdefault(_past(name), (result, "ed"))
    return forms


def _gerund(verb: str) -> str:
    if verb in words.IRREGULAR_GERUNDS:
        return words.IRREGULAR_GERUNDS[verb]
    if verb in words.DOUBLED:
        return verb + verb[-1] + "ing"
    silent = verb.endswith("e") and not verb.endswith(("ee", "ye", "oe"))
    return (verb[:-1] if silent else verb) + "ing"


def _third_person(verb: str) -> str:
    if verb in words.IRREGULAR_THIRD:
        return words.IRREGULAR_THIRD[verb]
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if _ends_in_consonant_y(verb) else verb + "s"


def _past(verb: str) -> str:
    if _ends_in_consonant_y(verb):
        return verb[:-1] + "ied"
    return verb + (verb[-1] if verb in words.DOUBLED else "") + ("d" if verb[-1] == "e" else "ed")


def _ends_in_consonant_y(verb: str) -> bool:
    return verb.endswith("y") and verb[-2] not in "aeiou"


@cache
def kinds_of(noun: str) -> frozenset[str]:
    """The noun itself and all that it is a kind of."""
    return frozenset({noun}).union(*map(kinds_of, lexicon().parents.get(noun, ())))


def is_a(noun: str, kind: str) -> bool:
    """Whether a noun is of a kind: `is_a("puppy", "animal")`."""
    return kind in kinds_of(noun)


@cache
def may_be(one: str, other: str) -> bool:
    """Whether two nouns may be said of the same thing.

    One is a kind of the other, or both are people of which one is named by what she does ("player"
    and "woman").
    """
    if is_a(one, other) or is_a(other, one):
        return True
    people = is_a(one, "person") and is_a(other, "person")
    return people and (is_a(one, "role") or is_a(other, "role"))
