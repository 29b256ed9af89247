"""Dynamic beam allocation: divide beams among hypotheses by progress towards required phrases.

Source: Post and Vilar, Fast lexically constrained decoding with dynamic beam allocation (NAACL
2018). A bank holds the candidates with equal progress towards the ends of the required automata.

Shapes: B images, K beams, C candidates per beam, N candidates per image, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.automaton import Automaton
from captioner.decoding.rules import NEVER, Prefixes


def add_required_candidates(
    automata: Sequence[Automaton], logprobs: Array, tokens: Array, prefixes: Prefixes
) -> tuple[Array, Array, Array]:
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
    arrays, gains, added = prefixes.arrays, [], [tokens]
    for automaton in automata:
        table, remaining = automaton.convert(arrays)  # (S, V), (S,)
        state = automaton.states(prefixes)  # (B, K)
        after = remaining[table[state].clip(min=0)]  # (B, K, V)
        gains.append((remaining[0] - after).clip(min=0))
        advancing = arrays.where(after >= remaining[state][..., None], NEVER, logprobs)
        added.append(arrays.topk(advancing, min(2, logprobs.shape[-1]))[1])
    tokens = arrays.concat(added, -1)
    order = arrays.arange(tokens.shape[-1])
    before = order < order[:, None]
    duplicate = ((tokens[..., None, :] == tokens[..., None]) & before).any(-1)
    banks = sum(arrays.gather(gain, tokens) for gain in gains)
    return tokens, arrays.where(duplicate, NEVER, arrays.gather(logprobs, tokens)), banks


def allocate_beams(arrays: Arrays, values: Array, banks: Array) -> Array:
    """Rank candidates in turn by bank: the best of each bank, then the second best, and so on.

    Returns indices (B, N) for candidates with values (B, N), -inf if excluded, and banks (B, N).
    """
    order = arrays.argsort(values, descending=True)
    values, banks = arrays.gather(values, order), arrays.gather(banks, order)
    members = banks[..., None] == arrays.arange(int(banks.max()) + 1)  # (B, N, banks)
    rank = (members.cumsum(1) * members).sum(-1)
    rank = arrays.where(values == NEVER, values.shape[1] + 1, rank)
    return arrays.gather(order, arrays.argsort(rank))
