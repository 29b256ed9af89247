"""Rules that forbid tokens or change their log-probabilities at each step of a search.

Shapes: B images, K rows per image (beams or samples), T tokens so far, V vocabulary, W windows.

A rule receives the log-probabilities of the next token, which it may overwrite, and the prefixes.
It returns log-probabilities, -inf for forbidden tokens. A rule keeps no state between steps, so
that rows may be reordered and images replaced. The probability of forbidden tokens is not
distributed over the others: a score remains the model's own log-probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.ends import Ends, list_ends

NEVER = float("-inf")


@dataclass(frozen=True)
class Prefixes:
    """The tokens (B, K, T) so far, of which the first `lengths` (B,) of each image are valid."""

    tokens: Array
    lengths: Array
    arrays: Arrays
    """The functions for these arrays."""

    def valid(self) -> Array:
        """Return a mask (B, 1, T) that is True at valid tokens."""
        steps = self.arrays.arange(self.tokens.shape[-1])
        return (steps < self.lengths[:, None])[:, None]


Rule = Callable[[Array, Prefixes], Array]


def apply_rules(rules: Sequence[Rule], logprobs: Array, prefixes: Prefixes) -> Array:
    """Return log-probabilities (B, K, V) after all rules, applied in their order."""
    for rule in rules:
        logprobs = rule(logprobs, prefixes)
    return logprobs


def min_length(tokens: int, *, eos: Ends) -> Rule:
    """Forbid EOS before `tokens` tokens, EOS not counted."""
    ends = list_ends(eos)

    def rule(logprobs: Array, prefixes: Prefixes) -> Array:
        short = prefixes.lengths < tokens
        for end in ends:
            logprobs[short, :, end] = NEVER
        return logprobs

    return rule


def no_repeat_ngram(n: int) -> Rule:
    """Forbid n-grams that the row already contains (Paulus et al. 2018, section 2.5)."""

    def rule(logprobs: Array, prefixes: Prefixes) -> Array:
        tokens, lengths, arrays = prefixes.tokens, prefixes.lengths, prefixes.arrays
        images, rows, length = tokens.shape
        if length < n:
            return logprobs
        shifts = [tokens[..., first : length - n + 1 + first] for first in range(n)]
        windows = arrays.stack(shifts, -1)  # (B, K, W, n)
        last = (lengths[:, None] - n + 1 + arrays.arange(n - 1)).clip(min=0)  # (B, n - 1)
        places = last[:, None] + arrays.full((images, rows, 1), 0)
        tail = arrays.gather(tokens, places)  # (B, K, n - 1)
        same = (windows[..., :-1] == tail[:, :, None]).all(-1)  # (B, K, W)
        ends = arrays.arange(length - n + 1) + n
        same &= (ends <= lengths[:, None])[:, None]
        image, row, window = arrays.nonzero(same)
        logprobs[image, row, windows[image, row, window, -1]] = NEVER
        return logprobs

    return rule


def repetition_penalty(penalty: float) -> Rule:
    """Multiply the log-probability of tokens that the row already contains by `penalty`.

    Keskar et al., CTRL (2019), section 4.1, divide the logit instead, whose effect depends on the
    arbitrary zero of the logits; a log-probability is always decreased by a penalty above 1.
    """

    def rule(logprobs: Array, prefixes: Prefixes) -> Array:
        arrays = prefixes.arrays
        counts = arrays.count(prefixes.tokens, prefixes.valid(), logprobs.shape[-1])
        return arrays.where(counts == 0, logprobs, logprobs * penalty)

    return rule
