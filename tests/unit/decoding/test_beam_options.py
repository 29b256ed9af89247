"""Test options of beam search: length normalization, diverse groups, replaced images."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from toy_search import (
    BOS,
    EOS,
    PENALTIES,
    SEEDS,
    VOCAB,
    WIDE,
    Toy,
    assert_same,
    search,
    sequences,
)

from captioner.decoding import Hypothesis, beam_search, beam_stream, min_length, no_repeat_ngram


@pytest.mark.parametrize("penalty", PENALTIES)
def test_gnmt_length_normalization(arrays, penalty):
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=WIDE)
    found = search(toy, [], length_penalty=penalty, length_form="gnmt")
    for seed, rows in zip(SEEDS, found, strict=True):
        scores = {
            tuple(s): toy.logprob(seed, s) / ((5 + len(s)) / 6) ** penalty for s in sequences()
        }
        expected = sorted(scores, key=lambda s: -scores[s])
        assert [tuple(h.tokens) for h in rows] == expected
        for h in rows:
            assert h.score == pytest.approx(scores[tuple(h.tokens)], rel=1e-4, abs=1e-5)


def diverse(
    toy: Toy, seed: int, *, groups: int, size: int, diversity: float, max_length: int
) -> list[list[Hypothesis]]:
    """Return each group's finished hypotheses by the definition, without early stopping."""
    running = [[((BOS,), 0.0)] for _ in range(groups)]
    finished: list[list[Hypothesis]] = [[] for _ in range(groups)]
    for t in range(1, max_length + 1):
        taken: Counter[int] = Counter()
        for group in range(groups):
            further = []
            for prefix, total in running[group]:
                logprobs = toy.logprobs(seed, prefix)
                for token, p in enumerate(logprobs):
                    further.append(
                        (total + p - diversity * taken[token], total + p, (*prefix, token))
                    )
            further = sorted(further, key=lambda x: -x[0])[: 2 * size]
            ends = [x[2][-1] == EOS or t == max_length for x in further]
            for (_, total, prefix), end in list(zip(further, ends, strict=True))[:size]:
                if end:
                    finished[group].append(Hypothesis(list(prefix[1:]), total, total / t))
            kept = [x for x, end in zip(further, ends, strict=True) if not end][:size]
            running[group] = [(prefix, total) for _, total, prefix in kept]
            taken.update(prefix[-1] for prefix, _ in running[group])
    return [sorted(group, key=lambda h: -h.score)[:size] for group in finished]


def merged(groups: list[list[Hypothesis]]) -> list[Hypothesis]:
    found: list[Hypothesis] = []
    for rank in itertools.zip_longest(*groups):
        for h in sorted((h for h in rank if h is not None), key=lambda h: -h.score):
            if h.tokens not in [other.tokens for other in found]:
                found.append(h)
    return found


@pytest.mark.parametrize(("groups", "size"), [(2, 1), (2, 2), (3, 2), (5, 1)])
@pytest.mark.parametrize("diversity", [0.1, 0.8, 5.0])
def test_diverse_beam_search_matches_its_definition(arrays, groups, size, diversity):
    seeds = list(range(12))
    toy = Toy(arrays, seeds, vocab=7, beams=groups * size)
    found = search(toy, [], groups=groups, diversity=diversity, max_length=6)
    options = {"groups": groups, "size": size, "diversity": diversity, "max_length": 6}
    for seed, rows in zip(seeds, found, strict=True):
        assert_same(rows, merged(diverse(toy, seed, **options)))


def test_more_diversity_gives_more_different_groups(arrays):
    seeds, kinds = list(range(20)), []
    for diversity in (0.0, 0.5, 3.0):
        toy = Toy(arrays, seeds, vocab=9, beams=4)
        found = search(toy, [], groups=4, diversity=diversity, max_length=5)
        kinds.append(sum(len({h.tokens[0] for h in rows}) for rows in found))
    assert kinds[0] == len(seeds)  # without diversity all four groups are equal
    assert kinds[0] < kinds[1] < kinds[2]


def test_beams_that_groups_cannot_divide_are_rejected(arrays):
    with pytest.raises(ValueError, match="5 beams"):
        search(Toy(arrays, [1], vocab=4, beams=5), [], groups=2, diversity=1.0)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("first", [1, 4])
def test_admitted_images_have_the_same_results_as_alone(arrays, beams, first):
    seeds = list(range(23))
    toy = Toy(arrays, seeds[:first], vocab=6, beams=beams, sharp=3)
    waiting = seeds[first:]
    most = []

    def admit(places):
        assert len(places) >= 1
        new = [waiting.pop(0) for _ in range(min(len(places), len(waiting)))]
        for place, seed in zip(places.tolist(), new, strict=False):
            toy.present[place] = seed
            toy.rows[place * beams : (place + 1) * beams] = [()] * beams
        most.append(len(toy.present))
        return len(new)

    options = {"beams": beams, "bos": BOS, "eos": EOS, "max_length": 7, "arrays": arrays}
    rules = [no_repeat_ngram(2), min_length(1, eos=EOS)]
    stream = beam_stream(toy.step, toy.reorder, images=first, rules=rules, admit=admit, **options)
    found = dict(stream)
    assert sorted(found) == seeds
    assert max(most) == first
    for seed in seeds:
        alone = Toy(arrays, [seed], vocab=6, beams=beams, sharp=3)
        expected = beam_search(alone.step, alone.reorder, images=1, rules=rules, **options)
        assert_same(found[seed], expected[0])
