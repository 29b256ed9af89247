"""Rules of a search: which tokens may come next, and what they cost.

Shapes: B images, K rows of an image (beams or samples), T tokens so far, V vocabulary, W windows.

A rule is called at every step with the log-probabilities of the next token, which it may write to,
and with what has been written so far; it gives log-probabilities back, -inf for what is forbidden.
It keeps nothing between steps, so that beams may be reordered, and images come and go. What it
forbids is not dealt out again among the rest: a score stays the model's own log-probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = float("-inf")


@dataclass(frozen=True)
class Prefixes:
    """The tokens (B, K, T) so far, of image b the first `lengths[b]`, which are (B,)."""

    tokens: Tensor
    lengths: Tensor

    def valid(self) -> Tensor:
        """(B, 1, T), True at tokens that have been written."""
        steps = torch.arange(self.tokens.shape[-1], device=self.tokens.device)
        return (steps < self.lengths[:, None])[:, None]


Rule = Callable[[Tensor, Prefixes], Tensor]


def apply_rules(rules: tuple[Rule, ...], logprobs: Tensor, written: Prefixes) -> Tensor:
    """One rule after another, in their order."""
    for rule in rules:
        logprobs = rule(logprobs, written)
    return logprobs


def min_length(tokens: int, *, eos: int) -> Rule:
    """No end before so many tokens, EOS not counted."""

    def rule(logprobs: Tensor, written: Prefixes) -> Tensor:
        short = written.lengths < tokens
        logprobs[..., eos].masked_fill_(short[:, None], NEVER)
        return logprobs

    return rule


def no_repeat_ngram(n: int) -> Rule:
    """No `n` tokens that a row holds already in their order (Paulus et al. 2018, section 2.5)."""

    def rule(logprobs: Tensor, written: Prefixes) -> Tensor:
        tokens, lengths = written.tokens, written.lengths
        if tokens.shape[-1] < n:
            return logprobs
        windows = tokens.unfold(-1, n, 1)  # (B, K, W, n)
        last = (lengths[:, None] - n + 1 + torch.arange(n - 1, device=tokens.device)).clamp(min=0)
        tail = tokens.gather(-1, last[:, None].expand(-1, tokens.shape[1], -1))  # (B, K, n - 1)
        same = (windows[..., :-1] == tail[:, :, None]).all(-1)
        ends = torch.arange(n, tokens.shape[-1] + 1, device=tokens.device)
        same &= (ends <= lengths[:, None])[:, None]
        image, row, window = same.nonzero(as_tuple=True)
        logprobs[image, row, windows[image, row, window, -1]] = NEVER
        return logprobs

    return rule


def repetition_penalty(penalty: float) -> Rule:
    """The log-probability of a token that a row already holds, times `penalty`.

    Keskar et al., CTRL (2019), section 4.1, divide the logit, which depends on where the logits
    have their zero; a log-probability has no such freedom, and is always made smaller.
    """

    def rule(logprobs: Tensor, written: Prefixes) -> Tensor:
        seen = torch.zeros(logprobs.shape, dtype=torch.int32, device=logprobs.device)
        held = written.valid().expand_as(written.tokens).int()
        seen.scatter_add_(-1, written.tokens, held)
        return logprobs.where(seen == 0, logprobs * penalty)

    return rule
