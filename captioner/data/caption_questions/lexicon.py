"""Lookup tables of the word lists: forms of nouns and verbs, and the hierarchy of nouns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import inflect

from captioner.data.caption_questions import nouns, words

_INFLECT = inflect.engine()


@dataclass(frozen=True)
class Lexicon:
    """Nouns, verbs and numbers by their forms."""

    nouns: dict[str, tuple[str, bool]]
    """Form ("puppies", "guys") -> noun ("puppy", "man") and whether the form is plural."""
    parents: dict[str, tuple[str, ...]]
    """Noun -> its direct kinds."""
    verbs: dict[str, tuple[str, str]]
    """Form ("leaps") -> gerund of the first synonym ("jumping") and kind of the form: "s", "ing",
    "base" or "ed"."""
    numbers: dict[str, int]
    longest: int
    """Words in the longest noun."""


@cache
def load_lexicon() -> Lexicon:
    """Return the lexicon; the first call builds it in a fraction of a second."""
    forms: dict[str, tuple[str, bool]] = {}
    parents: dict[str, list[str]] = {}
    for head, entries in nouns.parse_table(nouns.NOUNS):
        kind = _add_synonyms(head, forms)
        for entry in entries:
            noun = _add_synonyms(entry, forms)
            kinds = parents.setdefault(noun, [])
            if noun != kind and kind not in kinds:
                kinds.append(kind)
    forms |= dict.fromkeys(("people", "persons", "humans", "folks"), ("person", True))
    numbers = {str(_INFLECT.number_to_words(str(n))): n for n in range(1, 21)}
    numbers |= {str(n): n for n in range(1, 21)}
    kinds_of = {noun: tuple(kinds) for noun, kinds in parents.items()}
    longest = max(form.count(" ") for form in forms) + 1
    return Lexicon(forms, kinds_of, _verb_forms(), numbers, longest)


def _add_synonyms(entry: str, forms: dict[str, tuple[str, bool]]) -> str:
    """Add singular and plural of each noun in "man=guy" to `forms`; return the first noun."""
    names = [name.replace("_", " ") for name in entry.split("=")]
    first = forms.get(names[0], (names[0], False))[0]
    for name in names:
        always_plural = {name, first} & nouns.PLURAL_ONLY
        forms.setdefault(name, (first, bool(always_plural)))
        if not always_plural and first not in nouns.MASS:
            forms.setdefault(pluralize(name), (first, True))
    return first


@cache
def pluralize(noun: str) -> str:
    """Return the plural: "boxes" for "box"; plural-only nouns are returned unchanged."""
    if noun in nouns.PLURAL_ONLY:
        return noun
    if noun == "person":
        return "people"
    return str(_INFLECT.plural_noun(noun)) if noun[-1:].isalpha() else f"{noun}s"


@cache
def add_article(noun: str) -> str:
    """Return "an umbrella" for "umbrella"; nouns without article are returned unchanged."""
    return noun if noun in nouns.MASS | nouns.PLURAL_ONLY else str(_INFLECT.a(noun))


def is_plural(noun: str) -> bool:
    """Return whether a noun is a known plural: "skis", "scissors"."""
    return load_lexicon().nouns.get(noun, ("", False))[1]


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
def get_kinds(noun: str) -> frozenset[str]:
    """Return the noun itself and its direct and indirect kinds (hypernyms)."""
    return frozenset({noun}).union(*map(get_kinds, load_lexicon().parents.get(noun, ())))


def is_a(noun: str, kind: str) -> bool:
    """Return whether a noun has the given hypernym: `is_a("puppy", "animal")`."""
    return kind in get_kinds(noun)


def is_animate(noun: str) -> bool:
    """Return whether a noun is a person or an animal."""
    return is_a(noun, "person") or is_a(noun, "animal")


@cache
def are_compatible(one: str, other: str) -> bool:
    """Return whether two nouns may denote the same thing.

    Either one is a kind of the other, or both are persons and one is a role ("player" and "woman").
    """
    if is_a(one, other) or is_a(other, one):
        return True
    persons = is_a(one, "person") and is_a(other, "person")
    return persons and (is_a(one, "role") or is_a(other, "role"))


def list_compatible(names: Collection[str]) -> dict[str, set[str]]:
    """Return for each noun the nouns of `names` that may denote the same thing.

    Compatible nouns have a kind in common, so that only those are compared.
    """
    members: dict[str, set[str]] = {}
    for name in names:
        for kind in get_kinds(name):
            members.setdefault(kind, set()).add(name)
    return {
        name: {
            other
            for other in set().union(*(members[kind] for kind in get_kinds(name)))
            if are_compatible(name, other)
        }
        for name in names
    }
