"""Split captions into noun phrases, verbs and prepositions, without a part-of-speech tagger.

A noun phrase is recognized by position: determiners, numbers, adjectives and nouns up to a word
that cannot be part of it. The last noun is its head ("the tennis BALL"). A phrase is not `sure` if
an unknown word follows the head, because that word may be the head instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from captioner.data.caption_questions import words
from captioner.data.caption_questions.lexicon import is_animate, load_lexicon

_TOKEN = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*|\d+-[^\W\d_]+|\d+|'s\b|[.,;:!?()\"]")
_CLOSED = words.PREPOSITIONS | words.FUNCTION
_ADJECTIVES = words.ADJECTIVES | words.VAGUE_COLORS
_CONJUNCTIONS = ("and", ",")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase."""

    noun: str
    """Normalized head: "man" for "guys", but "puppy", not "dog", for "puppies"."""
    plural: bool
    known: bool
    """True if the head is in the lexicon."""
    sure: bool
    """True if the phrase certainly ends at the head."""
    determiner: str = ""
    """ "a", "the", "his", ...; the last of several; "" for none."""
    number: int | None = None
    many: bool = False
    """True for an unknown number above one: "some", "several", "other"."""
    modifiers: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    owned: bool = False
    """True if it follows a "'s" ("a man's HAT")."""
    owns: bool = False
    """True if a "'s" follows it ("a MAN's hat")."""


@dataclass(frozen=True)
class Chunk:
    """A noun phrase, a verb, a preposition or another word of a caption."""

    tag: str
    """ "phrase", "verb", "prep", "stop" (punctuation) or "word"."""
    text: str
    """The word; the gerund for a verb, the noun for a phrase."""
    form: str = ""
    """Form of a verb: "s", "ing", "base" or "ed"."""
    phrase: Phrase | None = None


@dataclass(frozen=True)
class _Quantity:
    """The determiners and numbers at the start of a phrase."""

    end: int
    """Index of the token after them."""
    determiner: str = ""
    number: int | None = None
    many: bool = False


def split_words(text: str) -> list[str]:
    """Return words in lower case, numbers, "'s" and punctuation; a compound noun is one token."""
    parts = _TOKEN.findall(text.lower().replace("\u2019", "'"))
    lexicon = load_lexicon()
    tokens: list[str] = []
    i = 0
    while i < len(parts):
        size = min(lexicon.longest, len(parts) - i)
        while size > 1 and " ".join(parts[i : i + size]) not in lexicon.nouns:
            size -= 1
        tokens.append(" ".join(parts[i : i + size]))
        i += size
    return tokens


def chunk_caption(text: str) -> list[Chunk]:
    """Return the chunks of a caption, in order."""
    tokens = split_words(text)
    chunks: list[Chunk] = []
    i = 0
    while i < len(tokens):
        end, phrase = _read_phrase(tokens, i)
        chunks.append(
            Chunk("phrase", phrase.noun, phrase=phrase) if phrase else _tag_word(tokens[i])
        )
        i = end if phrase else i + 1
    return chunks


def _tag_word(word: str) -> Chunk:
    if not word[0].isalnum() and word != "'s":
        return Chunk("stop", word)
    if word in words.PREPOSITIONS:
        return Chunk("prep", word)
    if word in words.FUNCTION or word in words.ADVERBS:
        return Chunk("word", word)
    verbs = load_lexicon().verbs
    if word in verbs:
        return Chunk("verb", verbs[word][0], verbs[word][1])
    if word.endswith("ing") and len(word) > 5:
        return Chunk("verb", word, "ing")
    return Chunk("word", word)


def _read_phrase(tokens: list[str], start: int) -> tuple[int, Phrase | None]:
    """Return the end of the noun phrase that starts at a token, and the phrase or None."""
    quantity = _read_quantity(tokens, start)
    i, head = quantity.end, -1
    modifiers: list[str] = []
    while i < len(tokens):
        word = tokens[i]
        opened = i > start
        if word in words.COLORS and head < 0:
            modifiers.append(word)
        elif _is_noun(tokens, i, opened, head):
            if head >= 0:
                modifiers.append(tokens[head])
            head = i
        elif head >= 0 or not (
            _is_conjunction(tokens, i, modifiers) or _is_modifier(tokens, i, start, opened)
        ):
            break
        elif word not in _CONJUNCTIONS:
            modifiers.append(word)
        i += 1
    if head < 0:
        return _end_unknown_phrase(tokens, start, i, quantity, modifiers)
    noun, is_plural = load_lexicon().nouns[tokens[head]]
    after = tokens[head + 1] if head + 1 < len(tokens) else ""
    return head + 1, Phrase(
        noun, is_plural, True, not after or _ends_phrase(after, is_plural), quantity.determiner,
        quantity.number, quantity.many, tuple(modifiers), _select_colors(modifiers),
        start > 0 and tokens[start - 1] == "'s", after == "'s",
    )  # fmt: skip


def _end_unknown_phrase(
    tokens: list[str], start: int, end: int, quantity: _Quantity, modifiers: list[str]
) -> tuple[int, Phrase | None]:
    """Return a phrase whose head is unknown ("a frobnicator"), or None.

    The unknown noun must stand between a determiner and a word that ends a phrase.
    """
    if not (quantity.end > start and modifiers and _may_be_noun(modifiers[-1])):
        return start, None
    if tokens[end - 1] != modifiers[-1]:
        return start, None
    if end < len(tokens) and not _ends_phrase(tokens[end], False):
        return start, None
    return end, Phrase(
        modifiers[-1], (quantity.number or 1) > 1, False, False, quantity.determiner,
        quantity.number, quantity.many, tuple(modifiers[:-1]), _select_colors(modifiers),
    )  # fmt: skip


def _select_colors(modifiers: list[str]) -> tuple[str, ...]:
    return tuple(words.COLORS[word] for word in modifiers if word in words.COLORS)


def _read_quantity(tokens: list[str], i: int) -> _Quantity:
    """Read "the two", "several other" or "a couple of"."""
    numbers = load_lexicon().numbers
    determiner, number, many = "", None, False
    while i < len(tokens):
        word = tokens[i]
        if word in words.DETERMINERS or word == "another":
            determiner = word
        elif word in numbers:
            number = numbers[word]
        elif word in words.MANY:
            many = True
            determiner = "no" if word == "no" else determiner
            if word in ("couple", "lots", "dozens", "all", "some", "both") and (
                i + 1 < len(tokens) and tokens[i + 1] == "of"
            ):
                i += 1
        else:
            break
        i += 1
    return _Quantity(i, determiner, number, many)


def _is_conjunction(tokens: list[str], i: int, modifiers: list[str]) -> bool:
    """Return whether a token is "and" or a comma between two adjectives or colors."""
    if tokens[i] not in _CONJUNCTIONS or not modifiers or i + 1 >= len(tokens):
        return False
    following = tokens[i + 1] if tokens[i + 1] != "and" else tokens[min(i + 2, len(tokens) - 1)]
    return all(w in _ADJECTIVES or w in words.COLORS for w in (modifiers[-1], following))


def _is_modifier(tokens: list[str], i: int, start: int, opened: bool) -> bool:
    """Return whether a word other than a noun may modify the noun of a phrase."""
    word = tokens[i]
    if word in _CLOSED or word in words.DETERMINERS or not word[0].isalnum():
        return False
    form = load_lexicon().verbs.get(word, ("", ""))[1]
    following = tokens[i + 1] if i + 1 < len(tokens) else ""
    if form == "ing" or word.endswith("ing"):
        # "the RUNNING dog", "SMILING boy", but not "HOLDING a dog" or "in black HOLDING balls".
        if following in words.DETERMINERS or following in words.PREPOSITIONS:
            return False
        return i == start == 0 or (opened and tokens[i - 1] not in words.COLORS)
    if opened:
        return form != "s"
    return form not in ("s", "base") and word not in words.ADVERBS and (form != "ed" or start == 0)


def _is_noun(tokens: list[str], i: int, opened: bool, head: int) -> bool:
    """Return whether a token is a noun rather than a verb: "the SLIDE" but "he slides".

    `opened` is True if the phrase has words before the token; `head` is the index of its last
    noun, or -1.
    """
    lexicon = load_lexicon()
    word = tokens[i]
    if word not in lexicon.nouns or (word in words.PREPOSITIONS and not opened):
        return False
    following = tokens[i + 1 : i + 3]
    is_modified = following and (
        following[0] in words.AFTER_MODIFIER or following[0] in words.COLORS
    )
    if is_modified and len(following) == 2 and following[1] not in _CLOSED:
        return False  # "a SNOW covered hill", "a LIGHT brown dog"
    form = lexicon.verbs.get(word, ("", ""))[1]
    before = tokens[i - 1] if i > 0 else ""
    if head < 0:
        if not form or opened:
            return True
        if before in _CONJUNCTIONS and word in ("rollerblades", "skates", "skis", "boots"):
            return True
        return form != "ing" and before in words.PREPOSITIONS and before != "to"
    noun, is_plural = lexicon.nouns[tokens[head]]
    if form == "s" or (form in ("base", "ed") and is_plural):
        return False
    if form == "base":
        # "a boy watch a dog": a word before an article is a verb.
        if following and following[0] in words.DETERMINERS:
            return False
        return word in words.AFTER_ANIMATE or not is_animate(noun)
    return word not in words.ADJECTIVES and word not in words.PREPOSITIONS


def _may_be_noun(word: str) -> bool:
    plain = word not in _ADJECTIVES and word not in words.COLORS and word not in words.ADVERBS
    return plain and word not in load_lexicon().verbs and not word.endswith(("ing", "ed", "ly"))


def _ends_phrase(word: str, is_plural: bool) -> bool:
    """Return whether a phrase must end before a word."""
    if word in _CLOSED or not word[0].isalnum() or word in words.COLORS:
        return True
    if word in words.DETERMINERS or word in words.ADVERBS or word in words.MANY:
        return True
    if word in load_lexicon().verbs or word in load_lexicon().numbers:
        return True
    return word.endswith(("ing", "ed", "ly")) or (not is_plural and word.endswith("s"))
