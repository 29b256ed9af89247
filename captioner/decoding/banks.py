"""Dynamic beam allocation: divide beams among hypotheses by progress towards required phrases.

Source: Post and Vilar, Fast lexically constrained decoding with dynamic beam allocation (NAACL
2018). A bank holds the candidates with equal progress towards the ends of the required automata.

Shapes: B images, K beams, C candidates per beam, N candidates per image, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.decoding.automaton import Automaton
from captioner.decoding.rules import NEVER, Prefixes


def add_required_candidates(
    automata: Sequence[Automaton], logprobs: Tensor, tokens: Tensor, prefixes: Prefixes
) -> tuple[Tensor, Tensor, Tensor]:
    """Add the tokens that advance an automaton, however improbable they are.

    Args:
        automata: Required automata, at least one.
        logprobs: (B, K, V), log-probabilities by which candidates are ranked.
        tokens: (B, K, C), the most probable tokens of each beam.
        prefixes: The live hypotheses (B, K).

    Returns:
        The candidates' tokens, their log-probabilities (-inf for duplicates) and their banks, each
        (B, K, C + 2 * automata).
    """
    gains, added = [], [tokens]
    for automaton in automata:
        remaining = automaton.min_remaining.to(logprobs.device)  # (S,)
        state = automaton.states(prefixes)  # (B, K)
        after = remaining[automaton.table.to(logprobs.device)[state].clamp(min=0)]  # (B, K, V)
        gains.append((remaining[0] - after).clamp(min=0))
        advancing = logprobs.masked_fill(after >= remaining[state][..., None], NEVER)
        added.append(advancing.topk(min(2, logprobs.shape[-1]), dim=-1).indices)
    tokens = torch.cat(added, -1)
    duplicate = (tokens[..., None, :] == tokens[..., None]).tril(-1).any(-1)
    banks = torch.stack([gain.gather(-1, tokens) for gain in gains]).sum(0)
    return tokens, logprobs.gather(-1, tokens).masked_fill(duplicate, NEVER), banks


def allocate_beams(values: Tensor, banks: Tensor) -> Tensor:
    """Rank candidates in turn by bank: the best of each bank, then the second best, and so on.

    Returns indices (B, N) for candidates with values (B, N), -inf if excluded, and banks (B, N).
    """
    values, order = values.sort(dim=-1, descending=True, stable=True)
    members = F.one_hot(banks.gather(1, order))  # (B, N, banks)
    rank = (members.cumsum(1) * members).sum(-1).masked_fill(values == NEVER, values.shape[1] + 1)
    return order.gather(1, rank.sort(dim=-1, stable=True).indices)
