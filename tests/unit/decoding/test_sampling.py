"""Test the sampler against distributions computed in plain Python."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from toy_search import BOS, EOS, NEVER, VOCAB, Toy

from captioner.decoding import (
    Sampler,
    choose_best,
    collect_hypotheses,
    generate_steps,
    greedy_search,
    length_normalization,
)


def distribution(
    logits: np.ndarray, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0
) -> list[float]:
    """Return the probability of each token by the definitions of the methods."""
    weights = [math.exp(x / temperature) for x in logits.tolist()]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    kept = order[: top_k or None]
    total, mass, nucleus = sum(weights[i] for i in kept), 0.0, []
    for i in kept:
        if mass >= top_p:
            break
        nucleus.append(i)
        mass += weights[i] / total
    best = max(weights)
    nucleus = [i for i in nucleus if weights[i] >= min_p * best]
    total = sum(weights[i] for i in nucleus)
    return [weights[i] / total if i in nucleus else 0.0 for i in range(len(weights))]


SAMPLING = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 4},
    {"top_p": 0.6},
    {"top_p": 1e-9},
    {"min_p": 0.3},
    {"temperature": 2.0, "top_k": 6, "top_p": 0.8, "min_p": 0.05},
]


@pytest.mark.parametrize("options", SAMPLING, ids=str)
def test_sampler_matches_the_distribution(arrays, options):
    logits = 1.5 * np.random.default_rng(1).standard_normal(12)
    count = 20000
    # Evenly spaced numbers choose each token in proportion, to within one in `count`.
    draws = (np.arange(count) + 0.5)[None, :, None] / count
    sampler = Sampler(arrays.asarray(draws), **options)
    drawn = sampler(arrays.log_softmax(arrays.asarray(np.tile(logits, (count, 1, 1)))))
    found = np.bincount(np.ravel(drawn), minlength=12) / count
    expected = distribution(logits, **options)
    assert found.tolist() == pytest.approx(expected, abs=2e-4)
    assert [p > 0 for p in found.tolist()] == [p > 0 for p in expected]


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_forbidden_tokens_are_never_sampled(arrays, draw):
    logprobs = arrays.asarray(np.array([[[NEVER, -1.0, NEVER, -2.0, NEVER]]], np.float32))
    for options in SAMPLING:
        sampler = Sampler(arrays.asarray(np.full((1, 1, 1), draw)), **options)
        assert sampler(logprobs).item() in (1, 3)


def test_a_sampled_row_does_not_depend_on_other_rows(arrays):
    rng = random.Random(0)
    draws = np.array([[[rng.random() for _ in range(3)] for _ in range(4)] for _ in range(6)])

    def run(images, rows):
        seeds = [10 + i for i in images]
        toy = Toy(arrays, seeds, vocab=VOCAB, beams=len(rows))
        sampler = Sampler(arrays.asarray(draws[:, images][:, :, rows]), top_p=0.9)
        shape = {"images": len(images), "rows": len(rows), "bos": BOS, "eos": EOS, "arrays": arrays}
        steps = list(generate_steps(toy.step, sampler, **shape, max_length=6))
        return collect_hypotheses(steps, eos=EOS, score=length_normalization(1.0))

    together = run([0, 1, 2, 3], [0, 1, 2])
    for image in range(4):
        for row in range(3):
            assert run([image], [row]) == [[together[image][row]]]
    assert len({tuple(h.tokens) for rows in together for h in rows}) > 4
    for image, rows in enumerate(together):
        for h in rows:
            p = Toy(arrays, [0], vocab=VOCAB, beams=1).logprob(10 + image, h.tokens)
            assert h.logprob == pytest.approx(p, abs=1e-5)


def test_choose_best_is_greedy_search(arrays):
    seeds = list(range(9))
    one, two = (Toy(arrays, seeds, vocab=VOCAB, beams=1) for _ in range(2))
    shape = {"images": 9, "bos": BOS, "eos": EOS, "max_length": 6, "arrays": arrays}
    steps = list(generate_steps(one.step, choose_best, rows=1, **shape))
    assert collect_hypotheses(steps, eos=EOS, score=length_normalization(1.0)) == greedy_search(
        two.step, **shape
    )
