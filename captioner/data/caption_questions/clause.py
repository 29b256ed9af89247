"""What one caption says of its first subject: what it does, to what, where, and what it wears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.data.caption_questions import words
from captioner.data.caption_questions.chunker import Item, Phrase
from captioner.data.caption_questions.lexicon import is_a
from captioner.data.caption_questions.nouns import spaced

_CLAUSE_ENDS = spaced("while whilst as when where because so before after if but")
_AUXILIARIES = spaced("is are was were be being has have who which that also and then")
# Verbs that say what the subject is like before its main verb comes.
_ATTRIBUTES = spaced("wearing holding carrying having dressing covering sporting")
# "looking AT the ocean" does not say where.
_AIMED = spaced("looking pointing waving barking smiling yelling shooting")


@dataclass(frozen=True)
class Deed:
    """A verb of the subject with its objects, or with those of a preposition right after it."""

    verb: str
    preposition: str
    objects: tuple[Phrase, ...]


@dataclass(frozen=True)
class Statement:
    """What a caption says of its first subject, a person or an animal."""

    subject: Phrase | None = None
    company: tuple[Phrase, ...] = ()
    """Further subjects: the woman of "a man and a woman"."""
    activity: str = ""
    """The gerund of the main verb where it says what the subject does."""
    deeds: tuple[Deed, ...] = ()
    places: tuple[str, ...] = ()
    worn: tuple[Phrase, ...] = ()
    in_mouth: tuple[Phrase, ...] = ()

    @property
    def plural(self) -> bool:
        """Whether the subject is more than one."""
        return bool(self.company) or (self.subject is not None and self.subject.plural)

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns of the subject."""
        return tuple(p.noun for p in (self.subject, *self.company) if p is not None)


def is_animate(noun: str) -> bool:
    """Whether the noun is a person or an animal."""
    return is_a(noun, "person") or is_a(noun, "animal")


def is_place(noun: str) -> bool:
    """Whether a noun answers "where is the dog"."""
    return (is_a(noun, "place") or noun in words.SEATS) and noun not in words.NO_PLACES


def read_statement(items: Sequence[Item]) -> Statement:
    """The statement of a parsed caption; an empty one where its subject is not animate."""
    start, subject, company = _subject(items)
    if subject is None:
        return Statement()
    reader = _Reader(items, subject.plural or bool(company))
    reader.read(start)
    return Statement(
        subject, company, reader.activity, tuple(reader.deeds), tuple(reader.places),
        tuple(reader.worn), tuple(reader.in_mouth),
    )  # fmt: skip


def _subject(items: Sequence[Item]) -> tuple[int, Phrase | None, tuple[Phrase, ...]]:
    """Where the caption goes on after its first subject, that, and those joined to it by "and"."""
    i = 0
    while i < len(items) and items[i].phrase is None:
        if items[i].tag in ("verb", "prep"):
            return i, None, ()
        i += 1
    if i + 2 < len(items) and items[i + 1].text == "of" and items[i + 2].phrase is not None:
        i += 2  # "a group of DOGS"
    subject = items[i].phrase if i < len(items) else None
    if subject is None or not subject.sure or not is_animate(subject.noun) or subject.owns:
        return i, None, ()
    if is_a(subject.noun, "group"):
        return i, None, ()
    company: list[Phrase] = []
    i += 1
    while i + 1 < len(items) and items[i].text in ("and", ","):
        other = items[i + 1].phrase
        if other is None or not is_animate(other.noun) or other.owns:
            break
        company.append(other)
        i += 2
    return i, subject, tuple(company)


class _Reader:
    """Reads on from the subject to the end of its clause."""

    def __init__(self, items: Sequence[Item], plural: bool) -> None:
        self.items = items
        self.plural = plural
        self.activity = ""
        self.deeds: list[Deed] = []
        self.places: list[str] = []
        self.worn: list[Phrase] = []
        self.in_mouth: list[Phrase] = []
        self._verb = ""
        self._main_verb_seen = False
        self._other_seen = False
        """Whether another person or animal came: a participle after it may be the other's."""

    def read(self, start: int) -> None:
        """Reads the clause that the subject ends at `start` of."""
        for i in range(start, len(self.items)):
            item = self.items[i]
            before = self.items[i - 1] if i else item
            if item.text in _CLAUSE_ENDS and item.tag in ("word", "prep"):
                return
            if item.tag == "stop" and item.text in ".;:!?":
                return
            if item.tag == "verb":
                if not self._read_verb(i, item, before):
                    return
            elif item.tag == "prep":
                self._read_preposition(i, item, before)
            elif item.phrase is not None and is_animate(item.phrase.noun):
                if i > start and before.text in ("and", ","):
                    return  # "..., and a dog": the next clause
                self._other_seen = True

    def _read_verb(self, i: int, item: Item, before: Item) -> bool:
        """Takes a verb; False where the clause says nothing more of use."""
        infinitive = before.text == "to"
        finite = item.form in ("s", "ing") or (item.form == "base" and self.plural)
        self._verb = item.text if finite and not infinitive else ""
        if self._other_seen and item.form == "ing" and before.text not in _AUXILIARIES:
            self._verb = ""
        objects = listed(self.items, i + 1)
        if self._verb == "wearing":
            self.worn += objects
        elif self._verb and objects:
            self.deeds.append(Deed(self._verb, "", objects))
        if self._main_verb_seen or item.text in _ATTRIBUTES:
            return True
        self._main_verb_seen = True
        self.activity = "" if self._verb in words.VAGUE else self._verb
        return bool(self._verb) or item.form == "ed"

    def _read_preposition(self, i: int, item: Item, before: Item) -> None:
        objects = listed(self.items, i + 1)
        if not objects:
            return
        if item.text in ("in", "with") and is_a(objects[0].noun, "garment"):
            if not self._other_seen:
                self.worn += [p for p in objects if is_a(p.noun, "garment")]
        elif item.text == "in" and objects[0].noun == "mouth":
            if before.phrase is not None:
                self.in_mouth.append(before.phrase)
        else:
            self.places += self._places(i)
            if self._verb and before.tag == "verb":
                self.deeds.append(Deed(self._verb, item.text, objects))

    def _places(self, i: int) -> list[str]:
        """The place that a preposition names, in a list; empty where it names none."""
        if self.items[i].text not in words.WHERE:
            return []
        if self.items[i].text == "at" and self._verb in _AIMED:
            return []
        phrase = self.items[i + 1].phrase
        # "in the middle of the STREET"
        while (
            phrase is not None
            and phrase.noun in words.PARTS
            and i + 3 < len(self.items)
            and self.items[i + 2].text == "of"
        ):
            i += 2
            phrase = self.items[i + 1].phrase
        if phrase is None or not phrase.sure or phrase.owns or not is_place(phrase.noun):
            return []
        return [phrase.noun]


def listed(items: Sequence[Item], i: int) -> tuple[Phrase, ...]:
    """The noun phrases from item `i` on that are joined by "and" or a comma."""
    found: list[Phrase] = []
    while i < len(items):
        phrase = items[i].phrase
        if phrase is None or phrase.owns:
            break
        found.append(phrase)
        if i + 2 < len(items) and items[i + 1].text == ",":
            i += 3 if items[i + 2].text == "and" else 2
        elif i + 2 < len(items) and items[i + 1].text == "and":
            i += 2
        else:
            break
    return tuple(found)
