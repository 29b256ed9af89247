"""A toy model for the searches, and searches by brute force.

The model of each image is a random function of the complete prefix, so that only correct calls of
`reorder` give correct probabilities.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest

from captioner.decoding import Hypothesis, Rule, beam_search, greedy_search
from captioner.decoding.arrays import Array, Arrays, namespace

BOS, EOS = 0, 1
NEVER = float("-inf")
PENALTIES = (0.0, 0.6, 1.0, 2.0, -1.0)
VOCAB, LONGEST = 5, 4
Sequence = tuple[int, ...]
Keep = Callable[[list[int]], bool]


def log_softmax(logits: np.ndarray) -> list[float]:
    """Return log-probabilities (V,), computed in float64."""
    wide = logits.astype(np.float64)
    return (wide - np.logaddexp.reduce(wide)).tolist()


class Toy:
    """A model with `step` and `reorder` for an array library, which checks how it is called."""

    def __init__(
        self, arrays: Arrays, seeds: list[int], *, vocab: int, beams: int, sharp: float = 1.5
    ) -> None:
        self.arrays = arrays
        self.seeds, self.vocab, self.beams, self.sharp = seeds, vocab, beams, sharp
        self.forbidden: tuple[int, ...] = ()
        self.present = list(seeds)  # seeds of the images that have not been removed
        self.rows: list[Sequence] = [()] * (len(seeds) * beams)
        self.calls: list[str] = []
        self.known: dict[tuple[int, Sequence], np.ndarray] = {}

    def logits(self, seed: int, prefix: Sequence) -> np.ndarray:
        """Return the logits (V,) after a prefix, which begins with BOS."""
        if (seed, prefix) not in self.known:
            rng = random.Random(repr((seed, prefix)))
            values = [rng.gauss(0, self.sharp) for _ in range(self.vocab)]
            for token in self.forbidden:
                values[token] = NEVER
            self.known[seed, prefix] = np.array(values, np.float32)
        return self.known[seed, prefix]

    def logprobs(self, seed: int, prefix: Sequence) -> list[float]:
        """Return the log-probabilities (V,) after a prefix."""
        return log_softmax(self.logits(seed, prefix))

    def step(self, tokens: Array) -> Array:
        assert namespace(tokens) == self.arrays
        assert tokens.shape == (len(self.present), self.beams)
        self.calls.append("step")
        self.rows = [
            (*row, x) for row, x in zip(self.rows, tokens.reshape(-1).tolist(), strict=True)
        ]
        found = [self.logits(self.present[i // self.beams], row) for i, row in enumerate(self.rows)]
        return self.arrays.asarray(np.stack(found)).reshape(*tokens.shape, self.vocab)

    def reorder(self, rows: Array) -> None:
        assert namespace(rows) == self.arrays
        self.calls.append("reorder")
        images = (rows // self.beams).reshape(-1, self.beams)
        assert (images == images[:, :1]).all()  # a row continues a row of its image
        stay = images[:, 0].tolist()
        assert stay == sorted(set(stay))  # the order of images does not change
        self.present = [self.present[image] for image in stay]
        self.rows = [self.rows[r] for r in rows.tolist()]

    def logprob(self, seed: int, tokens: list[int]) -> float:
        """Return the log-probability of a complete sequence, in float64."""
        total, prefix = 0.0, (BOS,)
        for token in tokens:
            total += self.logprobs(seed, prefix)[token]
            prefix += (token,)
        return total


def beam(
    toy: Toy, *, max_length: int, length_penalty: float = 1.0, stop: str = "heuristic"
) -> list[list[Hypothesis]]:
    return beam_search(
        toy.step,
        toy.reorder,
        images=len(toy.seeds),
        beams=toy.beams,
        bos=BOS,
        eos=EOS,
        max_length=max_length,
        length_penalty=length_penalty,
        stop=stop,
        arrays=toy.arrays,
    )


def greedy(toy: Toy, max_length: int) -> list[Hypothesis]:
    limits = {"bos": BOS, "eos": EOS, "max_length": max_length, "arrays": toy.arrays}
    found = greedy_search(toy.step, images=len(toy.seeds), **limits)
    return [hypothesis for [hypothesis] in found]


def all_sequences(toy: Toy, seed: int, *, max_length: int, penalty: float) -> list[Hypothesis]:
    """Return all sequences that a search could return, best first."""
    found, prefixes = [], [((BOS,), 0.0)]
    while prefixes:
        (prefix, total), *prefixes = prefixes
        logprobs = toy.logprobs(seed, prefix)
        for token, logprob in enumerate(logprobs):
            tokens, p = [*prefix[1:], token], total + logprob
            if p == NEVER:
                continue
            if token == EOS or len(tokens) == max_length:
                found.append(Hypothesis(tokens, p, p / len(tokens) ** penalty))
            else:
                prefixes.append(((BOS, *tokens), p))
    return sorted(found, key=lambda h: -h.score)


def never_stopping(
    toy: Toy, seed: int, *, beams: int, max_length: int, penalty: float
) -> list[Hypothesis]:
    """Run beam search by its definition for one image, without early stopping."""
    running, finished = [((BOS,), 0.0)], []
    for t in range(1, max_length + 1):
        further = []
        for prefix, total in running:
            logprobs = toy.logprobs(seed, prefix)
            further += [((*prefix, x), total + p) for x, p in enumerate(logprobs)]
        further = sorted(further, key=lambda pair: -pair[1])[: 2 * beams]
        ends = [prefix[-1] == EOS or t == max_length for prefix, _ in further]
        for (prefix, total), end in list(zip(further, ends, strict=True))[:beams]:
            if end:
                finished.append(Hypothesis(list(prefix[1:]), total, total / t**penalty))
        running = [pair for pair, end in zip(further, ends, strict=True) if not end][:beams]
    return sorted(finished, key=lambda h: -h.score)[:beams]


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for one, two in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(two.logprob, rel=1e-5, abs=1e-5)
        assert one.score == pytest.approx(two.score, rel=1e-5, abs=1e-5)


def sequences(longest: int = LONGEST) -> list[list[int]]:
    """Return all sequences that a search of at most `longest` tokens may return."""
    others = [token for token in range(VOCAB) if token != EOS]
    found = [list(x) for x in itertools.product(others, repeat=longest)]
    for n in range(longest):
        found += [[*x, EOS] for x in itertools.product(others, repeat=n)]
    return found


def best_of(toy: Toy, seed: int, keep: Keep, penalty: float = 1.0) -> list[Hypothesis]:
    """Return the sequences that `keep` allows, best first, by the model's probabilities."""
    found = []
    for tokens in filter(keep, sequences()):
        p = toy.logprob(seed, tokens)
        found.append(Hypothesis(tokens, p, p / len(tokens) ** penalty))
    return sorted(found, key=lambda h: -h.score)


def search(toy: Toy, rules: list[Rule], **options) -> list[list[Hypothesis]]:
    shape = {"images": len(toy.seeds), "beams": toy.beams, "bos": BOS, "eos": EOS}
    options = {"stop": "exact", "max_length": LONGEST, "arrays": toy.arrays} | options
    return beam_search(toy.step, toy.reorder, **shape, rules=rules, **options)


SEEDS = [3, 4, 5]
WIDE = len(sequences())


def assert_exhaustive(arrays: Arrays, rules: list[Rule], keep: Keep, **options) -> None:
    """Assert that a wide beam under rules finds exactly what `keep` allows, in order."""
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=WIDE)
    penalty = options.get("length_penalty", 1.0)
    for seed, found in zip(SEEDS, search(toy, rules, **options), strict=True):
        assert_same(found, best_of(toy, seed, keep, penalty))
