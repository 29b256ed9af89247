"""Greedy search and sampling for many images at once; beam search is in `beam.py`.

Shapes: B images, K rows per image, V vocabulary, L generated tokens.

A search receives `step`: `step(tokens)` takes the last token of each row, (B, K), and returns the
logits of the next one, (B, K, V). The function keeps its own cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from captioner.decoding.rules import NEVER, Prefixes, Rule, apply_rules

Step = Callable[[Tensor], Tensor]
Choose = Callable[[Tensor], Tensor]
Score = Callable[[Any, Any], Any]
LengthForm = Literal["average", "gnmt"]


@dataclass(frozen=True)
class Hypothesis:
    """A generated sequence: its tokens end in EOS, unless the maximum length was reached."""

    tokens: list[int]
    logprob: float
    """Sum of the tokens' log-probabilities."""
    score: float
    """`logprob` after length normalization; hypotheses are ranked by it."""


def length_normalization(penalty: float, form: LengthForm = "average") -> Score:
    """Return a function from a sum of log-probabilities and a length, of any shape, to a score.

    Args:
        penalty: Exponent; 0 leaves the sum as it is.
        form: "average" divides by length ** penalty, "gnmt" by ((5 + length) / 6) ** penalty (Wu
            et al. 2016, section 7).
    """

    def score(logprob: Any, length: Any) -> Any:
        return logprob / (length if form == "average" else (5 + length) / 6) ** penalty

    return score


def greedy_search(
    step: Step,
    *,
    images: int,
    bos: int,
    eos: int,
    max_length: int,
    length_penalty: float = 1.0,
    rules: Sequence[Rule] = (),
    device: torch.device | str = "cpu",
) -> list[list[Hypothesis]]:
    """Choose the most probable token at each step, until EOS or `max_length` tokens.

    Returns:
        One hypothesis per image, or none where the rules forbid every token.
    """
    shape = {"images": images, "rows": 1, "max_length": max_length}
    steps = generate_steps(step, choose_best, **shape, bos=bos, eos=eos, rules=rules, device=device)
    return collect_hypotheses(list(steps), eos=eos, score=length_normalization(length_penalty))


def sample(
    step: Step,
    *,
    images: int,
    rows: int,
    bos: int,
    eos: int,
    pad: int,
    max_length: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Sample from the model's own distribution, with torch's global random generator.

    Returns:
        Tokens (B, K, L) with K = `rows`, and `pad` after EOS.
    """
    sampler = Sampler(torch.rand(max_length, images, rows, device=device))
    shape = {"images": images, "rows": rows, "max_length": max_length}
    steps = generate_steps(step, sampler, **shape, bos=bos, eos=eos, rules=(), device=device)
    tokens = torch.stack([tokens for tokens, _ in steps], -1)  # (B, K, L)
    after = ((tokens == eos).cumsum(-1) > 0).roll(1, -1)
    after[..., 0] = False
    return tokens.masked_fill(after, pad)


def generate_steps(
    step: Step,
    choose: Choose,
    *,
    images: int,
    rows: int,
    bos: int,
    eos: int,
    max_length: int,
    rules: Sequence[Rule] = (),
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tokens of each step and their log-probabilities, both (B, K).

    `choose` selects tokens (B, K) from log-probabilities (B, K, V). A row that has ended continues
    with EOS and log-probability 0; generation stops when all rows have ended.
    """
    last = torch.full((images, rows), bos, device=device)
    running = torch.ones((images, rows), dtype=torch.bool, device=device)
    tokens = last.new_empty((images, rows, max_length))
    for t in range(max_length):
        logprobs = step(last).float().log_softmax(-1)  # (B, K, V)
        lengths = torch.full((images,), t, device=device)
        logprobs = apply_rules(rules, logprobs, Prefixes(tokens[..., :t], lengths))
        last = choose(logprobs).masked_fill(~running, eos)  # (B, K)
        tokens[..., t] = last
        yield last, logprobs.gather(-1, last[..., None])[..., 0].where(running, 0.0)
        running = running & (last != eos)
        if not running.any():
            break


def choose_best(logprobs: Tensor) -> Tensor:
    """Return the most probable token of each row, (B, K, V) to (B, K)."""
    return logprobs.argmax(-1)


class Sampler:
    """Choose tokens at random, from uniform numbers that are given in advance.

    The most probable token is always kept. The defaults keep all tokens.

    Args:
        draws: (L, B, K), uniform in [0, 1): one number per step and row.
        temperature: Divides the logits; below 1 it sharpens the distribution.
        top_k: Keep this many of the most probable tokens (Fan et al. 2018); 0 keeps all.
        top_p: Keep the most probable tokens whose predecessors have less than this share of the
            probability (nucleus sampling, Holtzman et al. 2020).
        min_p: Keep tokens with at least this multiple of the best probability (Nguyen et al. 2024).
    """

    def __init__(
        self,
        draws: Tensor,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
    ) -> None:
        self.draws = iter(draws)
        self.temperature = temperature
        self.top_k, self.top_p, self.min_p = top_k, top_p, min_p

    def __call__(self, logprobs: Tensor) -> Tensor:
        """Return the tokens (B, K) of the next step."""
        draw = next(self.draws)[..., None]
        # If a row's tokens are all forbidden, its best value is -inf, and any token will do.
        best = logprobs.amax(-1, keepdim=True).clamp(min=torch.finfo(logprobs.dtype).min)
        weights = ((logprobs - best) / self.temperature).exp()  # the highest is 1
        order = None
        if self.top_k or self.top_p < 1:
            weights, order = weights.sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            weights[..., self.top_k :] = 0
        if self.top_p < 1:
            before = weights.cumsum(-1) - weights
            weights = weights.masked_fill(before >= self.top_p * weights.sum(-1, True), 0)
        if self.min_p:
            weights = weights.masked_fill(weights < self.min_p, 0)
        index = _draw(weights, draw)
        return index[..., 0] if order is None else order.gather(-1, index)[..., 0]


def _draw(weights: Tensor, draw: Tensor) -> Tensor:
    """Invert the cumulative distribution of weights (B, K, V) at `draw` (B, K, 1)."""
    # In float32, rounding in the sum of many small weights would shift the limits.
    sums = weights.cumsum(-1, dtype=torch.float64)
    total = sums[..., -1:]
    index = torch.searchsorted(sums, draw.double() * total, right=True)
    # Rounding may reach the total, after which all weights are 0.
    last = (sums < total).sum(-1, keepdim=True)
    return torch.minimum(index, last)


def collect_hypotheses(
    steps: Sequence[tuple[Tensor, Tensor]], *, eos: int, score: Score
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each image, in the order of its rows, without forbidden ones.

    `steps` are the results of `generate_steps`.
    """
    tokens = torch.stack([token for token, _ in steps], -1)  # (B, K, L)
    ended = (tokens == eos).long().cumsum(-1)
    lengths = (ended == 0).sum(-1) + (ended[..., -1] > 0)  # (B, K)
    # Added step by step, so that the other images' number of steps does not affect the rounding.
    totals = torch.zeros_like(steps[0][1])
    for _, logprob in steps:
        totals = totals + logprob
    results = []
    for image in zip(tokens.tolist(), lengths.tolist(), totals.tolist(), strict=True):
        rows = zip(*image, strict=True)
        results.append([Hypothesis(row[:n], p, score(p, n)) for row, n, p in rows if p > NEVER])
    return results
