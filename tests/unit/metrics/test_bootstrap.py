"""Bootstrap intervals and comparisons, against resampled corpora and normal intervals; coverage."""

from __future__ import annotations

import numpy as np
import pytest
from test_caption_metrics import random_corpus

from captioner.metrics import CaptionStatistics, caption_statistics, score_captions


@pytest.fixture(scope="module")
def texts():
    return random_corpus(40, seed=3)


def test_scores_of_all_images_equal_the_corpus_scores(texts):
    result = caption_statistics(*texts, tokenized=True).scores(np.ones((1, 40)))
    expected = score_captions(*texts, tokenized=True)
    assert result.keys() == expected.keys()
    assert {k: v[0] for k, v in result.items()} == pytest.approx(expected)


def test_bootstrap_scores_equal_corpus_scores(texts):
    candidates, references = texts
    statistics = caption_statistics(candidates, references, tokenized=True)
    counts = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=3)
    result = statistics.scores(counts)
    for r, row in enumerate(counts):
        again = [(image, n) for image, count in zip(references, row, strict=True)
                 for n in range(count)]  # fmt: skip
        drawn = {key: candidates[key[0]] for key in again}
        expected = score_captions(drawn, {key: references[key[0]] for key in again}, tokenized=True)
        for name in (
            "BLEU-1",
            "BLEU-4",
            "ROUGE-L",
        ):  # CIDEr-D keeps the frequencies of the whole set
            assert result[name][r] == pytest.approx(expected[name])
        cider = np.average(statistics.means["CIDEr-D"], weights=row)
        assert result["CIDEr-D"][r] == pytest.approx(cider)


def plain(values: np.ndarray) -> CaptionStatistics:
    return CaptionStatistics(np.ones((len(values), 10)), {"mean": values})


def test_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(size=2000)
    score, low, high = plain(values).intervals(seed=5)["mean"]
    error = values.std() / np.sqrt(len(values))
    assert score == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((score - 1.96 * error, score + 1.96 * error), abs=0.003)


def test_95_percent_of_intervals_contain_the_true_mean():
    generator, held = np.random.default_rng(2), 0
    for seed in range(200):
        _, low, high = plain(generator.exponential(size=150)).intervals(draws=500, seed=seed)[
            "mean"
        ]
        held += low <= 1 <= high
    assert 180 <= held <= 197


@pytest.mark.slow
def test_paired_comparison_detects_smaller_differences():
    generator = np.random.default_rng(3)
    images = generator.normal(scale=5, size=1000)  # some images are harder for both
    one, two = plain(images), plain(images + generator.normal(0.1, 0.5, size=1000))
    _, low, high = one.intervals()["mean"]
    assert high - low > 0.5
    result = one.compare(two)["mean"]
    assert 0 < result.low < result.difference < result.high
    assert result.p < 0.01
    back = two.compare(one)["mean"]
    assert back.difference == pytest.approx(-result.difference)
    assert (back.low, back.high) == pytest.approx((-result.high, -result.low))


def test_identical_systems_have_no_difference(texts):
    statistics = caption_statistics(*texts, tokenized=True)
    for result in statistics.compare(statistics, draws=200).values():
        assert result == (0, 0, 0, 1)


@pytest.mark.parametrize(
    "text", ["k l m n", "a b k l m", "a b c k l m"]
)  # no match, and no match of 2 or 3 words
def test_systems_without_matches_have_no_difference(text):
    references = {i: ["a b c d e f"] for i in range(20)}
    one, two = (
        caption_statistics(dict.fromkeys(references, f"{text}{end}"), references, tokenized=True)
        for end in (" x", " x y z")
    )
    matched = len([word for word in text.split() if word in "abc"])
    result = one.compare(two, draws=200)
    for order in range(matched + 1, 5):
        assert result[f"BLEU-{order}"] == (0, 0, 0, 1)
    assert (result["BLEU-1"].p < 0.05) == (matched > 0)


def test_differences_of_rounding_are_ties():
    values = np.random.default_rng(6).normal(size=50)
    result = plain(values).compare(plain(values + 1e-12), draws=200)["mean"]
    assert result == (0, 0, 0, 1)


def test_p_values_of_equal_systems_are_uniform():
    generator, small = np.random.default_rng(4), 0
    for seed in range(200):
        one, two = (plain(generator.normal(size=100)) for _ in range(2))
        small += one.compare(two, draws=500, seed=seed)["mean"].p < 0.1
    assert 8 <= small <= 36


def test_bootstrap_samples_depend_only_on_the_seed(texts, monkeypatch):
    statistics = caption_statistics(*texts, tokenized=True)
    first = statistics.intervals(draws=50, seed=1)
    assert statistics.intervals(draws=50, seed=1) == first
    assert statistics.intervals(draws=50, seed=2) != first
