"""Test the sampler against distributions computed in plain Python."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor
from toy_search import BOS, EOS, NEVER, VOCAB, Toy

from captioner.decoding import (
    Sampler,
    choose_best,
    collect_hypotheses,
    generate_steps,
    greedy_search,
    length_normalization,
)


def distribution(logits: Tensor, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) -> list[float]:
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
def test_sampler_matches_the_distribution(options):
    logits = 1.5 * torch.randn(12, generator=torch.Generator().manual_seed(1))
    count = 20000
    # Evenly spaced numbers choose each token in proportion, to within one in `count`.
    draws = (torch.arange(count, dtype=torch.float64) + 0.5)[None, :, None] / count
    sampler = Sampler(draws, **options)
    drawn = sampler(logits.log_softmax(-1).expand(count, 1, -1)).flatten()
    found = torch.bincount(drawn, minlength=12) / count
    expected = distribution(logits, **options)
    assert found.tolist() == pytest.approx(expected, abs=2e-4)
    assert [p > 0 for p in found.tolist()] == [p > 0 for p in expected]


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_forbidden_tokens_are_never_sampled(draw):
    logprobs = torch.tensor([NEVER, -1.0, NEVER, -2.0, NEVER]).expand(1, 1, 5)
    for options in SAMPLING:
        sampler = Sampler(torch.full((1, 1, 1), draw, dtype=torch.float64), **options)
        assert sampler(logprobs).item() in (1, 3)


def test_a_sampled_row_does_not_depend_on_other_rows():
    rng = random.Random(0)
    draws = torch.tensor([[[rng.random() for _ in range(3)] for _ in range(4)] for _ in range(6)])

    def run(images, rows):
        seeds = [10 + i for i in images]
        toy = Toy(seeds, vocab=VOCAB, beams=len(rows))
        sampler = Sampler(draws[:, images][:, :, rows], top_p=0.9)
        shape = {"images": len(images), "rows": len(rows), "bos": BOS, "eos": EOS}
        steps = list(generate_steps(toy.step, sampler, **shape, max_length=6))
        return collect_hypotheses(steps, eos=EOS, score=length_normalization(1.0))

    together = run([0, 1, 2, 3], [0, 1, 2])
    for image in range(4):
        for row in range(3):
            assert run([image], [row]) == [[together[image][row]]]
    assert len({tuple(h.tokens) for rows in together for h in rows}) > 4
    for image, rows in enumerate(together):
        for h in rows:
            p = Toy([0], vocab=VOCAB, beams=1).logprob(10 + image, h.tokens)
            assert h.logprob == pytest.approx(p, abs=1e-5)


def test_choose_best_is_greedy_search():
    seeds = list(range(9))
    one, two = (Toy(seeds, vocab=VOCAB, beams=1) for _ in range(2))
    shape = {"images": 9, "bos": BOS, "eos": EOS, "max_length": 6}
    steps = list(generate_steps(one.step, choose_best, rows=1, **shape))
    assert collect_hypotheses(steps, eos=EOS, score=length_normalization(1.0)) == greedy_search(
        two.step, **shape
    )
