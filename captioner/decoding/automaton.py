"""Finite automata over tokens: banned, forced and forbidden last words, and beginnings.

Shapes: B images, K rows of an image, S states, V vocabulary.

An automaton reads a text token by token. It says in every state which tokens may follow, EOS among
them, and how far the nearest state is in which the text may end. Words are made into automata in
`captioner.generation.constraints`; here they are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.decoding.rules import NEVER, Prefixes, Rule

FORBIDDEN = -1


class Automaton:
    """A table (S, V) of next states, 0 the first one, `FORBIDDEN` where a token may not come.

    Where a text may end, EOS leads to any state. `min_remaining` (S,) is how many tokens at least
    are to come before it may. Raises ValueError where a text that is begun can never end.
    """

    def __init__(self, table: Tensor, *, eos: int) -> None:
        self.table, self.eos = table.long(), eos
        self.min_remaining = _min_remaining(self.table, eos)
        if not 0 <= self.min_remaining[0] < len(table):
            raise ValueError("an automaton that no text can satisfy")

    def states(self, written: Prefixes) -> Tensor:
        """The state (B, K) of each row; that of a row which was forbidden means nothing."""
        table = self.table.to(written.tokens.device)
        state = written.tokens.new_zeros(written.tokens.shape[:2])
        for step in range(written.tokens.shape[-1]):
            following = table[state, written.tokens[..., step]].clamp(min=0)
            state = torch.where((step < written.lengths)[:, None], following, state)
        return state


def _min_remaining(table: Tensor, eos: int) -> Tensor:
    """Tokens to the nearest state in which EOS is allowed; S where there is none."""
    states = len(table)
    need = torch.full((states + 1,), states, dtype=torch.long)  # the last is what is forbidden
    need[:states][table[:, eos] != FORBIDDEN] = 0
    onward = table.masked_fill(table == FORBIDDEN, states).clone()
    onward[:, eos] = states  # EOS is no step on the way to an end
    for _ in range(states):
        nearer = torch.minimum(need[:states], need[onward].amin(1) + 1).clamp(max=states)
        if torch.equal(nearer, need[:states]):
            break
        need[:states] = nearer
    return need[:states]


def satisfy_automata(automata: Sequence[Automaton], *, max_length: int) -> Rule:
    """What all automata allow, and leaves them the tokens that they need to an end.

    Every text then ends in EOS, within `max_length` tokens; where their needs are more than that
    together, nothing is left. Needs are added up, although one token may serve two of them.
    """

    def rule(logprobs: Tensor, written: Prefixes) -> Tensor:
        need = torch.zeros((), dtype=torch.long, device=logprobs.device)
        for automaton in automata:
            table = automaton.table.to(logprobs.device)
            following = table[automaton.states(written)]  # (B, K, V)
            need = need + automaton.min_remaining.to(logprobs.device)[following.clamp(min=0)]
            logprobs = logprobs.masked_fill(following == FORBIDDEN, NEVER)
        left = max_length - written.lengths - 1  # after this token
        late = need + 1 > left[:, None, None]
        late[..., automata[0].eos] = False
        return logprobs.masked_fill(late, NEVER)

    return rule
