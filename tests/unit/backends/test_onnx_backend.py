"""The ONNX Runtime backend: every result equals that of the torch backend."""

from __future__ import annotations

import copy
import inspect
import pickle
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backend_pairs import (
    Pair,
    assert_same_answers,
    assert_same_attention,
    assert_same_captions,
    assert_same_scores,
    calibrate,
    load_pair,
    make_full_checkpoint,
)
from tiny import COLOURS, THINGS, picture
from tiny_vqa import QUESTIONS

import captioner
from captioner.backends.base import Backend, DecodingState
from captioner.backends.onnx_backend import TOKENS_AT_ONCE, OnnxBackend
from captioner.backends.onnx_decoding import OnnxDecodingState, average_logits
from captioner.errors import CaptionerError, CheckpointError
from captioner.tokenizer import BOS, EOS, PAD

pytestmark = pytest.mark.slow
IMAGES = 13
SAMPLING = {"method": "sample", "temperature": 1.3, "top_k": 30, "top_p": 0.95, "min_p": 0.001}
SEARCHES = {
    "beam": {},
    "greedy": {"beam_size": 1},
    "wide": {"beam_size": 7, "num_captions": 7},
    "groups": {"beam_size": 6, "groups": 3, "diversity": 0.7, "num_captions": 6},
    "must_include": {"must_include": ["red", "boat|dog"], "num_captions": 3},
    "banned": {"banned": ["red", "dog", "street"], "num_captions": 2},
    "prefix": {"prefix": "a pink dog", "no_repeat_ngram": 2},
    "no_repeat_ngram": {"no_repeat_ngram": 2, "beam_size": 4},
    "repetition_penalty": {"repetition_penalty": 1.7},
    "min_length": {"min_length": 7, "no_dangling": True, "length_penalty": 2.0},
    "sample": {**SAMPLING, "num_captions": 3, "seed": 4},
}


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def folder(request, tmp_path_factory, add_graphs) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "best"
    return add_graphs(calibrate(make_full_checkpoint(path, decoder=request.param)))


@pytest.fixture(scope="module")
def pair(folder) -> Pair:
    return load_pair(folder)


@pytest.fixture(scope="module")
def backend(pair) -> OnnxBackend:
    return pair.onnx.backend


def pictures(count: int = IMAGES, first: int = 0) -> list:
    return [picture(i) for i in range(first, first + count)]


@pytest.mark.parametrize(
    ("protocol", "kind"), [(Backend, OnnxBackend), (DecodingState, OnnxDecodingState)]
)
def test_the_onnx_backend_implements_the_interface(backend, protocol, kind):
    names = [name for name in vars(protocol) if not name.startswith("_")]
    for name in names:
        member = getattr(protocol, name)
        if isinstance(member, property):
            assert hasattr(backend, name)
        else:
            ours, theirs = (inspect.signature(f).parameters for f in (getattr(kind, name), member))
            assert list(ours) == list(theirs)


@pytest.mark.parametrize("search", SEARCHES)
def test_captions_equal_those_of_torch(pair, search):
    options = {"max_length": 12} | SEARCHES[search]
    expected = pair.torch.caption(pictures(), **options)
    assert_same_captions(pair.onnx.caption(pictures(), **options), expected)
    assert len({result.text for result in expected}) > 2
    # More images than places: others replace those that are finished, at different steps.
    for batch_size in (1, 3):
        found = pair.onnx.caption(pictures(), batch_size=batch_size, **options)
        assert_same_captions(found, expected)


def test_a_batch_equals_single_images(pair):
    for model in pair:
        alone = [model.caption(picture(i))[0] for i in range(5)]
        assert_same_captions(model.caption(pictures(5)), alone)


def test_replaced_images_have_captions_of_different_lengths(pair):
    options = {"max_length": 12, "no_repeat_ngram": 1}  # without it, most have the full length
    results = pair.onnx.caption(pictures(40), batch_size=4, **options)
    assert_same_captions(results, pair.torch.caption(pictures(40), **options))
    assert len({len(result.best.tokens) for result in results}) > 3


@pytest.mark.parametrize("seed", range(12))
def test_random_options(pair, seed):
    rng = random.Random(seed)
    beams = rng.choice([1, 2, 3, 6])
    options = {
        "beam_size": beams,
        "num_captions": rng.randint(1, beams),
        "max_length": rng.randint(7, 12),
        "repetition_penalty": rng.choice([1.0, 1.0, 1.3]),
        "no_repeat_ngram": rng.choice([0, 0, 1, 2]),
        "banned": rng.sample(COLOURS + THINGS, rng.randint(0, 3)),
        "batch_size": rng.randint(1, 6),
    }
    if beams > 1:
        options["length_penalty"] = rng.choice([0.0, 0.7, 1.9])
        options["length_form"] = rng.choice(["average", "gnmt"])
    if rng.random() < 0.3:
        options["must_include"] = [rng.choice(sorted({*THINGS} - {*options["banned"]}))]
    images = pictures(9, first=100 * seed)
    assert_same_captions(
        pair.onnx.caption(images, **options), pair.torch.caption(images, **options)
    )


@pytest.mark.parametrize("options", [{}, {"method": "sample", "seed": 2}, {"banned": "dog"}])
@pytest.mark.parametrize("question", [None, QUESTIONS[1]])
def test_streams_equal_those_of_torch(pair, options, question):
    for image in pictures(3):
        found, expected = (list(m.stream(image, question=question, **options)) for m in pair)
        assert found == expected != []


@pytest.mark.parametrize("answers", [None, ("red", "a dog", "the boat", "7")])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_answers_equal_those_of_torch(pair, answers, batch_size):
    images = pictures(4)
    rows = [(image, question) for question in QUESTIONS for image in images]
    rows += [(b"no image", QUESTIONS[0]), (images[0], "?"), (images[0], "a dog")]
    options = {"answers": answers, "num_answers": 3}
    found = pair.onnx.answer(rows, batch_size=batch_size, **options)
    expected = pair.torch.answer(rows, **options)
    assert_same_answers(found, expected)
    assert len({result.best.confidence for result in expected if result.error is None}) > 20


def test_the_caption_decoder_never_answers_in_place_of_the_other(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "best")
    model = captioner.load(copied, backend="onnx")
    for graph in copied.glob("answer*.onnx"):
        graph.unlink()
    assert model.caption(picture(0))[0].best.tokens
    with pytest.raises(CheckpointError, match=r"answer_(cross|start)\.onnx: no such graph"):
        model.ask(picture(0), QUESTIONS[0])


@pytest.mark.parametrize("question", [None, QUESTIONS[2]])
def test_scores_equal_those_of_torch(pair, question):
    texts = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS] + ["7", "dog", "7 8"]
    texts = [text for text in texts if len(pair.onnx.tokenizer.encode(text)) <= 12]
    assert sum(len(pair.onnx.tokenizer.encode(text)) for text in texts) > TOKENS_AT_ONCE
    found, expected = (m.score(picture(1), texts, question=question) for m in pair)
    assert_same_scores(found, expected)
    (alone,) = pair.onnx.score(picture(1), texts[:1], question=question)
    assert_same_scores([alone], expected[:1])
    assert pair.onnx.score(picture(1), [], question=question) == []


def test_the_score_of_a_caption_is_that_of_its_tokens(pair):
    for model in pair:
        caption = model.caption(picture(3), beam_size=2)[0].best
        scores = model.backend.score(
            [model.encode(picture(3)).memory], np.array([[caption.tokens]])
        )
        assert scores.mean() == pytest.approx(caption.score, abs=1e-4)


def test_attention_equals_that_of_torch(pair):
    for question in (None, QUESTIONS[0]):
        for text in ("a red dog", "7"):
            maps = [m.attention(picture(2), text, question=question) for m in pair]
            assert_same_attention(*maps)


def test_batches_of_texts_are_scored_and_attend_side_by_side(pair):
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
        scores = model.backend.score(memories, texts, temperature=1.7)
        (weights,) = model.backend.attention(memories, texts)
        results.append((scores, weights))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert not found[texts == PAD].any()


def test_an_encoded_image_is_used_by_its_own_captioner_only(pair):
    encoded = pair.onnx.encode(picture(0))
    assert_same_scores(
        pair.onnx.score(copy.deepcopy(encoded), ["a dog"]), pair.torch.score(picture(0), ["a dog"])
    )
    with pytest.raises(CaptionerError, match="another model has encoded"):
        pair.torch.score(encoded, ["a dog"])
    with pytest.raises(CaptionerError, match="cannot be pickled"):
        pickle.dumps(encoded)
    # As a server does, which keeps encoded images in another process.
    sent = replace(pickle.loads(pickle.dumps(replace(encoded, backend=None))))
    returned = replace(sent, backend=pair.onnx.backend)
    assert pair.onnx.score(returned, ["a dog"]) == pair.onnx.score(encoded, ["a dog"])
    assert_same_answers([pair.onnx.ask(returned, "a dog?")], [pair.torch.ask(picture(0), "a dog?")])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_captioner_can_be_copied(folder, again):
    model = captioner.load(folder, tta=2)
    copied = again(model)
    assert isinstance(copied.backend, OnnxBackend)
    assert copied.backend is not model.backend
    assert copied.backend.tta == 2
    assert_same_captions(copied.caption(pictures(3)), model.caption(pictures(3)))


def test_threads_share_one_captioner(folder):
    """Graphs are loaded at their first use, which several threads may make at the same time."""
    model = captioner.load(folder, backend="onnx")
    work: list[Callable[[int], object]] = [
        lambda i: model.caption(picture(i))[0].text,
        lambda i: model.ask(picture(i), QUESTIONS[0]).text,
        lambda i: model.score(picture(i), ["a red dog"])[0].score,
        lambda i: [x.weights.tolist() for x in model.attention(picture(i), "a red dog")],
    ]
    with ThreadPoolExecutor(8) as pool:
        found = [list(pool.map(call, range(6))) for call in work * 2]
    assert found == [[call(i) for i in range(6)] for call in work] * 2


def test_logits_are_not_changed_after_a_step(pair):
    """Special tokens are -inf, and the next step begins with the tokens that are given."""
    memories = pair.onnx.backend.encode([pair.onnx.backend.read(picture(0))])
    state = pair.onnx.backend.start(memories, rows=3, room=4)
    first = state.step(np.full((1, 3), BOS))
    assert np.isneginf(first[..., PAD:EOS]).all()
    assert np.isfinite(first[..., EOS:]).all()
    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    state.reorder(np.array([2, 2, 0]))
    second = state.step(np.array([[7, 9, 7]]))
    np.testing.assert_allclose(second[:, 0], second[:, 2], atol=1e-5)
    assert np.abs(second[0, 0, EOS:] - second[0, 1, EOS:]).max() > 1e-3


def test_an_average_of_small_probabilities_is_no_zero():
    logits = np.array([[[-np.inf] * 3 + [0.0, -200.0, -300.0]]], np.float32)
    (mean,) = average_logits([logits, logits - 5])[0]
    np.testing.assert_allclose(mean[EOS:], [0, -200, -300])
    assert np.isneginf(mean[:EOS]).all()
