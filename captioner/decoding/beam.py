"""Beam search for many images at once, with diverse groups and required phrases.

Shapes: B images in progress, K beams per image, G beams per group (K without groups), V
vocabulary, L maximum length.

A live hypothesis can still be extended; a finished one ends in EOS or has the maximum length. Of
the 2K most probable continuations of an image's live hypotheses, the first K that do not end are
the new live hypotheses, and those that end are kept as finished ones if they are among the first
K. If E ids end a sequence, the (1 + E)K most probable continuations are considered. An image is
done when it has K finished hypotheses and no live one can score better than the worst of them. The
result of an image does not depend on the other images.

Besides `step` (see `search.py`), the search receives `reorder`: after `reorder(rows)`, row i of
B * K continues the hypothesis of row `rows[i]`. Images that are done are removed from the batch
from time to time: `rows` is then shorter, and `step` receives and returns fewer images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest
from operator import and_
from typing import Any

from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.automaton import Automaton
from captioner.decoding.beam_group import BeamGroup, GroupOptions, Stop
from captioner.decoding.ends import Ends, list_ends
from captioner.decoding.rules import NEVER, Prefixes, Rule, apply_rules
from captioner.decoding.search import Hypothesis, LengthForm, Step, length_normalization

Reorder = Callable[[Array], None]
Admit = Callable[[Array], int]
COMPACTION_RATIO = 4
"""Remove finished images when they are one in four of all, because this copies the cache."""


def beam_search(
    step: Step, reorder: Reorder, *, images: int, **options: Any
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each image, best first; the options are those of `beam_stream`."""
    results = dict(beam_stream(step, reorder, images=images, **options))
    return [results[number] for number in range(images)]


def beam_stream(
    step: Step,
    reorder: Reorder,
    *,
    images: int,
    beams: int,
    bos: int,
    eos: Ends,
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
    arrays: Arrays,
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Yield each image's number and its hypotheses, best first, as soon as the image is done.

    Args:
        step: See the head of `search.py`.
        reorder: See the head of this module.
        images: Images at the start, numbered from 0.
        beams: Beams of an image, and the maximum number of its hypotheses.
        bos: Id of the token before the first one.
        eos: Id of the token that ends a sequence, or several, each a continuation of its own.
        max_length: Longest sequence in tokens, EOS included.
        length_penalty: See `length_normalization`.
        length_form: See `length_normalization`.
        stop: The comparison of live hypotheses with finished ones: at their present length
            ("heuristic", the default of transformers), at the length that favors them most
            ("exact"), or not at all ("first").
        num_return: Finished hypotheses after which an image may be done, if fewer than `beams`.
        groups: Groups that share the beams evenly (Vijayakumar et al., Diverse beam search,
            2018). Results are the best of each group, then the second best of each, and so on.
        diversity: Penalty of a token for each beam of an earlier group that chose it at this
            step. It affects the choice, not the scores.
        rules: Rules applied to the log-probabilities at each step.
        required: Automata that `rules` also enforce; beams are allocated by them (`banks.py`).
        admit: Called with the places (n,) of images that are done. It prepares further images for
            the first of these places and returns how many; their numbers continue the count.
        arrays: The functions for the arrays that `step` takes and returns.

    Raises:
        ValueError: The beams cannot be divided evenly among the groups.
    """
    if beams % groups:
        raise ValueError(f"{beams} beams cannot be divided evenly among {groups} groups")
    if stop == "exact" and length_penalty <= 0:
        stop = "heuristic"  # a greater length never improves a score
    score = length_normalization(length_penalty, length_form)
    size, count = beams // groups, min(num_return or beams // groups, beams // groups)
    ends, automata = list_ends(eos), tuple(required)
    options = GroupOptions(size, bos, ends, max_length, score, stop, count, automata, arrays)
    parts = [BeamGroup(images, options) for _ in range(groups)]
    return _Search(step, reorder, admit, parts, rules, diversity, arrays).run(images)


@dataclass
class _Search:
    """A search in progress: its groups of beams, and the number of the image at each place."""

    step: Step
    reorder: Reorder
    admit: Admit | None
    groups: list[BeamGroup]
    rules: Sequence[Rule]
    diversity: float
    arrays: Arrays

    def run(self, images: int) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Yield the results of `beam_stream`."""
        self.numbers, self.count = list(range(images)), images
        while self.numbers:
            parents = self._extend()  # (B, K)
            done = self._done()  # (B,)
            if int(done.sum()) * COMPACTION_RATIO < len(self.numbers):
                self.reorder(_rows(parents, self.arrays.arange(done.shape[0])))
                continue
            (places,) = self.arrays.nonzero(done)
            for place in places.tolist():
                yield self.numbers[place], _merge([g.results(place) for g in self.groups])
            self._replace(places, done, parents)

    def _extend(self) -> Array:
        """Append a token to every live hypothesis; return the beams (B, K) that are continued."""
        logprobs = self._logprobs()  # (B, K, V)
        if len(self.groups) == 1:
            return self.groups[0].extend(logprobs)
        chosen: Array = 0  # (B, V) after the first group
        parents = []
        for number, group in enumerate(self.groups):
            first, end = number * group.options.beams, (number + 1) * group.options.beams
            penalty = chosen * self.diversity if number else None
            parents.append(first + group.extend(logprobs[:, first:end], penalty))
            live = group.logprob > NEVER
            chosen = chosen + self.arrays.count(group.last, live, logprobs.shape[-1])
        return self.arrays.concat(parents, 1)

    def _logprobs(self) -> Array:
        """Return the log-probabilities of the next tokens (B, K, V) under the rules."""
        last = self._side_by_side([group.last for group in self.groups])
        logprobs = self.arrays.log_softmax(self.step(last))
        if not self.rules:
            return logprobs
        lengths = self.groups[0].lengths
        tokens = self._side_by_side([group.tokens for group in self.groups])  # (B, K, L)
        prefixes = Prefixes(tokens[..., : int(lengths.max())], lengths, self.arrays)
        return apply_rules(self.rules, logprobs, prefixes)

    def _side_by_side(self, groups: list[Array]) -> Array:
        """Join values (B, G, ...) of all groups to (B, K, ...)."""
        return groups[0] if len(groups) == 1 else self.arrays.concat(groups, 1)

    def _done(self) -> Array:
        """Return which images (B,) are done in all groups."""
        return reduce(and_, [group.done for group in self.groups])

    def _replace(self, places: Array, done: Array, parents: Array) -> None:
        """Put new images in the places of those that are done, and remove the other places."""
        admitted = places[: self.admit(places) if self.admit is not None else 0]
        for place in admitted.tolist():
            self.numbers[place], self.count = self.count, self.count + 1
        for group in self.groups:
            group.reset(admitted)
        done[admitted] = False
        parents[admitted] = self.arrays.arange(parents.shape[1])
        (kept,) = self.arrays.nonzero(~done)
        if len(kept) < len(self.numbers):
            self.numbers = [self.numbers[place] for place in kept.tolist()]
            for group in self.groups:
                group.select(kept)
        if self.numbers:
            self.reorder(_rows(parents[kept], kept))


def _rows(parents: Array, places: Array) -> Array:
    """Return the rows, counted over all places, of beams (B, K) of the images in places (B,)."""
    return (parents + places[:, None] * parents.shape[1]).reshape(-1)


def _merge(groups: list[list[Hypothesis]]) -> list[Hypothesis]:
    """Take the best of each group, then the second best, and so on, each sequence once."""
    if len(groups) == 1:
        return groups[0]
    merged: dict[tuple[int, ...], Hypothesis] = {}
    for rank in zip_longest(*groups):
        for hypothesis in sorted(filter(None, rank), key=lambda h: -h.score):
            merged.setdefault(tuple(hypothesis.tokens), hypothesis)
    return list(merged.values())
