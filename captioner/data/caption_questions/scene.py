"""What the captions of one image say between them: who and what is there, and how many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from captioner.data.caption_questions import words
from captioner.data.caption_questions.chunker import Item, Phrase, parse, tokens
from captioner.data.caption_questions.clause import Statement, read_statement
from captioner.data.caption_questions.lexicon import is_a, kinds_of, lexicon, may_be
from captioner.data.caption_questions.nouns import spaced

_UNNAMED_KINDS = {"other", "part", "event", "group thing", "body part", "group"}
_UNNAMED = spaced(
    """object food equipment garment toy device place vehicle tool container bag drink role"""
)


@dataclass(frozen=True)
class Caption:
    """A caption taken apart."""

    items: tuple[Item, ...]
    words: frozenset[str]
    phrases: tuple[Phrase, ...]
    """Of what is really there: no pictures of it, no "without" it."""
    statement: Statement


def read_caption(text: str) -> Caption:
    """Takes a caption apart."""
    items = tuple(parse(text))
    found = frozenset(word for token in tokens(text) for word in token.split())
    return Caption(items, found, tuple(_real(items)), read_statement(items))


def _real(items: Sequence[Item]) -> Iterable[Phrase]:
    for i, item in enumerate(items):
        phrase = item.phrase
        if phrase is None or phrase.determiner == "no" or words.LIKENESS & set(phrase.modifiers):
            continue
        before = items[i - 1].text if i else ""
        second = items[i - 2] if i > 1 else item
        if before in ("without", "like") or (before == "as" and second.form == "ed"):
            continue
        # "on a picture of a dog", but "a picture of a dog" is what captions may begin with.
        if before == "of" and i > 2 and second.phrase and second.phrase.noun in words.LIKENESS:
            continue
        yield phrase


class Scene:
    """The captions of one image together."""

    def __init__(self, references: Iterable[str]) -> None:
        self.captions = tuple(map(read_caption, references))
        self.need = 2 if len(self.captions) > 1 else 1
        """Captions that must agree."""
        self.phrases = tuple(p for caption in self.captions for p in caption.phrases)
        self.statements = tuple(
            c.statement for c in self.captions if c.statement.subject is not None
        )

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word of every caption."""
        return frozenset().union(*(caption.words for caption in self.captions))

    @cached_property
    def shares(self) -> Counter[str]:
        """How many captions surely speak of each noun, kinds counted with what is of the kind."""
        counts: Counter[str] = Counter()
        for caption in self.captions:
            sure = [p.noun for p in caption.phrases if p.known and p.sure]
            counts.update(frozenset().union(*map(kinds_of, sure)))
        return counts

    @cached_property
    def hinted(self) -> frozenset[str]:
        """Nouns that stand anywhere in a caption, a compound's parts among them."""
        forms = lexicon().nouns
        found = {forms[word][0] for word in self.words if word in forms}
        for caption in self.captions:
            for item in caption.items:
                if item.phrase is not None:
                    found.add(item.phrase.noun)
                    found.update(forms[m][0] for m in item.phrase.modifiers if m in forms)
        return frozenset(found)

    def names(self, kind: str) -> Counter[str]:
        """How often each noun of a kind, such as "person", is said."""
        return Counter(p.noun for p in self.phrases if is_a(p.noun, kind))

    def count(self, caption: Caption, noun: str) -> int | None:
        """How many of a noun (or of what may be one) a caption speaks of; None: it does not tell.

        "The dog" after "a dog" is the same dog, "another dog" is one more.
        """
        total = 0
        for phrase in caption.phrases:
            group = is_a(phrase.noun, "group")
            if group and is_a(noun, "person"):
                return None
            if not may_be(phrase.noun, noun):
                continue
            if phrase.many or (phrase.plural and phrase.number is None):
                return None
            if phrase.number is not None:
                total += phrase.number
            elif phrase.determiner in ("a", "an", "another", "") or not total:
                total += 1
        return total

    def single(self, noun: str) -> bool:
        """Whether no caption speaks of more than one of what may be called by the noun."""
        if self._others_unnamed:
            return False
        return all(self.count(caption, noun) in (0, 1) for caption in self.captions)

    @cached_property
    def _others_unnamed(self) -> bool:
        """Whether a caption speaks of "another" or "others" without saying what."""
        bare = ("another", "other", "others", "both")
        return any(i.tag == "word" and i.text in bare for c in self.captions for i in c.items)


def common_name(nouns: Counter[str]) -> str:
    """One noun that is right for all: the commonest that may be each of them, else their kind.

    Empty where there is none, as for a man and a dog.
    """
    for noun in sorted(nouns, key=lambda noun: (-nouns[noun], noun)):
        if is_a(noun, "role") or noun in ("animal", "pet"):
            continue
        if all(may_be(noun, other) for other in nouns):
            return noun
    for kind in ("child", "dog", "person", "animal"):
        if nouns and all(is_a(noun, kind) or is_a(kind, noun) for noun in nouns):
            return kind
    return ""


def is_named(noun: str) -> bool:
    """Whether a noun says what a thing is, unlike "something" or "trick"."""
    return noun not in _UNNAMED and not kinds_of(noun) & _UNNAMED_KINDS
