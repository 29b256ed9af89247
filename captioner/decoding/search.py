"""Greedy search, beam search and sampling for many images at once.

Shapes: B images, K beams, V vocabulary, L generated tokens.

A search is handed `step` and `reorder`. `step(tokens)` takes the last token of each hypothesis,
(B, K), and gives the logits of the next one, (B, K, V); it owns whatever cache it needs.
`reorder(rows)` says that row i, counted over B * K, now continues what row `rows[i]` was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]
Reorder = Callable[[Tensor], None]
NEVER = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """A found sequence: generated tokens (EOS last, unless it was cut at the maximum length)."""

    tokens: list[int]
    logprob: float
    """Sum of the tokens' log-probabilities."""
    score: float
    """`logprob` over the length to the power of the length penalty: what the search ranks by."""


def greedy_search(
    step: Step,
    *,
    images: int,
    bos: int,
    eos: int,
    max_length: int,
    length_penalty: float = 1.0,
    device: str = "cpu",
) -> list[Hypothesis]:
    """The likeliest token, one after another, until EOS or `max_length` tokens."""
    last = torch.full((images, 1), bos, device=device)
    total = torch.zeros(images, device=device)
    length = torch.zeros(images, dtype=torch.long, device=device)
    running = torch.ones(images, dtype=torch.bool, device=device)
    tokens = []
    for _ in range(max_length):
        logprobs = step(last).float().log_softmax(-1)[:, 0]  # (B, V)
        best, last = logprobs.max(-1, keepdim=True)
        total += torch.where(running, best[:, 0], 0.0)
        length += running
        tokens.append(last)
        running = running & (last[:, 0] != eos)
        if not running.any():
            break
    rows = torch.cat(tokens, 1).tolist()
    found = zip(rows, length.tolist(), total.tolist(), strict=True)
    return [Hypothesis(row[:n], t, t / n**length_penalty) for row, n, t in found]


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
    last = torch.full((images, rows), bos, device=device)
    running = torch.ones((images, rows), dtype=torch.bool, device=device)
    tokens = []
    for _ in range(max_length):
        probabilities = step(last).float().softmax(-1)  # (B, K, V)
        drawn = probabilities.flatten(0, 1).multinomial(1).view(images, rows)
        last = drawn.masked_fill(~running, pad)
        tokens.append(last)
        running = running & (last != eos)
        if not running.any():
            break
    return torch.stack(tokens, -1)


def beam_search(
    step: Step,
    reorder: Reorder,
    *,
    images: int,
    beams: int,
    bos: int,
    eos: int,
    max_length: int,
    length_penalty: float = 1.0,
    stop: Literal["first", "heuristic", "exact"] = "heuristic",
    wanted: int | None = None,
    device: str = "cpu",
) -> list[list[Hypothesis]]:
    """The best hypotheses of each image, best first, at most `beams` of them.

    Of the 2K likeliest continuations, the K first that do not end go on, and those that end
    are kept if they are among the K first. An image is done when it has K finished hypotheses
    and no running one can beat the worst of them: judged at the present length
    (`heuristic`, what transformers does by default), at the length that favours the running
    one most (`exact`), or not at all (`first`). Nothing of an image depends on the others.
    Where only the first `wanted` hypotheses matter, an image is done when it has those, and the
    others are what had been found by then.
    """
    wanted = min(wanted or beams, beams)
    search = _Beams(images, beams, bos, max_length, length_penalty, wanted, device)
    for t in range(max_length):
        logprobs = step(search.last).float().log_softmax(-1)  # (B, K, V)
        rows = search.advance(logprobs, t, eos)
        if search.all_done(t, stop):
            break
        reorder(rows)
    return search.hypotheses(eos)


class _Beams:
    """The running and the finished hypotheses of B images."""

    def __init__(
        self,
        images: int,
        beams: int,
        bos: int,
        max_length: int,
        penalty: float,
        wanted: int,
        device: str,
    ) -> None:
        self.beams, self.max_length, self.penalty = beams, max_length, penalty
        self.wanted = wanted
        shape = (images, beams)
        self.last = torch.full(shape, bos, device=device)
        self.total = torch.full(shape, NEVER, device=device)
        self.total[:, 0] = 0.0  # the beams differ only after the first step
        self.tokens = torch.zeros((*shape, max_length), dtype=torch.long, device=device)
        self.finished_score = torch.full(shape, NEVER, device=device)
        self.finished_total = torch.full(shape, NEVER, device=device)
        self.finished_length = torch.zeros(shape, dtype=torch.long, device=device)
        self.finished_tokens = torch.zeros_like(self.tokens)
        self.done = torch.zeros(images, dtype=torch.bool, device=device)
        self.offset = torch.arange(images, device=device)[:, None] * beams

    def advance(self, logprobs: Tensor, t: int, eos: int) -> Tensor:
        """One more token on every hypothesis; the rows that the new ones continue (B * K)."""
        k = self.beams
        # 2K of each row hold the 2K of all rows, and K small selections beat one over K * V.
        best, token = logprobs.topk(min(2 * k, logprobs.shape[-1]), dim=-1)
        best = (self.total[..., None] + best).flatten(1)
        score, place = best.topk(min(2 * k, best.shape[-1]), dim=-1)  # (B, 2K)
        parent = place // token.shape[-1]
        token = token.flatten(1).gather(1, place)
        sequences = self.tokens.gather(1, parent[..., None].expand(-1, -1, self.max_length))
        sequences[..., t] = token

        last = t + 1 == self.max_length
        ends = (token == eos) | last
        self._finish(score[:, :k], ends[:, :k], sequences[:, :k], t + 1)
        score = score.masked_fill(ends, NEVER) if not last else score
        self.total, order = score.topk(k, dim=-1)
        self.tokens = sequences.gather(1, order[..., None].expand(-1, -1, self.max_length))
        self.last = token.gather(1, order)
        return (parent.gather(1, order) + self.offset).flatten()

    def _finish(self, total: Tensor, ends: Tensor, sequences: Tensor, length: int) -> None:
        """Merge what ends now with what ended before, and keep the K best."""
        keep = ends & ~self.done[:, None]
        score = (total / length**self.penalty).masked_fill(~keep, NEVER)
        score, order = torch.cat([self.finished_score, score], 1).topk(self.beams, dim=-1)
        lengths = torch.cat(
            [self.finished_length, torch.full_like(self.finished_length, length)], 1
        )
        self.finished_score = score
        self.finished_total = torch.cat([self.finished_total, total], 1).gather(1, order)
        self.finished_length = lengths.gather(1, order)
        self.finished_tokens = torch.cat([self.finished_tokens, sequences], 1).gather(
            1, order[..., None].expand(-1, -1, self.max_length)
        )

    def all_done(self, t: int, stop: str) -> bool:
        """Note which images are done after step t; whether all are."""
        worst = self.finished_score[:, self.wanted - 1]
        if stop == "first":
            self.done = self.done | (worst > NEVER)
        else:
            ahead = self.max_length if stop == "exact" and self.penalty > 0 else t + 1
            self.done = self.done | (worst >= self.total[:, 0] / ahead**self.penalty)
        return bool(self.done.all())

    def hypotheses(self, eos: int) -> list[list[Hypothesis]]:
        """What was found, best first."""
        found = []
        columns = (self.finished_tokens, self.finished_length, self.finished_total)
        for score, *rest in zip(
            self.finished_score.tolist(), *(c.tolist() for c in columns), strict=True
        ):
            rows = zip(score, *rest, strict=True)
            found.append([Hypothesis(x[:n], p, s) for s, x, n, p in rows if s > NEVER])
        return found
