"""Compare greedy and beam search with brute force on toy models."""

from __future__ import annotations

import numpy as np
import pytest
from toy_search import (
    BOS,
    EOS,
    PENALTIES,
    Sequence,
    Toy,
    all_sequences,
    assert_same,
    beam,
    greedy,
    never_stopping,
)

from captioner.decoding import Hypothesis, beam_search
from captioner.decoding.arrays import Arrays


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(
    ("vocab", "max_length", "beams"), [(3, 5, 63), (4, 4, 121), (5, 4, 341), (5, 1, 5)]
)
def test_a_wide_beam_is_an_exhaustive_search(
    arrays: Arrays, vocab: int, max_length: int, beams: int, penalty: float
) -> None:
    toy = Toy(arrays, [vocab, 77], vocab=vocab, beams=beams)
    for seed, found in zip(
        toy.seeds,
        beam(toy, max_length=max_length, length_penalty=penalty, stop="exact"),
        strict=True,
    ):
        expected = all_sequences(toy, seed, max_length=max_length, penalty=penalty)
        assert len(expected) == beams  # the number of sequences
        assert_same(found, expected)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_exact_stop_equals_search_without_early_stop(
    arrays: Arrays, beams: int, penalty: float
) -> None:
    """The exact stop criterion gives the results of a search without early stopping."""
    seeds = list(range(12))
    toy = Toy(arrays, seeds, vocab=6, beams=beams, sharp=3)
    options = {"max_length": 8, "penalty": penalty}
    for seed, found in zip(
        seeds, beam(toy, max_length=8, length_penalty=penalty, stop="exact"), strict=True
    ):
        assert_same(found, never_stopping(toy, seed, beams=beams, **options))


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
def test_a_search_stops_when_no_hypothesis_can_improve(arrays: Arrays, stop: str) -> None:
    """All tokens except EOS are so improbable that no longer hypothesis can win."""
    toy = Toy(arrays, [0], vocab=4, beams=2)
    toy.logits = lambda seed, prefix: np.array([-30.0, 0.0, -31.0, -32.0], np.float32)
    found = beam(toy, max_length=50, length_penalty=0.0, stop=stop)
    assert found[0][0].tokens == [EOS]
    assert len(toy.calls) < 10


def test_stop_criteria_are_ordered_by_effort_and_score(arrays: Arrays) -> None:
    """`first` takes the fewest steps and `exact` the most; more steps never lower the score."""
    seeds, scores, steps = list(range(30)), {}, {}
    for stop in ("first", "heuristic", "exact"):
        scores[stop], steps[stop] = [], 0
        for seed in seeds:
            toy = Toy(arrays, [seed], vocab=6, beams=2, sharp=3)
            found = beam(toy, max_length=9, stop=stop)
            scores[stop].append(found[0][0].score)
            steps[stop] += toy.calls.count("step")
    assert steps["first"] <= steps["heuristic"] < steps["exact"]
    for first, heuristic, exact in zip(*scores.values(), strict=True):
        assert first <= heuristic + 1e-6
        assert heuristic <= exact + 1e-6
    assert scores["exact"] != scores["first"]


@pytest.mark.parametrize("max_length", [1, 2, 7])
def test_one_beam_is_greedy_search(arrays: Arrays, max_length: int) -> None:
    seeds = list(range(20))
    one, two = (Toy(arrays, seeds, vocab=5, beams=1) for _ in range(2))
    for [beamed], single in zip(
        beam(one, max_length=max_length), greedy(two, max_length), strict=True
    ):
        assert_same([beamed], [single])


def test_greedy_search_chooses_the_most_probable_token(arrays: Arrays) -> None:
    seeds = list(range(20))
    toy = Toy(arrays, seeds, vocab=5, beams=1)
    lengths = set()
    for seed, found in zip(seeds, greedy(toy, 7), strict=True):
        prefix: Sequence = (BOS,)
        while len(prefix) < 8 and prefix[1:][-1:] != (EOS,):
            prefix += (int(toy.logits(seed, prefix).argmax()),)
        assert tuple(found.tokens) == prefix[1:]
        assert found.logprob == pytest.approx(toy.logprob(seed, found.tokens), rel=1e-5)
        assert found.score == pytest.approx(found.logprob / len(found.tokens))
        lengths.add(len(found.tokens))
    assert 1 in lengths
    assert 7 in lengths


def test_greedy_search_stops_when_all_rows_have_ended(arrays: Arrays) -> None:
    toy = Toy(arrays, [0, 1], vocab=3, beams=1)
    toy.logits = lambda seed, prefix: np.array([0.0, len(prefix) - 1.7 - seed, 0.5], np.float32)
    assert [h.tokens for h in greedy(toy, 100)] == [[2, 2, EOS], [2, 2, 2, EOS]]
    assert len(toy.calls) == 4


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_search_results_do_not_depend_on_the_batch(
    arrays: Arrays, stop: str, penalty: float
) -> None:
    seeds = list(range(10))
    options = {"max_length": 8, "length_penalty": penalty, "stop": stop}
    together = beam(Toy(arrays, seeds, vocab=6, beams=3, sharp=3), **options)
    apart = [beam(Toy(arrays, [s], vocab=6, beams=3, sharp=3), **options)[0] for s in seeds]
    for one, other in zip(together, apart, strict=True):
        assert_same(one, other)
    alone = [greedy(Toy(arrays, [s], vocab=6, beams=1), 8)[0] for s in seeds]
    assert_same(greedy(Toy(arrays, seeds, vocab=6, beams=1), 8), alone)


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_hypotheses_are_complete_unique_sorted_and_scored(
    arrays: Arrays, beams: int, penalty: float, stop: str
) -> None:
    seeds, max_length = list(range(15)), 6
    toy = Toy(arrays, seeds, vocab=5, beams=beams)
    found = beam(toy, max_length=max_length, length_penalty=penalty, stop=stop)
    assert len(found) == len(seeds)
    for seed, hypotheses in zip(seeds, found, strict=True):
        assert 1 <= len(hypotheses) <= beams
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for h in hypotheses:
            assert EOS not in h.tokens[:-1]
            assert h.tokens[-1] == EOS or len(h.tokens) == max_length
            assert h.logprob == pytest.approx(toy.logprob(seed, h.tokens), rel=1e-5)
            assert h.score == pytest.approx(h.logprob / len(h.tokens) ** penalty, rel=1e-5)


def test_steps_and_reorders_alternate(arrays: Arrays) -> None:
    toy = Toy(arrays, [0, 1], vocab=5, beams=3)
    beam(toy, max_length=6)
    steps = toy.calls.count("step")
    expected = ["step", "reorder"] * 6
    assert toy.calls in (expected[: 2 * steps], expected[: 2 * steps - 1])


def test_sequences_without_eos_end_at_the_maximum_length(arrays: Arrays) -> None:
    toys = [Toy(arrays, [0, 1], vocab=5, beams=beams) for beams in (3, 1)]
    for toy in toys:
        toy.forbidden = (EOS,)
    for hypotheses in [*beam(toys[0], max_length=4), *([h] for h in greedy(toys[1], 4))]:
        for h in hypotheses:
            assert len(h.tokens) == 4
            assert EOS not in h.tokens


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_forbidden_tokens_are_not_generated_and_give_no_nan(
    arrays: Arrays, stop: str, penalty: float
) -> None:
    """There are more beams than sequences, so that some beams are unused."""
    toy = Toy(arrays, [0, 1, 2], vocab=4, beams=9)
    toy.forbidden = (BOS, 3)
    found = beam(toy, max_length=4, length_penalty=penalty, stop=stop)
    for seed, hypotheses in zip(toy.seeds, found, strict=True):
        assert_same(hypotheses, all_sequences(toy, seed, max_length=4, penalty=penalty))


def test_only_eos_is_allowed(arrays: Arrays) -> None:
    toy = Toy(arrays, [0, 1], vocab=4, beams=3)
    toy.forbidden = (0, 2, 3)
    expected = Hypothesis([EOS], 0.0, 0.0)
    assert beam(toy, max_length=5) == [[expected]] * 2
    assert len(toy.calls) == 1


@pytest.mark.parametrize("num_return", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_num_return_gives_the_same_first_results_sooner(arrays, seed, num_return):
    random_numbers = np.random.default_rng(seed).standard_normal((2, 17, 17), np.float32)
    table = arrays.asarray(3 * random_numbers)
    steps = []

    def search(**options):
        count, present = [], arrays.arange(2)

        def step(tokens):
            count.append(1)
            return table[present[:, None], tokens]

        def reorder(rows):
            nonlocal present
            present = present[rows[::4] // 4]

        found = beam_search(
            step, reorder, images=2, beams=4, bos=BOS, eos=EOS, max_length=12,
            length_penalty=0.0, stop="exact", arrays=arrays, **options,
        )  # fmt: skip
        steps.append(len(count))
        return found

    whole, first = search(), search(num_return=num_return)
    assert steps[1] <= steps[0]
    for every, some in zip(whole, first, strict=True):
        assert some[:num_return] == every[:num_return]
