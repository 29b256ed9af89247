"""Intervals and comparisons: against corpora that are really drawn, and against coverage."""

from __future__ import annotations

import numpy as np
import pytest
from test_caption_metrics import invented

from captioner.metrics import CaptionStatistics, caption_statistics, score_captions


@pytest.fixture(scope="module")
def texts():
    return invented(40, seed=3)


def test_counted_once_each_the_scores_are_those_of_the_corpus(texts):
    found = caption_statistics(*texts, tokenized=True).scores(np.ones((1, 40)))
    expected = score_captions(*texts, tokenized=True)
    assert found.keys() == expected.keys()
    assert {k: v[0] for k, v in found.items()} == pytest.approx(expected)


def test_a_draw_scores_as_the_corpus_that_it_draws(texts):
    candidates, references = texts
    statistics = caption_statistics(candidates, references, tokenized=True)
    counts = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=3)
    found = statistics.scores(counts)
    for r, row in enumerate(counts):
        again = [(image, n) for image, count in zip(references, row, strict=True)
                 for n in range(count)]  # fmt: skip
        drawn = {key: candidates[key[0]] for key in again}
        expected = score_captions(drawn, {key: references[key[0]] for key in again}, tokenized=True)
        for name in ("BLEU-1", "BLEU-4", "ROUGE-L"):  # CIDEr-D's frequencies stay the whole set's
            assert found[name][r] == pytest.approx(expected[name])
        cider = np.average(statistics.means["CIDEr-D"], weights=row)
        assert found["CIDEr-D"][r] == pytest.approx(cider)


def plain(values: np.ndarray) -> CaptionStatistics:
    return CaptionStatistics(np.ones((len(values), 10)), {"mean": values})


def test_an_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(size=2000)
    score, low, high = plain(values).intervals(seed=5)["mean"]
    error = values.std() / np.sqrt(len(values))
    assert score == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((score - 1.96 * error, score + 1.96 * error), abs=0.003)


def test_ninety_five_in_a_hundred_intervals_hold_the_truth():
    generator, held = np.random.default_rng(2), 0
    for seed in range(200):
        _, low, high = plain(generator.exponential(size=150)).intervals(draws=500, seed=seed)[
            "mean"
        ]
        held += low <= 1 <= high
    assert 180 <= held <= 197


@pytest.mark.slow
def test_a_comparison_sees_what_two_intervals_do_not():
    generator = np.random.default_rng(3)
    images = generator.normal(scale=5, size=1000)  # some images are harder, to both
    one, two = plain(images), plain(images + generator.normal(0.1, 0.5, size=1000))
    _, low, high = one.intervals()["mean"]
    assert high - low > 0.5
    found = one.compare(two)["mean"]
    assert 0 < found.low < found.difference < found.high
    assert found.p < 0.01
    back = two.compare(one)["mean"]
    assert back.difference == pytest.approx(-found.difference)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_of_equal_systems_neither_is_better(texts):
    statistics = caption_statistics(*texts, tokenized=True)
    for found in statistics.compare(statistics, draws=200).values():
        assert found == (0, 0, 0, 1)


def test_p_is_even_where_there_is_no_difference():
    generator, small = np.random.default_rng(4), 0
    for seed in range(200):
        one, two = (plain(generator.normal(size=100)) for _ in range(2))
        small += one.compare(two, draws=500, seed=seed)["mean"].p < 0.1
    assert 8 <= small <= 36


def test_draws_depend_on_the_seed_alone(texts, monkeypatch):
    statistics = caption_statistics(*texts, tokenized=True)
    first = statistics.intervals(draws=50, seed=1)
    assert statistics.intervals(draws=50, seed=1) == first
    assert statistics.intervals(draws=50, seed=2) != first
