"""Greedy search and sampling for many images at once; beam search is in `beam.py`.

Shapes: B images, K rows of an image, V vocabulary, L generated tokens.

A search is handed `step`: `step(tokens)` takes the last token of each row, (B, K), and gives the
logits of the next one, (B, K, V); it owns whatever cache it needs.
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
    """A found sequence: generated tokens (EOS last, unless it was cut at the maximum length)."""

    tokens: list[int]
    logprob: float
    """Sum of the tokens' log-probabilities."""
    score: float
    """What the search ranks by: `logprob` over what the length penalty makes of the length."""


def length_normalization(penalty: float, form: LengthForm = "average") -> Score:
    """What a sum of log-probabilities (...) counts at a length (...): it over the length penalty.

    `average` is the length to the power `penalty`; `gnmt` is ((5 + length) / 6) to that power
    (Wu et al. 2016, section 7).
    """

    def score(total: Any, length: Any) -> Any:
        return total / (length if form == "average" else (5 + length) / 6) ** penalty

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
    device: str = "cpu",
) -> list[list[Hypothesis]]:
    """The likeliest token, one after another, until EOS or `max_length` tokens.

    One hypothesis of each image, or none where the rules come to leave nothing.
    """
    shape = {"images": images, "rows": 1, "bos": bos, "eos": eos, "max_length": max_length}
    steps = list(generate_steps(step, choose_best, **shape, rules=rules, device=device))
    return collect_hypotheses(steps, eos=eos, score=length_normalization(length_penalty))


def sample(
    step: Step,
    *,
    images: int,
    rows: int,
    bos: int,
    eos: int,
    pad: int,
    max_length: int,
    device: str = "cpu",
) -> Tensor:
    """Tokens (B, K, L) drawn from the model itself, K = `rows` of each image, `pad` after EOS.

    The draws come from torch's global generator, which the caller seeds.
    """
    shape = {"images": images, "rows": rows, "bos": bos, "eos": eos, "max_length": max_length}
    draws = torch.rand(max_length, images, rows, device=device)
    found = generate_steps(step, Sampler(draws), **shape, device=device)
    tokens = torch.stack([tokens for tokens, _ in found], -1)
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
    device: str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each step's tokens and their log-probabilities, both (B, K), until all rows have ended.

    `choose` makes tokens of log-probabilities (B, K, V). A row that has ended goes on with EOS at
    no cost.
    """
    last = torch.full((images, rows), bos, device=device)
    running = torch.ones((images, rows), dtype=torch.bool, device=device)
    tokens = last.new_empty((images, rows, max_length))
    for t in range(max_length):
        logprobs = step(last).float().log_softmax(-1)  # (B, K, V)
        lengths = torch.full((images,), t, device=device)
        logprobs = apply_rules(rules, logprobs, Prefixes(tokens[..., :t], lengths))
        last = choose(logprobs).masked_fill(~running, eos)
        tokens[..., t] = last
        yield last, logprobs.gather(-1, last[..., None])[..., 0].where(running, 0.0)
        running = running & (last != eos)
        if not running.any():
            break


def choose_best(logprobs: Tensor) -> Tensor:
    """The best token of each row."""
    return logprobs.argmax(-1)


class Sampler:
    """Draws tokens by numbers (L, B, K) from [0, 1), those of one step after another.

    `temperature` sharpens (below 1) or flattens the distribution. Of that, what is kept is: the
    `top_k` likeliest tokens (Fan et al. 2018), those before which less than `top_p` of the mass
    lies (the nucleus, Holtzman et al. 2020), and those of at least `min_p` times the likeliest's
    probability (Nguyen et al. 2024). The likeliest is always kept. 0, 1 and 0 keep everything.
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
        """Tokens (B, K)."""
        draw = next(self.draws)[..., None]
        # Of a row to which everything is forbidden, the best is -inf; any token will do.
        best = logprobs.amax(-1, keepdim=True).clamp(min=torch.finfo(logprobs.dtype).min)
        weights = ((logprobs - best) / self.temperature).exp()  # the likeliest has 1
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
        place = _draw(weights, draw)
        return place[..., 0] if order is None else order.gather(-1, place)[..., 0]


def _draw(weights: Tensor, draw: Tensor) -> Tensor:
    """The first place (B, K, 1) at which the sum of weights (B, K, V) exceeds its share, `draw`."""
    # In float32 the sum of many small weights would shift the borders.
    sums = weights.cumsum(-1, dtype=torch.float64)
    total = sums[..., -1:]
    place = torch.searchsorted(sums, draw.double() * total, right=True)
    # Rounding may reach the total, behind which nothing has weight.
    last = (sums < total).sum(-1, keepdim=True)
    return torch.minimum(place, last)


def collect_hypotheses(
    steps: Sequence[tuple[Tensor, Tensor]], *, eos: int, score: Score
) -> list[list[Hypothesis]]:
    """What `write` gave, of each image its rows in their order, but for what is forbidden."""
    tokens = torch.stack([token for token, _ in steps], -1)  # (B, K, L)
    ended = (tokens == eos).long().cumsum(-1)
    lengths = (ended == 0).sum(-1) + (ended[..., -1] > 0)  # (B, K)
    # One after another, so that the steps of others in the batch do not change the rounding.
    totals = sum(logprob for _, logprob in steps)
    found = []
    for image in zip(tokens.tolist(), lengths.tolist(), totals.tolist(), strict=True):
        rows = zip(*image, strict=True)
        found.append([Hypothesis(row[:n], p, score(p, n)) for row, n, p in rows if p > NEVER])
    return found
