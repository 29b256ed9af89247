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

import torch
from torch import Tensor

NEVER = float("-inf")


@dataclass(frozen=True)
class Prefixes:
    """The tokens (B, K, T) so far, of which the first `lengths` (B,) of each image are valid."""

    tokens: Tensor
    lengths: Tensor

    def valid(self) -> Tensor:
        """Return a mask (B, 1, T) that is True at valid tokens."""
        steps = torch.arange(self.tokens.shape[-1], device=self.tokens.device)
        return (steps < self.lengths[:, None])[:, None]


Rule = Callable[[Tensor, Prefixes], Tensor]


def apply_rules(rules: Sequence[Rule], logprobs: Tensor, prefixes: Prefixes) -> Tensor:
    """Return log-probabilities (B, K, V) after all rules, applied in their order."""
    for rule in rules:
        logprobs = rule(logprobs, prefixes)
    return logprobs


def min_length(tokens: int, *, eos: int) -> Rule:
    """Forbid EOS before `tokens` tokens, EOS not counted."""

    def rule(logprobs: Tensor, prefixes: Prefixes) -> Tensor:
        short = prefixes.lengths < tokens
        logprobs[..., eos].masked_fill_(short[:, None], NEVER)
        return logprobs

    return rule


def no_repeat_ngram(n: int) -> Rule:
    """Forbid n-grams that the row already contains (Paulus et al. 2018, section 2.5)."""

    def rule(logprobs: Tensor, prefixes: Prefixes) -> Tensor:
        tokens, lengths = prefixes.tokens, prefixes.lengths
        if tokens.shape[-1] < n:
            return logprobs
        windows = tokens.unfold(-1, n, 1)  # (B, K, W, n)
        last = (lengths[:, None] - n + 1 + torch.arange(n - 1, device=tokens.device)).clamp(min=0)
        tail = tokens.gather(-1, last[:, None].expand(-1, tokens.shape[1], -1))  # (B, K, n - 1)
        same = (windows[..., :-1] == tail[:, :, None]).all(-1)  # (B, K, W)
        ends = torch.arange(n, tokens.shape[-1] + 1, device=tokens.device)
        same &= (ends <= lengths[:, None])[:, None]
        image, row, window = same.nonzero(as_tuple=True)
        logprobs[image, row, windows[image, row, window, -1]] = NEVER
        return logprobs

    return rule


def repetition_penalty(penalty: float) -> Rule:
    """Multiply the log-probability of tokens that the row already contains by `penalty`.

    Keskar et al., CTRL (2019), section 4.1, divide the logit instead, whose effect depends on the
    arbitrary zero of the logits; a log-probability is always decreased by a penalty above 1.
    """

    def rule(logprobs: Tensor, prefixes: Prefixes) -> Tensor:
        counts = torch.zeros(logprobs.shape, dtype=torch.int32, device=logprobs.device)
        valid = prefixes.valid().expand_as(prefixes.tokens).int()
        counts.scatter_add_(-1, prefixes.tokens, valid)
        return logprobs.where(counts == 0, logprobs * penalty)

    return rule
