"""Finite automata over tokens: banned and required phrases, prefixes, forbidden last words.

Shapes: B images, K rows per image, S states, V vocabulary.

An automaton reads a sequence token by token. Its state determines which tokens may follow, EOS
among them, and the minimum number of tokens before the sequence may end.
`captioner.generation.constraints` builds automata from words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.decoding.rules import NEVER, Prefixes, Rule

FORBIDDEN = -1


class Automaton:
    """A deterministic finite automaton.

    Args:
        table: (S, V), the next state for each state and token, or `FORBIDDEN`. State 0 is the
            first one. Where a sequence may end, EOS has any state.
        eos: Id of the token that ends a sequence.

    Attributes:
        min_remaining: (S,), the minimum number of tokens before a sequence may end.

    Raises:
        ValueError: No sequence can ever end.
    """

    def __init__(self, table: Tensor, *, eos: int) -> None:
        self.table, self.eos = table.long(), eos
        self.min_remaining = _min_remaining(self.table, eos)
        if not 0 <= self.min_remaining[0] < len(table):
            raise ValueError("no text satisfies the automaton: no state that it reaches allows EOS")

    def states(self, prefixes: Prefixes) -> Tensor:
        """Return the state (B, K) of each row; it is undefined for a forbidden row."""
        table = self.table.to(prefixes.tokens.device)
        state = prefixes.tokens.new_zeros(prefixes.tokens.shape[:2])
        for step in range(prefixes.tokens.shape[-1]):
            following = table[state, prefixes.tokens[..., step]].clamp(min=0)
            state = torch.where((step < prefixes.lengths)[:, None], following, state)
        return state


def _min_remaining(table: Tensor, eos: int) -> Tensor:
    """Return the distance (S,) to the nearest state that allows EOS; S where there is none."""
    states = len(table)
    distance = torch.full((states + 1,), states, dtype=torch.long)  # row S stands for FORBIDDEN
    distance[:states][table[:, eos] != FORBIDDEN] = 0
    following = table.masked_fill(table == FORBIDDEN, states).clone()
    following[:, eos] = states  # a sequence does not continue after EOS
    for _ in range(states):
        nearer = distance[following].amin(1) + 1
        nearer = torch.minimum(distance[:states], nearer).clamp(max=states)
        if torch.equal(nearer, distance[:states]):
            break
        distance[:states] = nearer
    return distance[:states]


def satisfy_automata(automata: Sequence[Automaton], *, max_length: int) -> Rule:
    """Return a rule that allows only what all automata allow and can still complete.

    Every sequence then ends in EOS within `max_length` tokens, or no token is allowed. The tokens
    that the automata need are added up, although one token may advance several automata.
    """

    def rule(logprobs: Tensor, prefixes: Prefixes) -> Tensor:
        needed = torch.zeros((), dtype=torch.long, device=logprobs.device)
        for automaton in automata:
            table = automaton.table.to(logprobs.device)
            following = table[automaton.states(prefixes)]  # (B, K, V)
            needed = needed + automaton.min_remaining.to(logprobs.device)[following.clamp(min=0)]
            logprobs = logprobs.masked_fill(following == FORBIDDEN, NEVER)
        left = max_length - prefixes.lengths - 1  # (B,), after this token
        too_late = needed + 1 > left[:, None, None]
        too_late[..., automata[0].eos] = False
        return logprobs.masked_fill(too_late, NEVER)

    return rule
