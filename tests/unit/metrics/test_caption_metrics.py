"""BLEU, ROUGE-L and CIDEr-D against pycocoevalcap, and their invariants and errors."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest

from captioner.errors import MetricError
from captioner.metrics import (
    CiderD,
    DocumentFrequency,
    bleu,
    bleu_from_statistics,
    cider_d,
    rouge_l,
    score_captions,
    score_images,
)

CAPTIONS = Path(__file__).parents[4] / "shared/flickr8k/Flickr8k_text/Flickr8k.token.txt"
NAMES = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]

Texts = tuple[dict, dict]


def random_corpus(images: int, *, seed: int = 0, empty: float = 0.05) -> Texts:
    """Return tokenized texts from a small vocabulary, with 1 to 6 references; some are empty."""
    draw = random.Random(seed)
    words = ["a", "the", "dog", "cat", "runs", "on", "in", "grass", "red", "two", "men"]

    def text() -> str:
        return " ".join(draw.choices(words, k=0 if draw.random() < empty else draw.randint(1, 9)))

    references = {f"im{i}": [text() for _ in range(draw.randint(1, 6))] for i in range(images)}
    return {image: text() for image in references}, references


def flickr(images: int) -> Texts:
    """Return, per image, a caption of another image, or one of its own with words dropped."""
    if not CAPTIONS.exists():
        pytest.skip(f"no Flickr8k captions at {CAPTIONS.name} beside the repository")
    lines = CAPTIONS.read_text(encoding="utf-8").split("\n")
    texts = [line.split("\t", 1)[1].lower() for line in lines if line]
    draw = random.Random(0)
    references = {i: texts[5 * i : 5 * i + 5] for i in range(images)}
    candidates = {}
    for i in references:
        own = [w for w in references[i][draw.randrange(5)].split() if draw.random() < 0.8]
        candidates[i] = " ".join(own) if draw.random() < 0.5 else texts[5 * ((i + 1) % images)]
    return candidates, references


def outside_scores(candidates: dict, references: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of pycocoevalcap on the same tokens: (6,) of the corpus, (images, 6)."""
    why = "pycocoevalcap is not installed"
    blue = pytest.importorskip("pycocoevalcap.bleu.bleu", reason=why).Bleu(4)
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge", reason=why).Rouge()
    cider = pytest.importorskip("pycocoevalcap.cider.cider", reason=why).Cider()
    results = {image: [text] for image, text in candidates.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        scores = [metric.compute_score(references, results) for metric in (blue, rouge, cider)]
    corpus = np.hstack([scores[0][0], scores[1][0], scores[2][0]])
    return corpus, np.column_stack([*scores[0][1], scores[1][1], scores[2][1]])


@pytest.mark.parametrize(("images", "seed"), [(1, 0), (2, 1), (7, 2), (60, 3), (300, 4)])
def test_equals_pycocoevalcap_on_generated_texts(images: int, seed: int) -> None:
    candidates, references = random_corpus(images, seed=seed)
    corpus, per_image = outside_scores(candidates, references)
    ours = score_captions(candidates, references, tokenized=True)
    np.testing.assert_allclose(list(ours.values()), corpus, rtol=0, atol=1e-9)
    each = score_images(candidates, references, tokenized=True)
    rows = [list(row.values()) for row in each.values()]
    np.testing.assert_allclose(rows, per_image, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_equals_pycocoevalcap_on_5000_flickr8k_images() -> None:
    candidates, references = flickr(5000)
    corpus, _ = outside_scores(candidates, references)
    ours = score_captions(candidates, references, tokenized=True)
    assert list(ours) == NAMES
    np.testing.assert_allclose(list(ours.values()), corpus, rtol=0, atol=1e-9)


def test_one_metric_equals_all_metrics() -> None:
    texts = random_corpus(40)
    together = score_captions(*texts, tokenized=True)
    blue = bleu(*texts, tokenized=True)
    alone = [*blue.corpus, rouge_l(*texts, tokenized=True).corpus]
    alone.append(cider_d(*texts, tokenized=True).corpus)
    assert alone == list(together.values())
    each = score_images(*texts, tokenized=True)
    assert list(each) == list(texts[1])
    for name in ("ROUGE-L", "CIDEr-D"):
        assert np.mean([row[name] for row in each.values()]) == pytest.approx(together[name])


def test_text_is_tokenized_by_default() -> None:
    plain = score_captions({1: "A dog's ball!", 2: "x"}, {1: ["a DOG's ball."], 2: ["y"]})
    tokens = ({1: "a dog 's ball", 2: "x"}, {1: ["a dog 's ball"], 2: ["y"]})
    assert plain == score_captions(*tokens, tokenized=True)
    assert plain != score_captions({1: "A dog's ball!", 2: "x"}, tokens[1], tokenized=True)


def test_order_does_not_change_scores() -> None:
    candidates, references = random_corpus(50, seed=5)
    turned = {image: references[image][::-1] for image in reversed(references)}
    one = score_captions(candidates, references, tokenized=True)
    other = score_captions(candidates, turned, tokenized=True)
    assert other == pytest.approx(one, abs=1e-12)


def test_exact_copy_has_the_best_score() -> None:
    references = {1: ["a dog runs on grass"], 2: ["two men play ball here"]}
    best = score_captions({1: references[1][0], 2: references[2][0]}, references)
    assert list(best.values()) == pytest.approx([1, 1, 1, 1, 1, 10], abs=1e-6)


def test_summed_statistics_give_the_bleu_of_a_sample() -> None:
    candidates, references = random_corpus(30, seed=6)
    rows = [4, 4, 7, 0, 29, 7]
    names = list(references)
    sample = {n: candidates[names[row]] for n, row in enumerate(rows)}
    theirs = {n: references[names[row]] for n, row in enumerate(rows)}
    statistics = bleu(candidates, references, tokenized=True).statistics[rows]
    wanted = bleu(sample, theirs, tokenized=True).corpus
    np.testing.assert_array_equal(bleu_from_statistics(statistics.sum(axis=0)), wanted)


def test_cider_object_scores_any_images_in_any_order() -> None:
    candidates, references = random_corpus(40, seed=7)
    names = list(references)
    wanted = dict(zip(names, cider_d(candidates, references, tokenized=True).images, strict=True))
    scorer = CiderD(references, tokenized=True)
    drawn = random.Random(1).choices(names, k=100)
    scores = scorer.score([candidates[name].split() for name in drawn], drawn)
    np.testing.assert_allclose(scores, [wanted[name] for name in drawn], rtol=0, atol=1e-12)
    assert scorer.score([], []).shape == (0,)


def test_repeated_unknown_words_lower_cider() -> None:
    scorer = CiderD({1: ["a dog runs fast"], 2: ["two men sit"]})
    scores = scorer.score([["a", "dog", "runs", "zebra"], ["a", "dog", "zebra", "zebra"]], [1, 1])
    assert 10 > scores[0] > scores[1] > 0
    assert scorer.score([["zebra", "zebra"], []], [1, 2]).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["df.json", "df.json.gz"])
def test_saved_frequencies_give_the_same_scores(tmp_path: Path, name: str) -> None:
    candidates, references = random_corpus(30, seed=8)
    made = DocumentFrequency.from_references(references, tokenized=True)
    made.save(tmp_path / name)
    loaded = DocumentFrequency.load(tmp_path / name)
    assert loaded == made
    wanted = cider_d(candidates, references, tokenized=True)
    got = cider_d(candidates, references, df=loaded, tokenized=True)
    assert got.corpus == pytest.approx(wanted.corpus, abs=1e-12)
    some = dict(list(references.items())[:5])
    few = cider_d({i: candidates[i] for i in some}, some, df=loaded, tokenized=True)
    np.testing.assert_allclose(few.images, wanted.images[:5], rtol=0, atol=1e-12)
    tokens = [candidates[image].split() for image in some]
    reward = CiderD(some, df=loaded, tokenized=True).score(tokens, list(some))
    np.testing.assert_allclose(reward, few.images, rtol=0, atol=1e-12)


def test_frequencies_count_images_not_captions() -> None:
    df = DocumentFrequency.from_references({1: ["A dog.", "a dog, a dog"], 2: ["one dog"]})
    assert df.images == 2
    assert (df.counts["a"], df.counts["dog"], df.counts["a dog"]) == (1, 2, 1)
    assert df.counts["a dog a dog"] == 1
    assert "dog one" not in df.counts


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b'{"images": 2}', b'{"images": 1, "counts": {"a": 2}}', b"\x1f\x8bno",
     b'{"images": 0, "counts": {}}', b'{"images": 2, "counts": [1]}',
     gzip.compress(json.dumps({"images": 3, "counts": {"a": "b"}}).encode(), mtime=0)],
)  # fmt: skip
def test_invalid_frequency_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(MetricError, match=r"broken\.json"):
        DocumentFrequency.load(path)
    with pytest.raises(MetricError, match="missing"):
        DocumentFrequency.load(tmp_path / "missing.json")


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d, score_captions, score_images])
def test_unscorable_input_is_named(metric: object) -> None:
    bad = [
        ({"a": "x"}, {"a": []}, "'a'.*none"),
        ({"a": "x"}, {"a": "a string"}, "'a'.*list of strings"),
        ({"a": None}, {"a": ["x"]}, "'a'.*NoneType"),
        ({"a": "x"}, {"a": [1]}, "'a'.*int"),
        ({"a": "x", "b": "y"}, {"a": ["x"], "c": ["z"]}, "'c'.*'b'"),
        (dict.fromkeys(range(8), "x"), {}, r"8 with no references \(0, 1, 2, 3, 4, \.\.\.\)"),
        ({}, {}, "0 ids"),
    ]
    for candidates, references, message in bad:
        with pytest.raises(MetricError, match=message):
            metric(candidates, references)


def test_cider_object_names_an_unknown_image() -> None:
    scorer = CiderD({"a": ["x"]})
    with pytest.raises(MetricError, match="'b'"):
        scorer.score([["x"]], ["b"])
    with pytest.raises(MetricError, match="2 candidates and 1 image"):
        scorer.score([["x"], ["y"]], ["a"])


def test_empty_candidate_scores_0() -> None:
    references = {1: ["a dog runs"], 2: ["two men"]}
    scores = score_images({1: "", 2: " . "}, references)
    for row in scores.values():
        assert list(row.values()) == pytest.approx([0] * 6, abs=1e-8)
