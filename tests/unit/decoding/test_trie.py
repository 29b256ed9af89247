"""Compare searches in a closed set with brute force: renormalized probabilities of members."""

from __future__ import annotations

import math
import random
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from closed_sets import SETS, VOCAB, Answers, answer_sets, following, longest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_search import (
    BOS,
    EOS,
    NEVER,
    PENALTIES,
    Sequence,
    Toy,
    assert_same,
    log_softmax,
    never_stopping,
)

from captioner.decoding import (
    Hypothesis,
    Trie,
    beam_search,
    constrain_to_trie,
    greedy_search,
    sample,
)
from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.numpy_arrays import NUMPY
from captioner.decoding.torch_arrays import arrays_on

PAD = 2
STOPS = ("first", "heuristic", "exact")

each_set = pytest.mark.parametrize("answers", SETS.values(), ids=SETS)


class ClosedToy(Toy):
    """The toy model restricted to a set by a scan of all members at every step."""

    def __init__(self, answers: Answers, seeds: list[int]) -> None:
        super().__init__(NUMPY, seeds, vocab=VOCAB, beams=1)
        self.answers = answers

    def logits(self, seed: int, prefix: Sequence) -> np.ndarray:
        may = list(following(self.answers, prefix[1:]))
        closed = np.full(VOCAB, NEVER, np.float32)
        closed[may] = super().logits(seed, prefix)[may]
        return closed

    def all_members(self, seed: int) -> dict[Sequence, float]:
        """Return all members with their log-probabilities."""
        return {tuple(a): self.logprob(seed, a) for a in self.answers}


def closed_beam(
    arrays: Arrays,
    answers: Answers,
    seeds: list[int],
    *,
    beams: int,
    penalty: float = 0.0,
    stop: str = "exact",
    max_length: int | None = None,
) -> list[list[Hypothesis]]:
    toy, trie = Toy(arrays, seeds, vocab=VOCAB, beams=beams), Trie(answers, eos=EOS)
    step, reorder = constrain_to_trie(toy.step, toy.reorder, trie)
    options = {"images": len(seeds), "beams": beams, "bos": BOS, "eos": EOS, "stop": stop}
    options |= {"arrays": arrays}
    options |= {"max_length": max_length or trie.longest, "length_penalty": penalty}
    return beam_search(step, reorder, **options)


def closed_greedy(arrays: Arrays, answers: Answers, seeds: list[int]) -> list[Hypothesis]:
    toy = Toy(arrays, seeds, vocab=VOCAB, beams=1)
    step, _ = constrain_to_trie(toy.step, toy.reorder, Trie(answers, eos=EOS))
    options = {"bos": BOS, "eos": EOS, "max_length": longest(answers), "arrays": arrays}
    return [found for [found] in greedy_search(step, images=len(seeds), **options)]


def closed_sample(
    arrays: Arrays, answers: Answers, seeds: list[int], rows: int
) -> list[list[list[int]]]:
    toy = Toy(arrays, seeds, vocab=VOCAB, beams=rows)
    step, _ = constrain_to_trie(toy.step, toy.reorder, Trie(answers, eos=EOS))
    draws = np.random.default_rng(0).random((longest(answers) + 2, len(seeds), rows), np.float32)
    return sample(step, arrays.asarray(draws), bos=BOS, eos=EOS, pad=PAD).tolist()


def assert_all_members(found: list[Hypothesis], expected: dict[Sequence, float]) -> None:
    """Assert that all members occur once, in order, and that their probabilities sum to 1."""
    assert len(found) == len(expected)
    assert {tuple(h.tokens) for h in found} == set(expected)
    for h in found:
        assert h.logprob == pytest.approx(expected[tuple(h.tokens)], rel=1e-5, abs=1e-5)
    assert all(one.score >= two.score for one, two in pairwise(found))
    assert sum(math.exp(h.logprob) for h in found) == pytest.approx(1.0, abs=1e-5)


@each_set
@pytest.mark.parametrize("spare", [0, 1, 9])
@pytest.mark.parametrize("stop", STOPS)
def test_a_wide_beam_finds_all_members(
    arrays: Arrays, answers: Answers, stop: str, spare: int
) -> None:
    seeds = [1, 2, 3]
    beams = len({tuple(a) for a in answers}) + spare
    closed = ClosedToy(answers, seeds)
    for further in (0, 4):  # a longer search finds nothing more
        found = closed_beam(
            arrays, answers, seeds, beams=beams, stop=stop, max_length=longest(answers) + further
        )
        for seed, hypotheses in zip(seeds, found, strict=True):
            assert_all_members(hypotheses, closed.all_members(seed))


@given(answer_sets, st.integers(0, 4), st.sampled_from(PENALTIES), st.sampled_from(STOPS))
def test_a_wide_beam_finds_all_members_of_any_set(
    arrays: Arrays, answers: Answers, spare: int, penalty: float, stop: str
) -> None:
    beams, seeds = len(answers) + spare, [4, 5]
    found = closed_beam(arrays, answers, seeds, beams=beams, penalty=penalty, stop=stop)
    for seed, hypotheses in zip(seeds, found, strict=True):
        assert_all_members(hypotheses, ClosedToy(answers, seeds).all_members(seed))
        for h in hypotheses:
            assert h.score == pytest.approx(h.logprob / len(h.tokens) ** penalty, rel=1e-5)


@given(answer_sets, st.integers(1, 6), st.sampled_from(PENALTIES))
def test_a_narrow_beam_equals_beam_search_on_a_closed_model(
    arrays: Arrays, answers: Answers, beams: int, penalty: float
) -> None:
    seeds = [6, 7]
    options = {"beams": beams, "max_length": longest(answers), "penalty": penalty}
    for seed, found in zip(seeds, closed_beam(arrays, answers, seeds, **options), strict=True):
        expected = never_stopping(ClosedToy(answers, seeds), seed, **options)
        assert_same(found, [h for h in expected if h.logprob > NEVER])
        assert found


@given(answer_sets, st.integers(1, 6), st.sampled_from(PENALTIES), st.sampled_from(STOPS))
def test_only_members_are_generated(
    arrays: Arrays, answers: Answers, beams: int, penalty: float, stop: str
) -> None:
    seeds = [8, 9]
    found = closed_beam(arrays, answers, seeds, beams=beams, penalty=penalty, stop=stop)
    for seed, hypotheses in zip(seeds, found, strict=True):
        expected = ClosedToy(answers, seeds).all_members(seed)
        assert 1 <= len(hypotheses) <= beams
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)
        for h in hypotheses:
            assert h.logprob == pytest.approx(expected[tuple(h.tokens)], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("beams", [1, 5])
def test_a_single_answer_is_certain(arrays: Arrays, beams: int) -> None:
    for answer in ([EOS], [3, EOS], [3, 3, 4, 5, 2, EOS]):
        expected = [Hypothesis(answer, 0.0, 0.0)]
        assert closed_beam(arrays, [answer], [1, 2], beams=beams) == [expected] * 2
        assert closed_greedy(arrays, [answer], [1, 2]) == expected * 2


@given(answer_sets)
def test_greedy_search_chooses_the_most_probable_allowed_token(
    arrays: Arrays, answers: Answers
) -> None:
    seeds = list(range(6))
    closed = ClosedToy(answers, seeds)
    beamed = closed_beam(arrays, answers, seeds, beams=1, penalty=1.0, stop="first")
    for seed, found, hypotheses in zip(
        seeds, closed_greedy(arrays, answers, seeds), beamed, strict=True
    ):
        prefix: Sequence = (BOS,)
        while prefix[-1] != EOS:
            prefix += (int(closed.logits(seed, prefix).argmax()),)
        assert tuple(found.tokens) == prefix[1:]
        assert found.logprob == pytest.approx(closed.logprob(seed, found.tokens), abs=1e-5)
        assert_same(hypotheses, [found])


@given(answer_sets)
def test_samples_are_members(arrays: Arrays, answers: Answers) -> None:
    members = {tuple(a) for a in answers}
    for image in closed_sample(arrays, answers, [1, 2], rows=8):
        for row in image:
            end = row.index(EOS) + 1
            assert tuple(row[:end]) in members
            assert set(row[end:]) <= {PAD}


def test_samples_match_the_probabilities_of_members(arrays: Arrays) -> None:
    answers, rows = SETS["prefixes"] + SETS["one end"], 3000
    for seed in (3, 4):
        [image] = closed_sample(arrays, answers, [seed], rows)
        drawn = [tuple(row[: row.index(EOS) + 1]) for row in image]
        for member, logprob in ClosedToy(answers, [seed]).all_members(seed).items():
            p = math.exp(logprob)
            error = 5 * math.sqrt(p * (1 - p) / rows) + 1 / rows
            assert drawn.count(member) / rows == pytest.approx(p, abs=error)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("beams", [1, 3, 20])
@pytest.mark.parametrize("name", ["prefixes", "deep and shallow", "one end"])
def test_search_results_do_not_depend_on_the_batch(
    arrays: Arrays, name: str, beams: int, stop: str
) -> None:
    seeds, options = list(range(8)), {"beams": beams, "penalty": 1.0, "stop": stop}
    together = closed_beam(arrays, SETS[name], seeds, **options)
    assert together == [closed_beam(arrays, SETS[name], [s], **options)[0] for s in seeds]
    alone = [closed_greedy(arrays, SETS[name], [s])[0] for s in seeds]
    assert closed_greedy(arrays, SETS[name], seeds) == alone
    assert len({tuple(h.tokens) for h in alone}) > 1  # the images differ


def test_concurrent_searches_can_share_a_trie(arrays: Arrays) -> None:
    """The position in the trie is part of the search, not of the trie."""
    trie = Trie(SETS["one path"] + SETS["prefixes"], eos=EOS)
    logits = arrays.full((1, 1, VOCAB), 0.0)
    one, two = (constrain_to_trie(lambda x: logits, lambda rows: None, trie)[0] for _ in range(2))
    start, three, five = (arrays.full((1, 1), token) for token in (BOS, 3, 5))

    def allowed_tokens(found: Array) -> set[int]:
        return {token for token, x in enumerate(found[0, 0].tolist()) if x > NEVER}

    assert allowed_tokens(one(start)) == {EOS, 3, 5}
    assert allowed_tokens(one(five)) == {EOS, 5}
    assert allowed_tokens(two(start)) == {EOS, 3, 5}
    assert allowed_tokens(two(three)) == {EOS, 4}
    assert allowed_tokens(one(five)) == {EOS, 5}
    assert allowed_tokens(one(three)) == {EOS}


def test_allowed_tokens_that_the_model_forbids_are_equally_probable(arrays: Arrays) -> None:
    toy = Toy(arrays, [1, 2], vocab=VOCAB, beams=8)
    toy.forbidden = (3, 4)
    answers = [[3, 5, EOS], [3, EOS], [4, 5, EOS], [4, 3, EOS]]
    step, reorder = constrain_to_trie(toy.step, toy.reorder, Trie(answers, eos=EOS))
    options = {"images": 2, "beams": 8, "bos": BOS, "eos": EOS, "max_length": 3, "arrays": arrays}
    for seed, found in zip(toy.seeds, beam_search(step, reorder, **options), strict=True):
        # After 3 the model decides; after 4 it forbids one of the two continuations.
        after = log_softmax(toy.logits(seed, (BOS, 3))[[5, EOS]])
        expected = {
            (3, 5, EOS): after[0] - math.log(2),
            (3, EOS): after[1] - math.log(2),
            (4, 5, EOS): -math.log(2),
        }
        assert_all_members(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_search_on_an_accelerator_matches_the_cpu() -> None:
    answers, found = SETS["prefixes"] + SETS["one end"], []
    for arrays in (arrays_on("cpu"), arrays_on("cuda")):
        found.append(closed_beam(arrays, answers, [1, 2], beams=20))
    for one, two in zip(*found, strict=True):
        expected = {tuple(h.tokens): h.logprob for h in one}
        assert_all_members(two, expected)


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_a_trie_of_thousands_of_answers_is_small_and_fast(arrays: Arrays, seed: int) -> None:
    """3000 answers of up to seven tokens for 16 images and 5 beams, with a generous limit."""
    rng, vocab = random.Random(seed), 3000
    drawn = [[rng.randrange(4, vocab) for _ in range(rng.randint(1, 6))] for _ in range(3000)]
    trie = Trie([[*word, EOS] for word in drawn], eos=EOS)
    assert sum(getattr(x, "nbytes", 0) for x in vars(trie).values()) < 2**20

    random_numbers = np.random.default_rng(seed).standard_normal((16, 5, vocab), np.float32)
    logits = arrays.asarray(random_numbers)
    step, reorder = constrain_to_trie(lambda x: logits[: len(x)], lambda rows: None, trie)
    times = []

    def timed(tokens: Array) -> Array:
        start = time.perf_counter()
        found = step(tokens)
        times.append(time.perf_counter() - start)
        return found

    options = {"images": 16, "beams": 5, "bos": BOS, "eos": EOS, "max_length": trie.longest}
    options |= {"arrays": arrays}
    found = beam_search(timed, reorder, **options, stop="exact")
    members = {(*word, EOS) for word in drawn}
    assert all(tuple(h.tokens) in members for hypotheses in found for h in hypotheses)
    assert sorted(times)[len(times) // 2] < 0.05  # seconds per step
