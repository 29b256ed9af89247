"""Words that a caption must hold, must not hold or must not end in, as automata over tokens.

A word is matched by its letters, however the tokenizer cuts it into pieces. It stands between
characters that are neither letters nor digits: "dog" is a word of "a dog's ball" and "a hot-dog",
and none of "dogs". Case does not matter.

Shapes: S states, V vocabulary, L characters of the longest piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from captioner.config import DecodingConfig
from captioner.decoding import (
    FORBIDDEN,
    Automaton,
    Rule,
    min_length,
    no_repeat_ngram,
    repetition_penalty,
    satisfy_automata,
)
from captioner.errors import CaptionerError
from captioner.text import DANGLING_WORDS, normalize_caption
from captioner.tokenizer import EOS, Tokenizer


@dataclass(frozen=True)
class Constraints:
    """What a `DecodingConfig` asks of words, as the searches take it."""

    rules: tuple[Rule, ...] = ()
    required: tuple[Automaton, ...] = ()


def build_constraints(
    config: DecodingConfig, tokenizer: Tokenizer, *, lowercase: bool
) -> Constraints:
    """The rules of a configuration; raises CaptionerError for words that cannot be written."""
    tidy = partial(_tidy, lowercase=lowercase)
    automata, required, rules = [], [], []
    if config.prefix:
        automata.append(_beginning(tidy(config.prefix, "prefix"), tokenizer))
    if config.banned:
        phrases = [tidy(phrase, "banned") for phrase in config.banned]
        automata.append(_Phrases(phrases, tokenizer).banned())
    if config.no_dangling:
        automata.append(_Phrases(DANGLING_WORDS, tokenizer, remember=False).not_last())
    for alternatives in config.must_include:
        phrases = [tidy(phrase, "must_include") for phrase in alternatives.split("|")]
        try:
            required.append(_Phrases(phrases, tokenizer).wanted())
        except ValueError:
            raise CaptionerError(
                f"must_include: {alternatives!r} cannot be written in this checkpoint's tokens"
            ) from None
    if config.min_length:
        rules.append(min_length(config.min_length, eos=EOS))
    if config.no_repeat_ngram:
        rules.append(no_repeat_ngram(config.no_repeat_ngram))
    if config.repetition_penalty != 1:
        rules.append(repetition_penalty(config.repetition_penalty))
    if automata or required:
        least = sum(int(automaton.min_remaining[0]) for automaton in (*automata, *required)) + 1
        if least > config.max_length:
            raise CaptionerError(
                f"the words of must_include and prefix take {least} tokens with the end mark;"
                f" max_length={config.max_length} has no room for them"
            )
        rules.append(satisfy_automata([*automata, *required], max_length=config.max_length))
    return Constraints(tuple(rules), tuple(required))


def _tidy(phrase: str, option: str, *, lowercase: bool) -> str:
    text = normalize_caption(phrase, lowercase=lowercase)
    if not any(c.isalnum() for c in text):
        raise CaptionerError(f"{option}: {phrase!r} has no letter and no digit; name a word")
    return text


def _beginning(text: str, tokenizer: Tokenizer) -> Automaton:
    """Texts that begin with these words, and do not go on within the last."""
    tokens, pieces = tokenizer.encode(text)[:-1], tokenizer.list_pieces()
    table = np.full((len(tokens) + 2, len(pieces)), FORBIDDEN)
    for state, token in enumerate(tokens):
        table[state, token] = state + 1
    within = [not piece or (text[-1].isalnum() and _is_word(piece[0])) for piece in pieces]
    table[-2] = np.where(within, FORBIDDEN, len(table) - 1)
    table[-1] = np.where([piece is None for piece in pieces], FORBIDDEN, len(table) - 1)
    table[-2:, EOS] = len(table) - 1
    return Automaton(torch.from_numpy(table), eos=EOS)


def _is_word(c: str) -> bool:
    # Beyond ASCII most characters are letters, and so then are the bytes of one.
    return c.isalnum() or "\udc80" <= c <= "\udcff"


def _in_bytes(c: str) -> str:
    """A character as `Tokenizer.pieces` has the bytes of one."""
    return c.encode(errors="surrogatepass").decode("ascii", "surrogateescape")


# How far each phrase has come, whether the last character was a space and whether it was part of
# a word. FOUND stands for all that comes after a whole phrase.
_Progress = tuple[frozenset[tuple[int, int]], bool, bool]
_START: _Progress = (frozenset(), True, False)
_FOUND: _Progress = (frozenset({(-1, -1)}), False, False)


class _Phrases:
    """An automaton that finds phrases, as tables over states and tokens.

    `following` (S, V) are the next states; `complete` (S,) is True where a phrase has just been
    spelt out, if no letter and no digit follows; `found` is the state after that, if it is to be
    remembered.
    """

    def __init__(
        self, phrases: Sequence[str], tokenizer: Tokenizer, *, remember: bool = True
    ) -> None:
        pieces = tokenizer.list_pieces()
        texts = [(piece or "").lower() for piece in pieces]
        known = set("".join(texts))
        # A character that is in no piece is written byte by byte.
        spelt = ("".join(c if c in known else _in_bytes(c) for c in p.lower()) for p in phrases)
        self.phrases, self.remember = list(spelt), remember
        self.special = np.array([piece is None for piece in pieces])
        classes = {c: i for i, c in enumerate(sorted(set("".join(self.phrases)) | {" "}))}
        others = {True: len(classes), False: len(classes) + 1}
        examples = [*classes, "\N{CYRILLIC CAPITAL LETTER A}", "\N{FULL BLOCK}"]
        states, numbers, steps = [_START, _FOUND], {_START: 0, _FOUND: 1}, []
        for state in states:  # which grow under way
            after = [self._after(state, c) for c in examples]
            for new in after:
                if numbers.setdefault(new, len(states)) == len(states):
                    states.append(new)
            steps.append([numbers[new] for new in after])
        self.complete = np.array([self._is_complete(state) for state in states])
        self.found = 1

        end = len(examples)  # behind the end of a piece nothing changes
        table = np.concatenate([steps, np.arange(len(steps))[:, None]], 1)
        codes = np.full((len(texts), max(map(len, texts))), end)
        for row, text in zip(codes, texts, strict=True):
            row[: len(text)] = [classes.get(c, others[_is_word(c)]) for c in text]
        self.following = np.repeat(np.arange(len(table))[:, None], len(texts), 1)
        for column in codes.T:
            self.following = table[self.following, column]

    def _after(self, state: _Progress, c: str) -> _Progress:
        """What one more character makes of a state."""
        progress, was_space, was_word = state
        if state == _FOUND or (was_space and c == " "):
            return state
        is_word, new = _is_word(c), set()
        for number, n in progress:
            phrase = self.phrases[number]
            if n == len(phrase):
                if self.remember and not (is_word and _is_word(phrase[-1])):
                    return _FOUND
                if c == " " and not self.remember:
                    new.add((number, n))  # a text may end in spaces
            elif phrase[n] == c:
                new.add((number, n + 1))
        for number, phrase in enumerate(self.phrases):
            if phrase[0] == c and not (was_word and is_word):
                new.add((number, 1))
        return frozenset(new), c == " ", is_word

    def _is_complete(self, state: _Progress) -> bool:
        return state == _FOUND or any(n == len(self.phrases[i]) for i, n in state[0])

    def wanted(self) -> Automaton:
        """Texts that hold one of the phrases."""
        table = self.following.copy()
        table[:, EOS] = np.where(self.complete, self.found, FORBIDDEN)
        return self._automaton(table)

    def banned(self) -> Automaton:
        """Texts that hold none. A token that spells one out is forbidden, whatever might follow:
        otherwise "dog" would come back with an ending that makes no word."""
        table = np.where(self.complete[self.following], FORBIDDEN, self.following)
        table[:, EOS] = 0
        return self._automaton(table)

    def not_last(self) -> Automaton:
        """Texts that do not end in one of the phrases, which are not remembered."""
        table = self.following.copy()
        table[:, EOS] = np.where(self.complete, FORBIDDEN, 0)
        return self._automaton(table)

    def _automaton(self, table: np.ndarray) -> Automaton:
        special = self.special.copy()
        special[EOS] = False
        table[:, special] = FORBIDDEN
        return Automaton(torch.from_numpy(table), eos=EOS)
