"""The live and the finished hypotheses of a group of beams, for all images of a search.

Shapes: B images in progress, G beams of the group, V vocabulary, C candidates per beam, N
candidates per image, L maximum length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.automaton import Automaton
from captioner.decoding.banks import add_required_candidates, allocate_beams
from captioner.decoding.ends import is_end, until_end
from captioner.decoding.rules import NEVER, Prefixes
from captioner.decoding.search import Hypothesis, Score

Stop = Literal["first", "heuristic", "exact"]


@dataclass(frozen=True)
class GroupOptions:
    """The options of `beam_stream` that a group needs; `beams` are those of the group."""

    beams: int
    bos: int
    ends: tuple[int, ...]
    max_length: int
    score: Score
    stop: Stop
    num_return: int
    required: tuple[Automaton, ...]
    arrays: Arrays


class BeamGroup:
    """The state of one group of beams."""

    def __init__(self, images: int, options: GroupOptions) -> None:
        self.options, self.arrays = options, options.arrays
        shape, full = (images, options.beams), options.arrays.full
        self.positions = options.arrays.arange(options.max_length)  # (L,)
        self.lengths = full((images,), 0)
        self.done = full((images,), False)
        self.last = full(shape, options.bos)
        self.logprob = full(shape, NEVER)
        self.logprob[:, 0] = 0.0  # only one beam, since all are equal before the first step
        self.tokens = full((*shape, options.max_length), 0)
        self.finished_score = full(shape, NEVER)
        self.finished_logprob = full(shape, NEVER)
        self.finished_tokens = full((*shape, options.max_length), 0)

    def reset(self, places: Array) -> None:
        """Start with new images in these places (n,)."""
        self.lengths[places], self.done[places], self.last[places] = 0, False, self.options.bos
        self.logprob[places], self.finished_score[places] = NEVER, NEVER
        self.logprob[places, 0] = 0.0

    def select(self, places: Array) -> None:
        """Keep the images in these places (n,) only."""
        for name in vars(self).keys() - {"options", "arrays", "positions"}:
            setattr(self, name, getattr(self, name)[places])

    def extend(self, logprobs: Array, penalty: Array | None = None) -> Array:
        """Append one token to every live hypothesis.

        Args:
            logprobs: (B, G, V).
            penalty: (B, V), subtracted in the choice of tokens and not in the scores.

        Returns:
            The beams (B, G) that the new live hypotheses continue.
        """
        size, arrays = self.options.beams, self.arrays
        parent, token, logprob = self._candidates(logprobs, penalty)  # (B, N)
        here = self.positions == self.lengths[:, None, None]  # (B, 1, L), of the new tokens
        self.lengths = (self.lengths + 1).clip(max=self.options.max_length)
        longest = self.lengths == self.options.max_length
        ends = is_end(token, self.options.ends) | longest[:, None]
        if (ended := ends[:, :size]).any():
            tokens = self._append(parent[:, :size], token[:, :size], here)
            self._add_finished(logprob[:, :size], ended, tokens)
        live = arrays.argsort(ends)[:, :size]  # (B, G), the first that do not end, in order
        parent = arrays.gather(parent, live)
        self.last = arrays.gather(token, live)
        self.logprob = arrays.gather(arrays.where(ends, NEVER, logprob), live)
        self.tokens = self._append(parent, self.last, here)
        self._update_done(longest)
        return parent

    def _candidates(self, logprobs: Array, penalty: Array | None) -> tuple[Array, Array, Array]:
        """Return the beams, tokens and total log-probabilities of the N best continuations.

        G of them do not end, because each beam has as many continuations that end as there are
        ends.
        """
        arrays, images = self.arrays, logprobs.shape[0]
        count = (1 + len(self.options.ends)) * self.options.beams
        ranked = logprobs if penalty is None else logprobs - penalty[:, None]
        # The best N of each beam contain the best N of all; G small selections are faster than
        # one over G * V.
        best, token = arrays.topk(ranked, min(count, logprobs.shape[-1]))  # (B, G, C)
        if self.options.required:
            automata = self.options.required
            prefixes = Prefixes(self.tokens[..., : int(self.lengths.max())], self.lengths, arrays)
            token, best, banks = add_required_candidates(automata, ranked, token, prefixes)
            values = (self.logprob[..., None] + best).reshape(images, -1)
            index = allocate_beams(arrays, values, banks.reshape(images, -1))[:, :count]
            logprob = arrays.gather(values, index)
        else:
            values = (self.logprob[..., None] + best).reshape(images, -1)  # (B, G * C)
            logprob, index = arrays.topk(values, min(count, values.shape[-1]))  # (B, N)
        if penalty is not None:
            totals = self.logprob[..., None] + arrays.gather(logprobs, token)
            logprob = arrays.gather(totals.reshape(images, -1), index)
        parent = index // token.shape[-1]
        return parent, arrays.gather(token.reshape(images, -1), index), logprob

    def _append(self, parent: Array, token: Array, here: Array) -> Array:
        """Return the sequences of beams (B, G) with tokens (B, G) at one position of each image."""
        tokens = self.arrays.gather(self.tokens, parent)  # (B, G, L)
        return self.arrays.where(here, token[..., None], tokens)

    def _add_finished(self, logprob: Array, ends: Array, tokens: Array) -> None:
        """Add the hypotheses that end now to the finished ones, and keep the G best."""
        arrays, ends = self.arrays, ends & ~self.done[:, None]
        score = self.options.score(logprob, arrays.float32(self.lengths)[:, None])
        score = arrays.concat([self.finished_score, arrays.where(ends, score, NEVER)], 1)
        self.finished_score, order = arrays.topk(score, ends.shape[1])
        logprobs = arrays.concat([self.finished_logprob, logprob], 1)
        self.finished_logprob = arrays.gather(logprobs, order)
        tokens = arrays.concat([self.finished_tokens, tokens], 1)
        self.finished_tokens = arrays.gather(tokens, order)

    def _update_done(self, longest: Array) -> None:
        """Mark the images that are done, among them those of the maximum length (B,)."""
        options, arrays = self.options, self.arrays
        worst, best = self.finished_score[:, options.num_return - 1], arrays.amax(self.logprob)
        if options.stop == "first":
            done = worst > NEVER
        else:
            exact = options.stop == "exact"
            length = options.max_length if exact else arrays.float32(self.lengths)
            done = worst >= options.score(best, length)
        self.done = self.done | done | longest | (best == NEVER)

    def results(self, place: int) -> list[Hypothesis]:
        """Return the finished hypotheses of the image at a place, best first."""
        columns = (self.finished_tokens, self.finished_logprob, self.finished_score)
        rows = zip(*(column[place].tolist() for column in columns), strict=True)
        return [Hypothesis(until_end(x, self.options.ends), p, s) for x, p, s in rows if s > NEVER]
