"""Graphs of models of recordings: ONNX Runtime gives the results of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backend_pairs import (
    Pair,
    assert_same_answers,
    assert_same_attention,
    assert_same_captions,
    load_pair,
)
from tiny import THINGS, picture
from tiny_audio import RATE, make_audio_checkpoint, tone

import captioner
from captioner.config import QuestionConfig
from captioner.errors import CaptionerError, InputError

pytestmark = pytest.mark.slow
SOUNDS = [(tone(hz), RATE) for hz in (110, 440, 900, 1900)]
LONG = (np.concatenate([tone(200), tone(1500), tone(700, seconds=0.5)]), RATE)
"""A recording of three windows."""
QUESTIONS = ["what is it", "where is the red dog"]


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def sounds(request, tmp_path_factory, add_graphs) -> Pair:
    """Return a model of recordings that answers questions."""
    folder = tmp_path_factory.mktemp("audio") / "best"
    question = QuestionConfig(encoder_layers=1, fusion="concat", fusion_layers=1)
    make_audio_checkpoint(folder, question=question, decoder=request.param)
    return load_pair(add_graphs(folder))


@pytest.fixture(scope="module", params=["concat", "cross_attention", "multiply"])
def both(request, tmp_path_factory, add_graphs) -> Pair:
    """Return a model of images and recordings that answers questions."""
    folder: Path = tmp_path_factory.mktemp("both") / "best"
    question = QuestionConfig(encoder_layers=1, fusion=request.param, fusion_layers=1)
    return load_pair(add_graphs(make_audio_checkpoint(folder, images=True, question=question)))


def inputs() -> list:
    """Return inputs of a model of images and recordings, with all combinations."""
    pairs = [captioner.Inputs(picture(i), sound) for i, sound in enumerate(SOUNDS)]
    return [picture(7), *pairs[:2], SOUNDS[0], picture(8), LONG, pairs[3], SOUNDS[3]]


def test_captions_of_recordings_are_those_of_torch(sounds):
    results = [model.caption([*SOUNDS, LONG], num_captions=2) for model in sounds]
    assert_same_captions(*results)
    assert len({result.text for result in results[0]}) > 1
    assert {result.inputs for result in results[0]} == {("audio",)}


def test_answers_about_recordings_are_those_of_torch(sounds):
    rows = [(sound, question) for sound in [*SOUNDS, LONG] for question in QUESTIONS]
    assert_same_answers(*(model.answer(rows) for model in sounds))


@pytest.mark.parametrize("images", [False, True])
def test_classified_answers_about_recordings_are_those_of_torch(tmp_path, add_graphs, images):
    question = QuestionConfig(encoder_layers=1, fusion="add", classes=len(THINGS))
    folder = make_audio_checkpoint(
        tmp_path / "best", images=images, question=question, answers=THINGS
    )
    pair = load_pair(add_graphs(folder))
    some = inputs() if images else [*SOUNDS, LONG]
    rows = [(one, question) for one in some for question in QUESTIONS]
    results = [model.answer(rows, num_answers=len(THINGS)) for model in pair]
    assert_same_answers(*results)
    assert len({result.text for result in results[0]}) > 1
    for result in results[0]:
        assert {answer.text for answer in result.answers} == set(THINGS)


def test_attention_to_a_recording_has_the_grid_of_its_spectrogram(sounds):
    maps = [model.attention(SOUNDS[1], "a red dog") for model in sounds]
    assert_same_attention(*maps)
    assert maps[0][0].weights.shape == (1, 2)  # 32 x 64 at a stride of 32
    assert maps[0][0].weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_a_model_of_recordings_refuses_views_and_images(sounds, backend):
    model = getattr(sounds, backend)
    with pytest.raises(CaptionerError, match=r"tta=2: .* recordings only"):
        captioner.load(model._origin.names, backend=backend, tta=2)
    with pytest.raises(InputError, match=r"an image was given; this model takes recordings only"):
        model.encode(captioner.Inputs(image=picture(1)))


def test_captions_of_all_combinations_are_those_of_torch(both):
    results = [model.caption(inputs(), num_captions=2) for model in both]
    assert_same_captions(*results)
    assert [r.inputs for r in results[0]] == [
        ("image",), ("image", "audio"), ("image", "audio"), ("audio",), ("image",), ("audio",),
        ("image", "audio"), ("audio",),
    ]  # fmt: skip


def test_answers_about_all_combinations_are_those_of_torch(both):
    rows = [(some, question) for some in inputs() for question in QUESTIONS]
    assert_same_answers(*(model.answer(rows) for model in both))


@pytest.mark.parametrize("options", [{}, {"method": "sample", "seed": 3, "num_captions": 2}])
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_captions_do_not_depend_on_the_other_inputs_of_a_batch(both, backend, options):
    model = getattr(both, backend)
    together = model.caption(inputs(), **options)
    for number, some in enumerate(inputs()):
        if options and number:
            break  # a sample depends on its number
        (alone,) = model.caption([some], **options)
        assert [c.tokens for c in alone.captions] == [c.tokens for c in together[number].captions]


def test_both_inputs_change_the_memory(both):
    model = both.torch
    memories = [
        model.encode(some).memory.states[0]
        for some in (picture(1), SOUNDS[1], captioner.Inputs(picture(1), SOUNDS[1]))
    ]
    image, sound, pair = memories
    assert image.shape[1] + sound.shape[1] == pair.shape[1]
    np.testing.assert_allclose(pair[:, : image.shape[1]], image, atol=1e-5)
    np.testing.assert_allclose(pair[:, image.shape[1] :], sound, atol=1e-5)
