"""Captions taken apart without a tagger: noun phrases, verbs and prepositions, left to right.

A noun phrase is found by its place: determiners, numbers, adjectives and nouns run up to a word
that cannot be in it, and its last noun is the head ("the tennis BALL"). A head that an unknown word
follows, which might be the head in its stead, is not `sure`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from captioner.data.caption_questions import words
from captioner.data.caption_questions.lexicon import is_a, lexicon

_TOKEN = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*|\d+-[^\W\d_]+|\d+|'s\b|[.,;:!?()\"]")
_CLOSED = words.PREPOSITIONS | words.FUNCTION
_ADJECTIVES = words.ADJECTIVES | words.VAGUE_COLOURS
_JOINS = ("and", ",")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase."""

    noun: str
    """What its head stands for: "man" for "guys", and "puppy", not "dog", for "puppies"."""
    plural: bool
    known: bool
    """Whether the head is in the lexicon."""
    sure: bool
    determiner: str = ""
    """ "a", "the", "his", ..., the last of several; "" for none."""
    number: int | None = None
    many: bool = False
    """ "some", "several", "other": more than one, nobody knows how many."""
    modifiers: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    owned: bool = False
    """Whether it follows a "'s" ("a man's HAT")."""
    owns: bool = False
    """Whether a "'s" follows it ("a MAN's hat")."""


@dataclass(frozen=True)
class Item:
    """A step of a caption: a noun phrase, a verb, a preposition, or another word."""

    tag: str
    """ "phrase", "verb", "prep", "stop" (punctuation) or "word"."""
    text: str
    """The word; of a verb, its gerund."""
    form: str = ""
    """Of a verb: "s", "ing", "base" or "ed"."""
    phrase: Phrase | None = None


def tokens(text: str) -> list[str]:
    """Lower-case words, numbers, "'s" and punctuation, nouns of several words in one piece."""
    found = _TOKEN.findall(text.lower().replace("\u2019", "'"))
    lex = lexicon()
    joined: list[str] = []
    i = 0
    while i < len(found):
        size = min(lex.longest, len(found) - i)
        while size > 1 and " ".join(found[i : i + size]) not in lex.nouns:
            size -= 1
        joined.append(" ".join(found[i : i + size]))
        i += size
    return joined


def parse(text: str) -> list[Item]:
    """The items of a caption, in order."""
    found = tokens(text)
    items: list[Item] = []
    i = 0
    while i < len(found):
        end, phrase = _phrase_at(found, i)
        if phrase is None:
            items.append(_item(found[i]))
            end = i + 1
        else:
            items.append(Item("phrase", phrase.noun, phrase=phrase))
        i = end
    return items


def _item(word: str) -> Item:
    if not word[0].isalnum() and word != "'s":
        return Item("stop", word)
    if word in words.PREPOSITIONS:
        return Item("prep", word)
    if word in words.FUNCTION or word in words.ADVERBS:
        return Item("word", word)
    verbs = lexicon().verbs
    if word in verbs:
        return Item("verb", verbs[word][0], verbs[word][1])
    if word.endswith("ing") and len(word) > 5:
        return Item("verb", word, "ing")
    return Item("word", word)


def _phrase_at(found: list[str], start: int) -> tuple[int, Phrase | None]:
    """The noun phrase that starts at a token and where it ends; None where there is none."""
    i, determiner, number, many = _determiners(found, start)
    first, head = i, -1
    modifiers: list[str] = []
    while i < len(found):
        word = found[i]
        opened = i > start
        if word in words.COLOURS and head < 0:
            modifiers.append(word)
        elif _reads_as_noun(found, i, opened, head):
            if head >= 0:
                modifiers.append(found[head])
            head = i
        elif head >= 0 or not (
            _joins_modifiers(found, i, modifiers) or _reads_as_modifier(found, i, start, opened)
        ):
            break
        elif word not in _JOINS:
            modifiers.append(word)
        i += 1
    colours = tuple(words.COLOURS[word] for word in modifiers if word in words.COLOURS)
    if head < 0:
        # "a frobnicator": an unknown noun between a determiner and a word that ends a phrase.
        if not (first > start and modifiers and _may_be_noun(modifiers[-1])):
            return start, None
        if found[i - 1] != modifiers[-1] or (i < len(found) and not _ends(found[i], False)):
            return start, None
        return i, Phrase(
            modifiers[-1], (number or 1) > 1, False, False, determiner, number, many,
            tuple(modifiers[:-1]), colours,
        )  # fmt: skip
    noun, is_plural = lexicon().nouns[found[head]]
    after = found[head + 1] if head + 1 < len(found) else ""
    return head + 1, Phrase(
        noun, is_plural, True, not after or _ends(after, is_plural), determiner, number, many,
        tuple(modifiers), colours, start > 0 and found[start - 1] == "'s", after == "'s",
    )  # fmt: skip


def _determiners(found: list[str], i: int) -> tuple[int, str, int | None, bool]:
    """Reads "the two", "several other", "a couple of"; where they end and what they say."""
    numbers = lexicon().numbers
    determiner, number, many = "", None, False
    while i < len(found):
        word = found[i]
        if word in words.DETERMINERS or word == "another":
            determiner = word
        elif word in numbers:
            number = numbers[word]
        elif word in words.MANY:
            many = True
            determiner = "no" if word == "no" else determiner
            if word in ("couple", "lots", "dozens", "all", "some", "both") and (
                i + 1 < len(found) and found[i + 1] == "of"
            ):
                i += 1
        else:
            break
        i += 1
    return i, determiner, number, many


def _joins_modifiers(found: list[str], i: int, modifiers: list[str]) -> bool:
    """Whether "and" or a comma stands between two adjectives or colours."""
    if found[i] not in _JOINS or not modifiers or i + 1 >= len(found):
        return False
    following = found[i + 1] if found[i + 1] != "and" else found[min(i + 2, len(found) - 1)]
    return all(w in _ADJECTIVES or w in words.COLOURS for w in (modifiers[-1], following))


def _reads_as_modifier(found: list[str], i: int, start: int, opened: bool) -> bool:
    """Whether a word that is no noun may stand before the noun of a phrase."""
    word = found[i]
    if word in _CLOSED or word in words.DETERMINERS or not word[0].isalnum():
        return False
    form = lexicon().verbs.get(word, ("", ""))[1]
    following = found[i + 1] if i + 1 < len(found) else ""
    if form == "ing" or word.endswith("ing"):
        # "the RUNNING dog", "SMILING boy", but not "HOLDING a dog" or "in black HOLDING balls".
        if following in words.DETERMINERS or following in words.PREPOSITIONS:
            return False
        return i == start == 0 or (opened and found[i - 1] not in words.COLOURS)
    if not opened:
        return form not in ("s", "base") and word not in words.ADVERBS and (
            form != "ed" or start == 0
        )  # fmt: skip
    return form != "s"


def _reads_as_noun(found: list[str], i: int, opened: bool, head: int) -> bool:
    """Whether a token is a noun here rather than a verb: "the SLIDE" but "he slides"."""
    lex = lexicon()
    word = found[i]
    if word not in lex.nouns or (word in words.PREPOSITIONS and not opened):
        return False
    following = found[i + 1 : i + 3]
    if (
        len(following) == 2
        and following[1] not in _CLOSED
        and (following[0] in words.AFTER_MODIFIER or following[0] in words.COLOURS)
    ):
        return False  # "a SNOW covered hill", "a LIGHT brown dog"
    form = lex.verbs.get(word, ("", ""))[1]
    before = found[i - 1] if i > 0 else ""
    if head < 0:
        if not form or opened:
            return True
        if before in _JOINS and word in ("rollerblades", "skates", "skis", "boots"):
            return True
        return form != "ing" and before in words.PREPOSITIONS and before != "to"
    if form == "s" or (form in ("base", "ed") and lex.nouns[found[head]][1]):
        return False
    if form == "base":
        # "a boy watch a dog": an article right after it means that it was a verb.
        if following and following[0] in words.DETERMINERS:
            return False
        noun = lex.nouns[found[head]][0]
        animate = is_a(noun, "person") or is_a(noun, "animal")
        return word in words.AFTER_ANIMATE or not animate
    return word not in words.ADJECTIVES and word not in words.PREPOSITIONS


def _may_be_noun(word: str) -> bool:
    plain = word not in _ADJECTIVES and word not in words.COLOURS and word not in words.ADVERBS
    return plain and word not in lexicon().verbs and not word.endswith(("ing", "ed", "ly"))


def _ends(word: str, is_plural: bool) -> bool:
    """Whether a phrase surely ended before this word."""
    if word in _CLOSED or not word[0].isalnum() or word in words.COLOURS:
        return True
    if word in words.DETERMINERS or word in words.ADVERBS or word in words.MANY:
        return True
    if word in lexicon().verbs or word in lexicon().numbers:
        return True
    return word.endswith(("ing", "ed", "ly")) or (not is_plural and word.endswith("s"))
