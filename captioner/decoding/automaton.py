"""Finite automata over tokens: banned and required phrases, prefixes, forbidden last words.

Shapes: B images, K rows per image, S states, V vocabulary.

An automaton reads a sequence token by token. Its state determines which tokens may follow, EOS
among them, and the minimum number of tokens before the sequence may end.
`captioner.generation.constraints` builds automata from words.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.ends import Ends, list_ends
from captioner.decoding.rules import NEVER, Prefixes, Rule

FORBIDDEN = -1
MAX_PAIRS = 5000
"""Pairs of states that `can_satisfy_both` examines."""


class Automaton:
    """A deterministic finite automaton.

    Args:
        table: (S, V), the next state for each state and token, or `FORBIDDEN`. State 0 is the
            first one. Where a sequence may end, EOS has any state.
        eos: Ids of the tokens that end a sequence, or one id.

    Attributes:
        table: (S, V), int64.
        ends: The ids that end a sequence.
        min_remaining: (S,), the minimum number of tokens before a sequence may end.

    Raises:
        ValueError: No sequence can ever end.
    """

    def __init__(self, table: np.ndarray, *, eos: Ends) -> None:
        self.table, self.ends = table.astype(np.int64, copy=False), list_ends(eos)
        self._converted: dict[Arrays, tuple[Array, Array]] = {}
        self.min_remaining = _min_remaining(self.table, self.ends)
        if not 0 <= self.min_remaining[0] < len(table):
            raise ValueError("no text satisfies the automaton: no state that it reaches allows EOS")

    def convert(self, arrays: Arrays) -> tuple[Array, Array]:
        """Return `table` and `min_remaining` as arrays of a library, converted at the first use."""
        if arrays not in self._converted:
            self._converted[arrays] = arrays.asarray(self.table), arrays.asarray(self.min_remaining)
        return self._converted[arrays]

    def states(self, prefixes: Prefixes) -> Array:
        """Return the state (B, K) of each row; it is undefined for a forbidden row."""
        images, rows, length = prefixes.tokens.shape
        table, _ = self.convert(prefixes.arrays)
        state = prefixes.arrays.full((images, rows), 0)
        for step in range(length):
            following = table[state, prefixes.tokens[..., step]].clip(min=0)
            state = prefixes.arrays.where((step < prefixes.lengths)[:, None], following, state)
        return state


def _min_remaining(table: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """Return the distance (S,) to the nearest state that allows EOS; S where there is none."""
    states = len(table)
    distance = np.full(states + 1, states)  # row S stands for FORBIDDEN
    distance[:states][(table[:, list(ends)] != FORBIDDEN).any(1)] = 0
    following = np.where(table == FORBIDDEN, states, table)
    following[:, list(ends)] = states  # a sequence does not continue after EOS
    for _ in range(states):
        nearer = distance[following].min(1) + 1
        nearer = np.minimum(distance[:states], nearer).clip(max=states)
        if np.array_equal(nearer, distance[:states]):
            break
        distance[:states] = nearer
    return distance[:states]


def can_satisfy_both(first: Automaton, second: Automaton) -> bool:
    """Return whether a sequence of any length satisfies both automata.

    It searches the product of the automata, best-first by the tokens that remain. After `MAX_PAIRS`
    pairs of states, it assumes that there is a sequence.
    """
    size, ends = len(second.table), list(first.ends)
    waiting, pairs = [(0, 0)], {0}  # (remaining tokens, pair of states as one number)
    while waiting and len(pairs) <= MAX_PAIRS:
        one, other = divmod(heappop(waiting)[1], size)
        after, after_other = first.table[one], second.table[other]  # (V,)
        allowed = (after != FORBIDDEN) & (after_other != FORBIDDEN)
        if allowed[ends].any():
            return True
        is_next = np.zeros(len(first.table) * size, bool)
        is_next[after[allowed] * size + after_other[allowed]] = True
        for pair in set(np.flatnonzero(is_next).tolist()) - pairs:
            pairs.add(pair)
            remaining = first.min_remaining[pair // size] + second.min_remaining[pair % size]
            heappush(waiting, (int(remaining), pair))
    return bool(waiting)


def satisfy_automata(automata: Sequence[Automaton], *, max_length: int) -> Rule:
    """Return a rule that allows only what all automata allow and can still complete.

    Every sequence then ends in EOS within `max_length` tokens, or no token is allowed. The tokens
    that the automata need are added up, although one token may advance several automata.
    """

    def rule(logprobs: Array, prefixes: Prefixes) -> Array:
        arrays, needed = prefixes.arrays, 0
        for automaton in automata:
            table, remaining = automaton.convert(arrays)
            following = table[automaton.states(prefixes)]  # (B, K, V)
            needed = needed + remaining[following.clip(min=0)]
            logprobs = arrays.where(following == FORBIDDEN, NEVER, logprobs)
        left = max_length - prefixes.lengths - 1  # (B,), after this token
        too_late = needed + 1 > left[:, None, None]
        for end in automata[0].ends:
            too_late[..., end] = False
        return arrays.where(too_late, NEVER, logprobs)

    return rule
