"""Constraints on the words of a caption, as automata over tokens.

A caption must contain a word, must not contain it, must begin with it or must not end in it. A
word is matched by its letters, however the tokenizer splits it into pieces. It stands between
characters that are neither letters nor digits: "dog" is a word of "a dog's ball" and "a hot-dog",
and not of "dogs". Case does not matter.

Shapes: S states, V vocabulary, L characters of the longest piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from captioner.backends.vocabulary import TextTokenizer
from captioner.config import DecodingConfig
from captioner.decoding import (
    FORBIDDEN,
    Automaton,
    Rule,
    can_satisfy_both,
    min_length,
    no_repeat_ngram,
    satisfy_automata,
)
from captioner.errors import CaptionerError
from captioner.text import DANGLING_WORDS, normalize_caption


@dataclass(frozen=True)
class Constraints:
    """The constraints of a `DecodingConfig` in the form that the searches take."""

    rules: tuple[Rule, ...] = ()
    required: tuple[Automaton, ...] = ()
    """Those that some words must satisfy, for the beams of a constrained search."""


def build_constraints(
    config: DecodingConfig, tokenizer: TextTokenizer, *, lowercase: bool
) -> Constraints:
    """Return the constraints of a configuration on captions, which may be in lower case.

    Raises:
        CaptionerError: A word cannot be generated, or there is no room for all of them.
    """
    normalize = partial(_normalize, lowercase=lowercase)
    automata, required, rules = [], [], []
    positive: dict[str, Automaton] = {}  # by the option as messages name it
    if config.prefix:
        automaton = _prefix_automaton(normalize(config.prefix, "prefix"), tokenizer)
        automata.append(automaton)
        positive[f"prefix: {config.prefix!r}"] = automaton
    if config.no_dangling:
        automata.append(_PhraseTable(DANGLING_WORDS, tokenizer, remember=False).not_last())
    for text in config.must_include:
        phrases = [normalize(phrase, "must_include") for phrase in text.split("|")]
        required.append(_required_automaton(phrases, text, tokenizer))
        positive[f"must_include: {text!r}"] = required[-1]
    if config.banned:
        phrases = [normalize(phrase, "banned") for phrase in config.banned]
        automata.append(_PhraseTable(phrases, tokenizer).banned())
        _check_banned(automata[-1], config.banned, positive)
    if config.min_length:
        rules.append(min_length(config.min_length, eos=tokenizer.ends))
    if config.no_repeat_ngram:
        rules.append(no_repeat_ngram(config.no_repeat_ngram))
    if automata or required:
        automata += required
        least = sum(int(automaton.min_remaining[0]) for automaton in automata) + 1
        if least > config.max_length:
            raise CaptionerError(
                f"the words of must_include and prefix take {least} tokens with the end mark, more"
                f" than max_length={config.max_length}"
            )
        rules.append(satisfy_automata(automata, max_length=config.max_length))
    return Constraints(tuple(rules), tuple(required))


def _required_automaton(phrases: list[str], text: str, tokenizer: TextTokenizer) -> Automaton:
    """Accept captions that contain one of the phrases, the alternatives of the option `text`."""
    try:
        return _PhraseTable(phrases, tokenizer).required()
    except ValueError:
        raise CaptionerError(
            f"must_include: {text!r} cannot be generated with the tokens of this checkpoint"
        ) from None


def _check_banned(
    banned: Automaton, phrases: Sequence[str], positive: Mapping[str, Automaton]
) -> None:
    """Raise CaptionerError if words that must occur, by option, contain banned ones."""
    for option, automaton in positive.items():
        if not can_satisfy_both(automaton, banned):
            names = ", ".join(map(repr, phrases))
            raise CaptionerError(
                f"{option} cannot be generated without words that are banned ({names}); remove one"
                " of the options"
            )


def _normalize(phrase: str, option: str, *, lowercase: bool) -> str:
    text = normalize_caption(phrase, lowercase=lowercase)
    if not any(c.isalnum() for c in text):
        raise CaptionerError(f"{option}: {phrase!r} has no letter and no digit; name a word")
    return text


def _prefix_automaton(text: str, tokenizer: TextTokenizer) -> Automaton:
    """Accept captions that begin with these words, the last of which is not continued."""
    tokens, pieces = _encode_words(text, tokenizer), tokenizer.list_pieces()
    unknown = (t >= len(pieces) or pieces[t] is None or t in tokenizer.suppressed for t in tokens)
    if any(unknown):
        raise CaptionerError(f"prefix: {text!r} cannot be generated with the tokens of this model")
    table = np.full((len(tokens) + 2, len(pieces)), FORBIDDEN)
    for state, token in enumerate(tokens):
        table[state, token] = state + 1
    within = [not piece or (text[-1].isalnum() and _is_word(piece[0])) for piece in pieces]
    table[-2] = np.where(within, FORBIDDEN, len(table) - 1)
    table[-1] = np.where([piece is None for piece in pieces], FORBIDDEN, len(table) - 1)
    table[-2:, list(tokenizer.ends)] = len(table) - 1
    return _build_automaton(table, tokenizer)


def _encode_words(text: str, tokenizer: TextTokenizer) -> list[int]:
    """Return the ids of words, without those that only begin or end a text."""
    return [token for token in tokenizer.encode(text)[:-1] if token not in tokenizer.silent]


def _build_automaton(table: np.ndarray, tokenizer: TextTokenizer) -> Automaton:
    """Return an automaton of a table (S, V), whose state tokens without text do not change."""
    table[:, list(tokenizer.silent)] = np.arange(len(table))[:, None]
    return Automaton(table, eos=tokenizer.ends)


def _is_word(c: str) -> bool:
    """Return whether a character, or a byte of one beyond ASCII, counts as part of a word."""
    return c.isalnum() or "\udc80" <= c <= "\udcff"


def _to_bytes(c: str) -> str:
    """Return the bytes of a character in the form of `TextTokenizer.list_pieces`."""
    return c.encode(errors="surrogatepass").decode("ascii", "surrogateescape")


def _spell(phrase: str, tokenizer: TextTokenizer, pieces: Sequence[str | None]) -> str | None:
    """Return a phrase in lower case as the pieces spell it, with "t - shirt" for WordPiece.

    None if its characters are not in the vocabulary.
    """
    tokens = _encode_words(phrase, tokenizer)
    texts = [pieces[token] if token < len(pieces) else None for token in tokens]
    joined = "".join(text for text in texts if text is not None)
    whole = joined.encode(errors="surrogateescape").decode(errors="surrogateescape")
    return None if None in texts else whole.strip(" ").lower()


# The state of a match: the phrases with the number of their characters that are matched and the
# bytes of the next one; whether the last character was a space; whether it was part of a word. In
# the state _FOUND, a whole phrase has occurred.
_Match = tuple[int, int, str]
_Progress = tuple[frozenset[_Match], bool, bool]
_START: _Progress = (frozenset(), True, False)
_FOUND: _Progress = (frozenset({(-1, -1, "")}), False, False)
_FOUND_NUMBER = 1


class _PhraseTable:
    """A finite automaton that finds phrases, as a table of states and tokens.

    It is built over characters, by exploring all states, and then extended to tokens. `remember`
    states whether the state after a whole phrase differs from that before it.
    """

    following: np.ndarray
    """(S, V), the next state after each token."""
    complete: np.ndarray
    """(S,), whether a phrase has just ended, if no letter and no digit follows."""

    def __init__(
        self, phrases: Sequence[str], tokenizer: TextTokenizer, *, remember: bool = True
    ) -> None:
        self.tokenizer, self.ends = tokenizer, list(tokenizer.ends)
        pieces = tokenizer.list_pieces()
        texts = [(piece or "").lower() for piece in pieces]
        spelled = (_spell(phrase, tokenizer, pieces) for phrase in phrases)
        self.phrases = [phrase for phrase in spelled if phrase]
        # A character can also be generated byte by byte.
        characters = set("".join(self.phrases))
        self.bytes = {c: {_to_bytes(c), _to_bytes(c.upper())} for c in characters}
        self.beginning: dict[str, list[int]] = {}  # phrases by first character, or byte of it
        for number, phrase in enumerate(self.phrases):
            for c in {phrase[0], *(whole[0] for whole in self.bytes[phrase[0]])}:
                self.beginning.setdefault(c, []).append(number)
        self.remember = remember
        self.special = np.array([piece is None for piece in pieces])
        # All word characters that are in no phrase are alike, and so are all other characters.
        characters = characters.union(" ", *(x for both in self.bytes.values() for x in both))
        classes = {c: i for i, c in enumerate(sorted(characters))}
        others = {True: len(classes), False: len(classes) + 1}
        steps = self._explore([*classes, "\N{CYRILLIC CAPITAL LETTER A}", "\N{FULL BLOCK}"])
        end = len(classes) + len(others)  # after the end of a piece, the state does not change
        table = np.concatenate([steps, np.arange(len(steps))[:, None]], 1)
        codes = np.full((len(texts), max(map(len, texts))), end)  # (V, L)
        for row, text in zip(codes, texts, strict=True):
            row[: len(text)] = [classes.get(c, others[_is_word(c)]) for c in text]
        self.following = np.repeat(np.arange(len(table))[:, None], len(texts), 1)
        for column in codes.T:
            self.following = table[self.following, column]

    def _explore(self, characters: Sequence[str]) -> list[list[int]]:
        """Return the next state after each character, for all states; set `complete`."""
        states, numbers = [_START, _FOUND], {_START: 0, _FOUND: _FOUND_NUMBER}
        steps = []
        for state in states:  # the list grows in the loop
            after = [self._after(state, c) for c in characters]
            for new in after:
                if numbers.setdefault(new, len(states)) == len(states):
                    states.append(new)
            steps.append([numbers[new] for new in after])
        self.complete = np.array([self._is_complete(state) for state in states])
        return steps

    def _after(self, state: _Progress, c: str) -> _Progress:
        """Return the state after one more character."""
        progress, was_space, was_word = state
        if state == _FOUND or (was_space and c == " "):
            return state
        is_word, matches = _is_word(c), list[_Match | None]()
        for number, n, begun in progress:
            phrase = self.phrases[number]
            if n < len(phrase):
                matches.append(self._advance(number, n, begun + c))
            elif self.remember and not (is_word and _is_word(phrase[-1])):
                return _FOUND
            elif c == " " and not self.remember:
                matches.append((number, n, ""))  # a text may end in spaces
        for number in self.beginning.get(c, ()):
            if not (was_word and _is_word(self.phrases[number][0])):
                matches.append(self._advance(number, 0, c))
        return frozenset(match for match in matches if match), c == " ", is_word

    def _advance(self, number: int, n: int, begun: str) -> _Match | None:
        """Return the match if `begun` is character n of a phrase, or its first bytes."""
        expected = self.phrases[number][n]
        if begun == expected or begun in self.bytes[expected]:
            return number, n + 1, ""
        if any(whole.startswith(begun) for whole in self.bytes[expected]):
            return number, n, begun
        return None

    def _is_complete(self, state: _Progress) -> bool:
        return state == _FOUND or any(n == len(self.phrases[i]) for i, n, _ in state[0])

    def required(self) -> Automaton:
        """Accept captions that contain one of the phrases."""
        table = self.following.copy()
        table[:, self.ends] = np.where(self.complete, _FOUND_NUMBER, FORBIDDEN)[:, None]
        return self._automaton(table)

    def banned(self) -> Automaton:
        """Accept captions that contain none of the phrases.

        A token that completes a phrase is always forbidden. Otherwise, the search would generate
        "dog" with a suffix that is not a word.
        """
        table = np.where(self.complete[self.following], FORBIDDEN, self.following)
        table[:, self.ends] = 0
        return self._automaton(table)

    def not_last(self) -> Automaton:
        """Accept captions that do not end in one of the phrases."""
        table = self.following.copy()
        table[:, self.ends] = np.where(self.complete, FORBIDDEN, 0)[:, None]
        return self._automaton(table)

    def _automaton(self, table: np.ndarray) -> Automaton:
        special = self.special.copy()
        special[list(self.tokenizer.suppressed)] = True
        special[self.ends] = False
        table[:, special] = FORBIDDEN
        return _build_automaton(table, self.tokenizer)
