"""Greedy search and sampling for many images at once; beam search is in `beam.py`.

Shapes: B images, K rows per image, V vocabulary, L generated tokens.

A search receives `step`: `step(tokens)` takes the last token of each row, (B, K), and returns the
logits of the next one, (B, K, V). The function keeps its own cache. `arrays` are the functions for
the library of these arrays (see `arrays.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from captioner.decoding.arrays import Array, Arrays, namespace
from captioner.decoding.ends import Ends, is_end, list_ends
from captioner.decoding.rules import NEVER, Prefixes, Rule, apply_rules

Step = Callable[[Array], Array]
Choose = Callable[[Array], Array]
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
    eos: Ends,
    max_length: int,
    length_penalty: float = 1.0,
    rules: Sequence[Rule] = (),
    arrays: Arrays,
) -> list[list[Hypothesis]]:
    """Choose the most probable token at each step, until EOS or `max_length` tokens.

    Returns:
        One hypothesis per image, or none where the rules forbid every token.
    """
    shape = {"images": images, "rows": 1, "max_length": max_length}
    steps = generate_steps(step, choose_best, **shape, bos=bos, eos=eos, rules=rules, arrays=arrays)
    return collect_hypotheses(list(steps), eos=eos, score=length_normalization(length_penalty))


def sample(step: Step, draws: Array, *, bos: int, eos: Ends, pad: int) -> Array:
    """Sample from the model's own distribution.

    Args:
        step: See the head of this module.
        draws: (L, B, K), uniform in [0, 1): one number per step and row.
        bos: Id of the token before the first one.
        eos: Id of the token that ends a sequence, or several.
        pad: Id of the token after EOS.

    Returns:
        Tokens (B, K, T), of which T is at most L.
    """
    arrays, (length, images, rows) = namespace(draws), draws.shape
    shape = {"images": images, "rows": rows, "max_length": length}
    steps = generate_steps(step, Sampler(draws), **shape, bos=bos, eos=eos, arrays=arrays)
    tokens = arrays.stack([tokens for tokens, _ in steps], -1)  # (B, K, T)
    ends = is_end(tokens, list_ends(eos))
    return arrays.where(ends.cumsum(-1) > ends, pad, tokens)


def generate_steps(
    step: Step,
    choose: Choose,
    *,
    images: int,
    rows: int,
    bos: int,
    eos: Ends,
    max_length: int,
    rules: Sequence[Rule] = (),
    arrays: Arrays,
) -> Iterator[tuple[Array, Array]]:
    """Yield the tokens of each step and their log-probabilities, both (B, K).

    `choose` selects tokens (B, K) from log-probabilities (B, K, V). A row that has ended continues
    with the first id of `eos` and log-probability 0; generation stops when all rows have ended.
    """
    ends = list_ends(eos)
    last = arrays.full((images, rows), bos)
    running = arrays.full((images, rows), True)
    tokens = arrays.full((images, rows, max_length), 0)
    for t in range(max_length):
        logprobs = arrays.log_softmax(step(last))  # (B, K, V)
        lengths = arrays.full((images,), t)
        logprobs = apply_rules(rules, logprobs, Prefixes(tokens[..., :t], lengths, arrays))
        last = arrays.where(running, choose(logprobs), ends[0])  # (B, K)
        tokens[..., t] = last
        chosen = arrays.gather(logprobs, last[..., None])[..., 0]
        yield last, arrays.where(running, chosen, 0.0)
        running = running & ~is_end(last, ends)
        if not running.any():
            break


def choose_best(logprobs: Array) -> Array:
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
        draws: Array,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
    ) -> None:
        self.arrays, self.draws = namespace(draws), iter(draws)
        self.temperature = temperature
        self.top_k, self.top_p, self.min_p = top_k, top_p, min_p

    def __call__(self, logprobs: Array) -> Array:
        """Return the tokens (B, K) of the next step."""
        arrays, draw = self.arrays, next(self.draws)[..., None]
        best = arrays.amax(logprobs)[..., None]
        # If a row's tokens are all forbidden, its best value is -inf, and any token will do.
        best = arrays.where(best == NEVER, 0.0, best)
        weights = arrays.exp((logprobs - best) / self.temperature)  # the highest is 1
        order = None
        if self.top_k or self.top_p < 1:
            order = arrays.argsort(weights, descending=True)
            weights = arrays.gather(weights, order)
        if self.top_k:
            weights[..., self.top_k :] = 0
        if self.top_p < 1:
            before = weights.cumsum(-1) - weights
            weights = arrays.where(before >= self.top_p * weights.sum(-1)[..., None], 0.0, weights)
        if self.min_p:
            weights = arrays.where(weights < self.min_p, 0.0, weights)
        # In float32, rounding in the sum of many small weights would shift the limits.
        sums = arrays.cumsum(weights)
        total = sums[..., -1:]
        # The draw inverts the cumulative distribution. Its rounded product may reach the total,
        # after which all weights are 0.
        index = ((sums <= draw * total) & (sums < total)).sum(-1)  # (B, K)
        return index if order is None else arrays.gather(order, index[..., None])[..., 0]


def collect_hypotheses(
    steps: Sequence[tuple[Array, Array]], *, eos: Ends, score: Score
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each image, in the order of its rows, without forbidden ones.

    `steps` are the results of `generate_steps`.
    """
    arrays = namespace(steps[0][0])
    tokens = arrays.stack([token for token, _ in steps], -1)  # (B, K, L)
    ended = is_end(tokens, list_ends(eos)).cumsum(-1)
    lengths = (ended == 0).sum(-1) + (ended[..., -1] > 0)  # (B, K)
    # Added step by step, so that the other images' number of steps does not affect the rounding.
    totals = sum(logprob for _, logprob in steps)
    results = []
    for image in zip(*(x.tolist() for x in (tokens, lengths, totals)), strict=True):
        rows = zip(*image, strict=True)
        results.append([Hypothesis(row[:n], p, score(p, n)) for row, n, p in rows if p > NEVER])
    return results
