"""Beam search for many images at once: plain, in groups that differ, and with forced words.

Shapes: B images, K beams, V vocabulary, L room for tokens, C candidates.

Beside `step` (see `search.py`) a search is handed `reorder`: `reorder(rows)` says that row i,
counted over B * K, now continues what row `rows[i]` was. Images that are done are left out now
and then: the rows become fewer, and `step` takes and gives so many images the less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Literal

import torch
from torch import Tensor

from captioner.decoding.automaton import Automaton
from captioner.decoding.rules import NEVER, Prefixes, Rule, apply_rules
from captioner.decoding.search import Hypothesis, LengthForm, Score, Step, length_normalization

Reorder = Callable[[Tensor], None]
Admit = Callable[[Tensor], int]
Stop = Literal["first", "heuristic", "exact"]
LAZY = 4
"""Images that are done are left out when they are one in so many: it costs a copy of the cache."""


def beam_search(
    step: Step, reorder: Reorder, *, images: int, **options: Any
) -> list[list[Hypothesis]]:
    """The hypotheses of each image, best first; the options are those of `beam_stream`."""
    found = dict(beam_stream(step, reorder, images=images, **options))
    return [found[number] for number in range(images)]


def beam_stream(
    step: Step,
    reorder: Reorder,
    *,
    images: int,
    beams: int,
    bos: int,
    eos: int,
    max_length: int,
    length_penalty: float = 1.0,
    length_form: LengthForm = "average",
    stop: Stop = "heuristic",
    num_return: int | None = None,
    groups: int = 1,
    diversity: float = 0.0,
    rules: Sequence[Rule] = (),
    required: Sequence[Automaton] = (),
    admit: Admit | None = None,
    device: str = "cpu",
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Pairs of an image's number and its hypotheses, best first, at most `beams` of them.

    Of the 2K likeliest continuations, the K first that do not end go on, and those that end
    are kept if they are among the K first. An image is done when it has K finished hypotheses
    and no running one can beat the worst of them: judged at the present length
    (`heuristic`, what transformers does by default), at the length that favours the running
    one most (`exact`), or not at all (`first`). Nothing of an image depends on the others.
    Where only the first `num_return` hypotheses matter, an image is done when it has those, and the
    others are what had been found by then.

    `groups` share the beams evenly; a group is kept from the tokens of those before it at the same
    step, each by `diversity` for every beam that took it. That counts when a group chooses and not
    in the scores. The hypotheses are then the best of each group, the second best, and so on
    (Vijayakumar et al., Diverse beam search, 2018).

    `required` are automata that `rules` hold the texts to; the beams are dealt out evenly over
    how far hypotheses have come with them, and those that come further are considered however
    unlikely (Post and Vilar, Fast lexically constrained decoding, NAACL 2018).

    `admit(places)` is asked for images in the places (n,) of those that are done. It prepares as
    many as there are for the first of the places, and says how many; they are numbered on.
    """
    if beams % groups:
        raise ValueError(f"{beams} beams cannot be shared evenly by {groups} groups")
    score = length_normalization(length_penalty, length_form)
    if stop == "exact" and length_penalty <= 0:
        stop = "heuristic"  # no later length is any better
    shape = {"beams": beams // groups, "bos": bos, "eos": eos, "max_length": max_length}
    own = {
        "score": score,
        "stop": stop,
        "num_return": num_return,
        "required": required,
        "device": device,
    }
    parts = [_Beams(images, **shape, **own) for _ in range(groups)]
    running, came = list(range(images)), images
    while running:
        logprobs = step(_joined(parts, "last")).float().log_softmax(-1)  # (B, K, V)
        if rules:
            written = Prefixes(_joined(parts, "tokens"), parts[0].lengths)
            longest = int(written.lengths.max())
            written = Prefixes(written.tokens[..., :longest], written.lengths)
            logprobs = apply_rules(rules, logprobs, written)
        parents = _advance(parts, logprobs, diversity)  # (B, K)
        done = parts[0].done if len(parts) == 1 else torch.stack([p.done for p in parts]).all(0)
        if int(done.sum()) * LAZY < len(running):
            reorder(_rows(parents, torch.arange(len(running), device=device)))
            continue
        free = done.nonzero().flatten()
        for place in free.tolist():
            yield running[place], _merged([part.found(place) for part in parts])
        taken = admit(free) if admit is not None else 0
        for place in free[:taken].tolist():
            running[place], came = came, came + 1
        for part in parts:
            part.begin(free[:taken])
        done[free[:taken]] = False
        parents[free[:taken]] = torch.arange(beams, device=device)
        stay = (~done).nonzero().flatten()
        if len(stay) < len(running):
            running = [running[place] for place in stay.tolist()]
            for part in parts:
                part.keep(stay)
        if running:
            reorder(_rows(parents[stay], stay))


def _joined(parts: list[_Beams], name: str) -> Tensor:
    """A value of all groups, the beams side by side."""
    values = [getattr(part, name) for part in parts]
    return values[0] if len(values) == 1 else torch.cat(values, 1)


def _rows(parents: Tensor, images: Tensor) -> Tensor:
    """Beams (B, K) that are continued, of images (B,), counted over all rows of before."""
    return (parents + images[:, None] * parents.shape[1]).flatten()


def _advance(parts: list[_Beams], logprobs: Tensor, diversity: float) -> Tensor:
    """One more token in each group; the beams (B, K) that the new ones continue."""
    size, parents, taken = parts[0].beams, [], None
    if len(parts) > 1:
        taken = logprobs.new_zeros(len(logprobs), logprobs.shape[-1])  # (B, V)
    for number, part in enumerate(parts):
        at = number * size
        cost = taken * diversity if number else None
        parents.append(at + part.advance(logprobs[:, at : at + size], cost))
        if taken is not None:
            taken.scatter_add_(1, part.last, (part.total > NEVER).float())
    return torch.cat(parents, 1) if len(parents) > 1 else parents[0]


def _merged(groups: list[list[Hypothesis]]) -> list[Hypothesis]:
    """The best of each group, then the second best ..., each sequence once."""
    if len(groups) == 1:
        return groups[0]
    found: dict[tuple[int, ...], Hypothesis] = {}
    for rank in zip_longest(*groups):
        for hypothesis in sorted(filter(None, rank), key=lambda h: -h.score):
            found.setdefault(tuple(hypothesis.tokens), hypothesis)
    return list(found.values())


class _Beams:
    """The running and the finished hypotheses of the images that a search is at."""

    def __init__(
        self,
        images: int,
        *,
        beams: int,
        bos: int,
        eos: int,
        max_length: int,
        score: Score,
        stop: Stop,
        num_return: int | None,
        required: Sequence[Automaton],
        device: str,
    ) -> None:
        self.beams, self.bos, self.eos, self.max_length = beams, bos, eos, max_length
        self.score, self.stop, self.required, self.device = score, stop, required, device
        self.num_return = min(num_return or beams, beams)
        self.lengths = torch.zeros(images, dtype=torch.long, device=device)
        self.done = torch.zeros(images, dtype=torch.bool, device=device)
        shape = (images, beams)
        self.last = torch.full(shape, bos, device=device)
        self.total = torch.full(shape, NEVER, device=device)
        self.total[:, 0] = 0.0  # the beams differ only after the first step
        self.tokens = torch.zeros((*shape, max_length), dtype=torch.long, device=device)
        self.finished_score = torch.full(shape, NEVER, device=device)
        self.finished_total = torch.full(shape, NEVER, device=device)
        self.finished_length = torch.zeros(shape, dtype=torch.long, device=device)
        self.finished_tokens = torch.zeros_like(self.tokens)

    def begin(self, places: Tensor) -> None:
        """Other images in these places (B,)."""
        self.lengths[places], self.done[places], self.last[places] = 0, False, self.bos
        self.total[places], self.finished_score[places] = NEVER, NEVER
        self.total[places, 0] = 0.0

    def keep(self, images: Tensor) -> None:
        """These images (B,) and no others."""
        for name in _PER_IMAGE:
            setattr(self, name, getattr(self, name)[images])

    def advance(self, logprobs: Tensor, cost: Tensor | None = None) -> Tensor:
        """One more token (of B, K, V) on every hypothesis; the beams (B, K) that are continued.

        `cost` (B, V) counts against a token in the choice, and not in what it adds to a score.
        """
        k = self.beams
        ranked = logprobs if cost is None else logprobs - cost[:, None]
        # 2K of each row hold the 2K of all rows, and K small selections beat one over K * V.
        best, token = ranked.topk(min(2 * k, logprobs.shape[-1]), dim=-1)  # (B, K, C)
        if self.required:
            token, best, bank = self._further(ranked, token, best)
            place = _dealt((self.total[..., None] + best).flatten(1), bank.flatten(1))
            place = place[:, : 2 * k]
        else:
            value = (self.total[..., None] + best).flatten(1)
            place = value.topk(min(2 * k, value.shape[-1]), dim=-1).indices  # (B, 2K)
        parent = place // token.shape[-1]
        chosen = token.flatten(1).gather(1, place)
        gained = best if cost is None else logprobs.gather(-1, token)
        total = self.total.gather(1, parent) + gained.flatten(1).gather(1, place)
        self.lengths = (self.lengths + 1).clamp(max=self.max_length)
        ends = (chosen == self.eos) | (self.lengths == self.max_length)[:, None]
        if (ended := ends[:, :k]).any():
            self._finish(total[:, :k], ended, self._longer(parent[:, :k], chosen[:, :k]))
        # The first that do not end, in their order.
        ranks = torch.arange(ends.shape[1], device=self.device)
        order = (ranks + ends * len(ranks)).topk(k, largest=False).indices
        parent = parent.gather(1, order)
        self.last = chosen.gather(1, order)
        self.total = total.masked_fill_(ends, NEVER).gather(1, order)
        self.tokens = self._longer(parent, self.last)
        self._settle()
        return parent

    def _longer(self, parent: Tensor, chosen: Tensor) -> Tensor:
        """What beams (B, K) have written and these tokens (B, K), after `lengths` was raised."""
        found = self.tokens.gather(1, parent[..., None].expand(-1, -1, self.max_length))
        at = (self.lengths - 1)[:, None, None].expand(-1, parent.shape[1], -1)
        return found.scatter_(2, at, chosen[..., None])

    def _further(
        self, ranked: Tensor, token: Tensor, best: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates (B, K, C) and those that come further in an automaton; what they have met."""
        written = Prefixes(self.tokens[..., : int(self.lengths.max())], self.lengths)
        gains, more = [], []
        for automaton in self.required:
            need = automaton.min_remaining.to(ranked.device)
            state = automaton.states(written)
            after = need[automaton.table.to(ranked.device)[state].clamp(min=0)]  # (B, K, V)
            gains.append((need[0] - after).clamp(min=0))
            other = ranked.masked_fill(after >= need[state][..., None], NEVER)
            more.append(other.topk(min(2, ranked.shape[-1]), dim=-1).indices)
        token = torch.cat([token, *more], -1)
        best = torch.cat([best, *(ranked.gather(-1, x) for x in more)], -1)
        same = (token[..., None, :] == token[..., None]).tril(-1).any(-1)
        met = sum(gain.gather(-1, token) for gain in gains)
        return token, best.masked_fill(same, NEVER), met

    def _finish(self, total: Tensor, ends: Tensor, sequences: Tensor) -> None:
        """Merge what ends now with what ended before, and keep the K best."""
        keep = ends & ~self.done[:, None]
        lengths = self.lengths[:, None].expand_as(total)
        score = self.score(total, lengths).masked_fill(~keep, NEVER)
        score, order = torch.cat([self.finished_score, score], 1).topk(self.beams, dim=-1)
        self.finished_score = score
        self.finished_total = torch.cat([self.finished_total, total], 1).gather(1, order)
        self.finished_length = torch.cat([self.finished_length, lengths], 1).gather(1, order)
        self.finished_tokens = torch.cat([self.finished_tokens, sequences], 1).gather(
            1, order[..., None].expand(-1, -1, self.max_length)
        )

    def _settle(self) -> None:
        """Note which images are done."""
        worst, best = self.finished_score[:, self.num_return - 1], self.total.amax(1)
        if self.stop == "first":
            self.done = self.done | (worst > NEVER)
        else:
            ahead = self.max_length if self.stop == "exact" else self.lengths
            self.done = self.done | (worst >= self.score(best, ahead))
        self.done = self.done | (self.lengths == self.max_length) | (best == NEVER)

    def found(self, image: int) -> list[Hypothesis]:
        """What was found of an image, best first."""
        columns = (
            self.finished_tokens,
            self.finished_length,
            self.finished_total,
            self.finished_score,
        )
        rows = zip(*(column[image].tolist() for column in columns), strict=True)
        return [Hypothesis(x[:n], p, s) for x, n, p, s in rows if s > NEVER]


_PER_IMAGE = (
    "lengths",
    "done",
    "last",
    "total",
    "tokens",
    "finished_score",
    "finished_total",
    "finished_length",
    "finished_tokens",
)


def _dealt(value: Tensor, bank: Tensor) -> Tensor:
    """Places in values (B, C): the best of each bank (B, C), the second best of each, and so on."""
    value, order = value.sort(dim=-1, descending=True, stable=True)
    mine = torch.nn.functional.one_hot(bank.gather(1, order))  # (B, C, banks)
    rank = (mine.cumsum(1) * mine).sum(-1).masked_fill(value == NEVER, value.shape[1] + 1)
    return order.gather(1, rank.sort(dim=-1, stable=True).indices)
