"""An LSTM decoder on the ONNX Runtime backend: every result equals that of the torch backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backend_pairs import (
    Pair,
    assert_same_answers,
    assert_same_attention,
    assert_same_captions,
    assert_same_scores,
    load_pair,
    make_full_checkpoint,
)
from tiny import COLOURS, THINGS, make_checkpoint, picture
from tiny_vqa import QUESTIONS

import captioner
from captioner.config import load_config
from captioner.errors import CheckpointError
from captioner.export.onnx_graphs import export_graphs
from captioner.export.website import list_graphs
from captioner.tokenizer import EOS, PAD

pytestmark = pytest.mark.slow
SEARCHES = {
    "beam": {},
    "greedy": {"beam_size": 1},
    "groups": {"beam_size": 6, "groups": 3, "diversity": 0.7, "num_captions": 6},
    "must_include": {"must_include": ["red", "boat|dog"], "num_captions": 3},
    "banned": {"banned": ["red", "dog", "street"], "num_captions": 2},
    "no_repeat_ngram": {"no_repeat_ngram": 1, "beam_size": 4},
    "sample": {"method": "sample", "temperature": 1.3, "top_k": 30, "num_captions": 3, "seed": 4},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = make_full_checkpoint(tmp_path_factory.mktemp("lstm") / "best", decoder="lstm")
    export_graphs(folder)
    return folder


@pytest.fixture(scope="module")
def pair(folder) -> Pair:
    return load_pair(folder)


def pictures(count: int) -> list:
    return [picture(i) for i in range(count)]


@pytest.mark.parametrize("search", SEARCHES)
def test_captions_equal_those_of_torch(pair, search):
    options = {"max_length": 12} | SEARCHES[search]
    expected = pair.torch.caption(pictures(13), **options)
    assert len({result.text for result in expected}) > 2
    for batch_size in (3, 13):  # with 3, other images replace those that are finished
        found = pair.onnx.caption(pictures(13), batch_size=batch_size, **options)
        assert_same_captions(found, expected)


def test_a_batch_equals_single_images(pair):
    for model in pair:
        alone = [model.caption(picture(i))[0] for i in range(5)]
        assert_same_captions(model.caption(pictures(5)), alone)


@pytest.mark.parametrize("answers", [None, ("red", "a dog", "the boat", "7")])
def test_answers_equal_those_of_torch(pair, answers):
    rows = [(image, question) for question in QUESTIONS[:4] for image in pictures(3)]
    options = {"answers": answers, "num_answers": 3}
    found = pair.onnx.answer(rows, batch_size=7, **options)
    assert_same_answers(found, pair.torch.answer(rows, **options))


@pytest.mark.parametrize("question", [None, QUESTIONS[2]])
def test_scores_and_attention_equal_those_of_torch(pair, question):
    texts = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS[:4]] + ["7", "dog"]
    found, expected = (m.score(picture(1), texts, question=question) for m in pair)
    assert_same_scores(found, expected)
    for text in ("a red dog", "7"):
        assert_same_attention(*(m.attention(picture(2), text, question=question) for m in pair))


def test_batches_of_texts_are_scored_side_by_side(pair):
    """The backend takes several images at once, with padded rows and one empty row."""
    texts = np.full((3, 4, 6), PAD)
    rng = np.random.default_rng(0)
    for image in range(3):
        for row, length in enumerate((6, 1, 4)):
            texts[image, row, :length] = rng.integers(EOS + 1, 300, length)
            texts[image, row, length - 1] = EOS
    results = []
    for model in pair:
        memories = [model.encode(image).memory for image in pictures(3)]
        (weights,) = model.backend.attention(memories, texts)
        results.append((model.backend.score(memories, texts, temperature=1.7), weights))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert not found[texts == PAD].any()


def test_the_score_of_a_caption_is_that_of_its_tokens(pair):
    for model in pair:
        caption = model.caption(picture(3), beam_size=2)[0].best
        memory = model.encode(picture(3)).memory
        scores = model.backend.score([memory], np.array([[caption.tokens]]))
        assert scores.mean() == pytest.approx(caption.score, abs=1e-4)


def test_an_ensemble_may_have_both_decoders(folder, tmp_path, add_graphs):
    other = add_graphs(make_checkpoint(tmp_path / "transformer"))
    lstm = make_checkpoint(tmp_path / "lstm", decoder="lstm")
    export_graphs(lstm)
    both = load_pair([lstm, other])
    expected = both.torch.caption(pictures(5))
    assert_same_captions(both.onnx.caption(pictures(5)), expected)
    assert [x.text for x in expected] != [x.text for x in captioner.load(lstm).caption(pictures(5))]


def test_int8_graphs_caption(tmp_path):
    folder = make_checkpoint(tmp_path / "best", decoder="lstm")
    export_graphs(folder, dtype="int8")
    model = captioner.load(folder, backend="onnx", dtype="int8")
    assert (folder / "caption.int8.onnx").is_file()
    plain = captioner.load(folder, backend="onnx", dtype="float32")
    scores = [[x.best.score for x in m.caption(pictures(5))] for m in (model, plain)]
    np.testing.assert_allclose(*scores, atol=0.3)


def test_the_static_page_does_not_run_an_lstm(folder):
    with pytest.raises(CheckpointError, match="its decoder is lstm"):
        list_graphs(folder, load_config(folder / "config.yaml"))
