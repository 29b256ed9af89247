"""Parse the first clause of a caption: subject, actions, places, clothes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.data.caption_questions import words
from captioner.data.caption_questions.chunker import Chunk, Phrase
from captioner.data.caption_questions.lexicon import is_a, is_animate
from captioner.text import parse_words

_CLAUSE_ENDS = parse_words("while whilst as when where because so before after if but")
_AUXILIARIES = parse_words("is are was were be being has have who which that also and then")
# Verbs that describe the subject before its main verb.
_ATTRIBUTES = parse_words("wearing holding carrying having dressing covering sporting")
# Verbs with a target: "looking AT the ocean" does not name a place.
_TARGETED = parse_words("looking pointing waving barking smiling yelling shooting")


@dataclass(frozen=True)
class Action:
    """A verb of the subject with its objects, or those of the preposition that follows it."""

    verb: str
    preposition: str
    objects: tuple[Phrase, ...]


@dataclass(frozen=True)
class Clause:
    """A clause whose subject is a person or an animal; empty for other captions."""

    subject: Phrase | None = None
    other_subjects: tuple[Phrase, ...] = ()
    """Further subjects: the woman in "a man and a woman"."""
    activity: str = ""
    """Gerund of the main verb if it answers "what is he doing"."""
    actions: tuple[Action, ...] = ()
    places: tuple[str, ...] = ()
    worn: tuple[Phrase, ...] = ()
    in_mouth: tuple[Phrase, ...] = ()

    @property
    def plural(self) -> bool:
        """True if the subject is plural or there are several subjects."""
        return bool(self.other_subjects) or (self.subject is not None and self.subject.plural)

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns of the subject."""
        return tuple(p.noun for p in (self.subject, *self.other_subjects) if p is not None)


def is_place(noun: str) -> bool:
    """Return whether a noun answers "where is the dog"."""
    return (is_a(noun, "place") or noun in words.SEATS) and noun not in words.NO_PLACES


def parse_clause(chunks: Sequence[Chunk]) -> Clause:
    """Return the first clause of a caption; an empty one if its subject is not animate."""
    start, subject, others = _parse_subject(chunks)
    if subject is None:
        return Clause()
    parser = _ClauseParser(chunks, subject.plural or bool(others))
    parser.parse(start)
    return Clause(
        subject, others, parser.activity, tuple(parser.actions), tuple(parser.places),
        tuple(parser.worn), tuple(parser.in_mouth),
    )  # fmt: skip


def _parse_subject(chunks: Sequence[Chunk]) -> tuple[int, Phrase | None, tuple[Phrase, ...]]:
    """Return the end of the subject, its first phrase, and those joined to it by "and"."""
    i = 0
    while i < len(chunks) and chunks[i].phrase is None:
        if chunks[i].tag in ("verb", "prep"):
            return i, None, ()
        i += 1
    if i + 2 < len(chunks) and chunks[i + 1].text == "of" and chunks[i + 2].phrase is not None:
        i += 2  # "a group of DOGS"
    subject = chunks[i].phrase if i < len(chunks) else None
    if subject is None or not subject.sure or not is_animate(subject.noun) or subject.owns:
        return i, None, ()
    if is_a(subject.noun, "group"):
        return i, None, ()
    others: list[Phrase] = []
    i += 1
    while i + 1 < len(chunks) and chunks[i].text in ("and", ","):
        other = chunks[i + 1].phrase
        if other is None or not is_animate(other.noun) or other.owns:
            break
        others.append(other)
        i += 2
    return i, subject, tuple(others)


class _ClauseParser:
    """Parses the chunks from the end of the subject to the end of its clause."""

    def __init__(self, chunks: Sequence[Chunk], plural: bool) -> None:
        self.chunks = chunks
        self.plural = plural
        self.activity = ""
        self.actions: list[Action] = []
        self.places: list[str] = []
        self.worn: list[Phrase] = []
        self.in_mouth: list[Phrase] = []
        self._verb = ""
        self._main_verb_seen = False
        self._other_seen = False
        """True after another person or animal, to which a later participle may belong."""

    def parse(self, start: int) -> None:
        """Parse the clause whose subject ends before the chunk `start`."""
        for i in range(start, len(self.chunks)):
            chunk = self.chunks[i]
            before = self.chunks[i - 1] if i else chunk
            if chunk.text in _CLAUSE_ENDS and chunk.tag in ("word", "prep"):
                return
            if chunk.tag == "stop" and chunk.text in ".;:!?":
                return
            if chunk.tag == "verb":
                if not self._add_verb(i, chunk, before):
                    return
            elif chunk.tag == "prep":
                self._add_preposition(i, chunk, before)
            elif chunk.phrase is not None and is_animate(chunk.phrase.noun):
                if i > start and before.text in ("and", ","):
                    return  # "..., and a dog": the next clause
                self._other_seen = True

    def _add_verb(self, i: int, chunk: Chunk, before: Chunk) -> bool:
        """Add a verb; return False if the rest of the clause cannot be used."""
        infinitive = before.text == "to"
        finite = chunk.form in ("s", "ing") or (chunk.form == "base" and self.plural)
        self._verb = chunk.text if finite and not infinitive else ""
        if self._other_seen and chunk.form == "ing" and before.text not in _AUXILIARIES:
            self._verb = ""
        objects = list_phrases(self.chunks, i + 1)
        if self._verb == "wearing":
            self.worn += objects
        elif self._verb and objects:
            self.actions.append(Action(self._verb, "", objects))
        if self._main_verb_seen or chunk.text in _ATTRIBUTES:
            return True
        self._main_verb_seen = True
        self.activity = "" if self._verb in words.VAGUE else self._verb
        return bool(self._verb) or chunk.form == "ed"

    def _add_preposition(self, i: int, chunk: Chunk, before: Chunk) -> None:
        objects = list_phrases(self.chunks, i + 1)
        if not objects:
            return
        if chunk.text in ("in", "with") and is_a(objects[0].noun, "garment"):
            if not self._other_seen:
                self.worn += [p for p in objects if is_a(p.noun, "garment")]
        elif chunk.text == "in" and objects[0].noun == "mouth":
            if before.phrase is not None:
                self.in_mouth.append(before.phrase)
        else:
            self.places += self._find_places(i)
            if self._verb and before.tag == "verb":
                self.actions.append(Action(self._verb, chunk.text, objects))

    def _find_places(self, i: int) -> list[str]:
        """Return a list of the place after a preposition; empty if it names none."""
        if self.chunks[i].text not in words.WHERE:
            return []
        if self.chunks[i].text == "at" and self._verb in _TARGETED:
            return []
        phrase = self.chunks[i + 1].phrase
        while phrase is not None and phrase.noun in words.PARTS and i + 3 < len(self.chunks):
            if self.chunks[i + 2].text != "of":
                break
            i += 2
            phrase = self.chunks[i + 1].phrase  # "in the middle of the STREET"
        if phrase is None or not phrase.sure or phrase.owns or not is_place(phrase.noun):
            return []
        return [phrase.noun]


def list_phrases(chunks: Sequence[Chunk], i: int) -> tuple[Phrase, ...]:
    """Return the noun phrases from chunk `i` on that are joined by "and" or a comma."""
    phrases: list[Phrase] = []
    while i < len(chunks):
        phrase = chunks[i].phrase
        if phrase is None or phrase.owns:
            break
        phrases.append(phrase)
        if i + 2 < len(chunks) and chunks[i + 1].text == ",":
            i += 3 if chunks[i + 2].text == "and" else 2
        elif i + 2 < len(chunks) and chunks[i + 1].text == "and":
            i += 2
        else:
            break
    return tuple(phrases)
