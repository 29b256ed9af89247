"""The live and the finished hypotheses of a group of beams, for all images of a search.

Shapes: B images in progress, G beams of the group, V vocabulary, C candidates per beam, L maximum
length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from captioner.decoding.automaton import Automaton
from captioner.decoding.banks import add_required_candidates, allocate_beams
from captioner.decoding.rules import NEVER, Prefixes
from captioner.decoding.search import Hypothesis, Score

Stop = Literal["first", "heuristic", "exact"]


@dataclass(frozen=True)
class GroupOptions:
    """The options of `beam_stream` that a group needs; `beams` are those of the group."""

    beams: int
    bos: int
    eos: int
    max_length: int
    score: Score
    stop: Stop
    num_return: int
    required: tuple[Automaton, ...]
    device: torch.device | str


class BeamGroup:
    """The state of one group of beams."""

    def __init__(self, images: int, options: GroupOptions) -> None:
        self.options = options
        shape, device = (images, options.beams), options.device
        self.lengths = torch.zeros(images, dtype=torch.long, device=device)
        self.done = torch.zeros(images, dtype=torch.bool, device=device)
        self.last = torch.full(shape, options.bos, device=device)
        self.logprob = torch.full(shape, NEVER, device=device)
        self.logprob[:, 0] = 0.0  # only one beam, since all are equal before the first step
        self.tokens = torch.zeros((*shape, options.max_length), dtype=torch.long, device=device)
        self.finished_score = torch.full(shape, NEVER, device=device)
        self.finished_logprob = torch.full(shape, NEVER, device=device)
        self.finished_length = torch.zeros(shape, dtype=torch.long, device=device)
        self.finished_tokens = torch.zeros_like(self.tokens)

    def reset(self, places: Tensor) -> None:
        """Start with new images in these places (n,)."""
        self.lengths[places], self.done[places], self.last[places] = 0, False, self.options.bos
        self.logprob[places], self.finished_score[places] = NEVER, NEVER
        self.logprob[places, 0] = 0.0

    def select(self, places: Tensor) -> None:
        """Keep the images in these places (n,) only."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[places])

    def extend(self, logprobs: Tensor, penalty: Tensor | None = None) -> Tensor:
        """Append one token to every live hypothesis.

        Args:
            logprobs: (B, G, V).
            penalty: (B, V), subtracted in the choice of tokens and not in the scores.

        Returns:
            The beams (B, G) that the new live hypotheses continue.
        """
        size = self.options.beams
        parent, token, logprob = self._candidates(logprobs, penalty)  # (B, 2G)
        self.lengths = (self.lengths + 1).clamp(max=self.options.max_length)
        ends = (token == self.options.eos) | (self.lengths == self.options.max_length)[:, None]
        if (ended := ends[:, :size]).any():
            tokens = self._append(parent[:, :size], token[:, :size])
            self._add_finished(logprob[:, :size], ended, tokens)
        ranks = torch.arange(ends.shape[1], device=ends.device)
        live = (ranks + ends * len(ranks)).topk(size, largest=False).indices  # (B, G), in order
        parent = parent.gather(1, live)
        self.last = token.gather(1, live)
        self.logprob = logprob.masked_fill_(ends, NEVER).gather(1, live)
        self.tokens = self._append(parent, self.last)
        self._update_done()
        return parent

    def _candidates(self, logprobs: Tensor, penalty: Tensor | None) -> tuple[Tensor, ...]:
        """Return the beams, tokens and total log-probabilities of the 2G best continuations."""
        count = 2 * self.options.beams
        ranked = logprobs if penalty is None else logprobs - penalty[:, None]
        # The best 2G of each beam contain the best 2G of all; G small selections are faster than
        # one over G * V.
        best, token = ranked.topk(min(count, logprobs.shape[-1]), dim=-1)  # (B, G, C)
        if self.options.required:
            automata = self.options.required
            prefixes = Prefixes(self.tokens[..., : int(self.lengths.max())], self.lengths)
            token, best, banks = add_required_candidates(automata, ranked, token, prefixes)
            values = (self.logprob[..., None] + best).flatten(1)
            index = allocate_beams(values, banks.flatten(1))[:, :count]
        else:
            values = (self.logprob[..., None] + best).flatten(1)  # (B, G * C)
            index = values.topk(min(count, values.shape[-1]), dim=-1).indices  # (B, 2G)
        parent = index // token.shape[-1]
        gain = best if penalty is None else logprobs.gather(-1, token)
        logprob = self.logprob.gather(1, parent) + gain.flatten(1).gather(1, index)
        return parent, token.flatten(1).gather(1, index), logprob

    def _append(self, parent: Tensor, token: Tensor) -> Tensor:
        """Return the sequences of beams (B, G) followed by tokens (B, G), at `lengths` - 1."""
        tokens = self.tokens.gather(1, parent[..., None].expand(-1, -1, self.options.max_length))
        index = (self.lengths - 1)[:, None, None].expand(-1, parent.shape[1], -1)
        return tokens.scatter_(2, index, token[..., None])

    def _add_finished(self, logprob: Tensor, ends: Tensor, tokens: Tensor) -> None:
        """Add the hypotheses that end now to the finished ones, and keep the G best."""
        ends = ends & ~self.done[:, None]
        lengths = self.lengths[:, None].expand_as(logprob)
        score = self.options.score(logprob, lengths).masked_fill(~ends, NEVER)
        score, order = torch.cat([self.finished_score, score], 1).topk(ends.shape[1], dim=-1)
        self.finished_score = score
        self.finished_logprob = torch.cat([self.finished_logprob, logprob], 1).gather(1, order)
        self.finished_length = torch.cat([self.finished_length, lengths], 1).gather(1, order)
        self.finished_tokens = torch.cat([self.finished_tokens, tokens], 1).gather(
            1, order[..., None].expand(-1, -1, self.options.max_length)
        )

    def _update_done(self) -> None:
        """Mark the images that are done."""
        options = self.options
        worst, best = self.finished_score[:, options.num_return - 1], self.logprob.amax(1)
        if options.stop == "first":
            self.done = self.done | (worst > NEVER)
        else:
            length = options.max_length if options.stop == "exact" else self.lengths
            self.done = self.done | (worst >= options.score(best, length))
        self.done = self.done | (self.lengths == options.max_length) | (best == NEVER)

    def results(self, place: int) -> list[Hypothesis]:
        """Return the finished hypotheses of the image at a place, best first."""
        columns = [self.finished_tokens, self.finished_length]
        columns += [self.finished_logprob, self.finished_score]
        rows = zip(*(column[place].tolist() for column in columns), strict=True)
        return [Hypothesis(x[:n], p, s) for x, n, p, s in rows if s > NEVER]
