"""Combine the captions of one image: the nouns that they mention, and how many of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from captioner.data.caption_questions import words
from captioner.data.caption_questions.chunker import Chunk, Phrase, chunk_caption, split_words
from captioner.data.caption_questions.clause import Clause, parse_clause
from captioner.data.caption_questions.lexicon import are_compatible, get_kinds, is_a, load_lexicon
from captioner.text import parse_words

_UNSPECIFIC_KINDS = {"other", "part", "event", "group thing", "body part", "group"}
_UNSPECIFIC = parse_words("""object food equipment garment toy device place vehicle tool container
    bag drink role""")


@dataclass(frozen=True)
class ParsedCaption:
    """The parts of a caption."""

    chunks: tuple[Chunk, ...]
    words: frozenset[str]
    phrases: tuple[Phrase, ...]
    """Phrases of things in the image: not after "without", and not "a poster of" them."""
    clause: Clause


def parse_caption(text: str) -> ParsedCaption:
    """Return the parts of a caption."""
    chunks = tuple(chunk_caption(text))
    parts = frozenset(word for token in split_words(text) for word in token.split())
    return ParsedCaption(chunks, parts, tuple(_iterate_present(chunks)), parse_clause(chunks))


def _iterate_present(chunks: Sequence[Chunk]) -> Iterator[Phrase]:
    """Yield the phrases of things that are in the image themselves."""
    for i, chunk in enumerate(chunks):
        phrase = chunk.phrase
        if phrase is None or phrase.determiner == "no" or words.LIKENESS & set(phrase.modifiers):
            continue
        before = chunks[i - 1].text if i else ""
        second = chunks[i - 2] if i > 1 else chunk
        if before in ("without", "like") or (before == "as" and second.form == "ed"):
            continue
        # "on a picture of a dog"; but "a picture of a dog" at the start is the image itself.
        if before == "of" and i > 2 and second.phrase and second.phrase.noun in words.LIKENESS:
            continue
        yield phrase


class Scene:
    """The captions of one image together."""

    def __init__(self, references: Iterable[str]) -> None:
        self.captions = tuple(map(parse_caption, references))
        self.min_votes = 2 if len(self.captions) > 1 else 1
        """Number of captions that must agree on an answer."""
        self.phrases = tuple(p for caption in self.captions for p in caption.phrases)
        self.clauses = tuple(c.clause for c in self.captions if c.clause.subject is not None)

    @cached_property
    def words(self) -> frozenset[str]:
        """All words of all captions."""
        return frozenset().union(*(caption.words for caption in self.captions))

    @cached_property
    def mentions(self) -> Counter[str]:
        """Number of captions that certainly mention each noun or something of its kind."""
        counts: Counter[str] = Counter()
        for caption in self.captions:
            sure = [p.noun for p in caption.phrases if p.known and p.sure]
            counts.update(frozenset().union(*map(get_kinds, sure)))
        return counts

    @cached_property
    def all_nouns(self) -> frozenset[str]:
        """All nouns in the captions, including the parts of compounds."""
        forms = load_lexicon().nouns
        nouns = {forms[word][0] for word in self.words if word in forms}
        for caption in self.captions:
            for chunk in caption.chunks:
                if chunk.phrase is not None:
                    nouns.add(chunk.phrase.noun)
                    nouns.update(forms[m][0] for m in chunk.phrase.modifiers if m in forms)
        return frozenset(nouns)

    def count_nouns(self, kind: str) -> Counter[str]:
        """Return the number of phrases with each noun of a kind, such as "person"."""
        return Counter(p.noun for p in self.phrases if is_a(p.noun, kind))

    def count_objects(self, caption: ParsedCaption, noun: str) -> int | None:
        """Return how many objects compatible with a noun a caption mentions; None if unclear.

        "The dog" after "a dog" is the same dog, "another dog" is one more.
        """
        total = 0
        for phrase in caption.phrases:
            if is_a(phrase.noun, "group") and is_a(noun, "person"):
                return None
            if not are_compatible(phrase.noun, noun):
                continue
            if phrase.many or (phrase.plural and phrase.number is None):
                return None
            if phrase.number is not None:
                total += phrase.number
            elif phrase.determiner in ("a", "an", "another", "") or not total:
                total += 1
        return total

    def is_single(self, noun: str) -> bool:
        """Return whether no caption mentions more than one object compatible with a noun."""
        if self._mentions_others:
            return False
        return all(self.count_objects(caption, noun) in (0, 1) for caption in self.captions)

    @cached_property
    def _mentions_others(self) -> bool:
        """True if a caption contains "another" or "others" without a noun."""
        bare = ("another", "other", "others", "both")
        return any(i.tag == "word" and i.text in bare for c in self.captions for i in c.chunks)


def find_common_name(nouns: Counter[str]) -> str:
    """Return a noun that fits all nouns: the most common compatible one, else their hypernym.

    The result is "" if there is none, as for "man" and "dog".
    """
    for noun in sorted(nouns, key=lambda noun: (-nouns[noun], noun)):
        if is_a(noun, "role") or noun in ("animal", "pet"):
            continue
        if all(are_compatible(noun, other) for other in nouns):
            return noun
    for kind in ("child", "dog", "person", "animal"):
        if nouns and all(is_a(noun, kind) or is_a(kind, noun) for noun in nouns):
            return kind
    return ""


def is_specific(noun: str) -> bool:
    """Return whether a noun identifies a thing, unlike "something" or "trick"."""
    return noun not in _UNSPECIFIC and not get_kinds(noun) & _UNSPECIFIC_KINDS
