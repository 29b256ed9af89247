"""Servers of models of recordings: the captions are those of the captioner."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")
pytest.importorskip("soundfile")
from bad_recordings import kinds, tone, write
from serving import PHOTO, start_in_thread
from tiny_audio import make_audio_checkpoint

import captioner
from captioner.config import QuestionConfig
from captioner.predict import Inputs

pytestmark = pytest.mark.slow
WAV, LONG = write(tone()), write(tone(44_100, seconds=3, hz=880), 44_100)
QUESTION = QuestionConfig(encoder_layers=1, fusion="concat", fusion_layers=1)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> captioner.Captioner:
    """A model of recordings that answers questions."""
    folder = tmp_path_factory.mktemp("sounds") / "best"
    return captioner.load(make_audio_checkpoint(folder, question=QUESTION))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> captioner.Captioner:
    """A model of images and recordings."""
    folder = tmp_path_factory.mktemp("both") / "best"
    return captioner.load(make_audio_checkpoint(folder, images=True))


@pytest.fixture(scope="module")
def server(sounds) -> Iterator[SimpleNamespace]:
    with start_in_thread(sounds) as running:
        yield running


def test_captions_and_answers_are_those_of_the_captioner(sounds, server) -> None:
    for data in (WAV, LONG):
        (expected,) = sounds.caption([data])
        found = server.client.post("/v1/caption", content=data).json()
        assert found["caption"] == expected.text
        assert found["score"] == pytest.approx(expected.best.score, abs=1e-4)
    form = {"question": "what is this?"}
    found = server.client.post("/v1/vqa", files={"audio": WAV}, data=form).json()
    assert found["answer"] == sounds.ask(WAV, form["question"]).text
    texts = ["a red dog", "a blue cat"]
    found = server.client.post("/v1/score", files={"audio": WAV}, data={"texts": texts}).json()
    for score, expected in zip(found["scores"], sounds.score(WAV, texts), strict=True):
        assert score["logprob"] == pytest.approx(expected.logprob, abs=1e-3)


def test_bad_recordings_cause_no_server_error(server) -> None:
    statuses = {}
    for kind in kinds():
        if not callable(kind.content):
            form = {"audio": (os.fsencode(kind.name).decode("latin1"), kind.content)}
            statuses[kind.name] = server.client.post("/v1/caption", files=form).status_code
    assert len(statuses) > 90
    assert set(statuses.values()) == {200, 415, 422}
    good = [kind.name for kind in kinds() if kind.expect in ("tone", "other")]
    assert {statuses[name] for name in good if name in statuses} == {200}


def test_a_model_of_both_takes_any_of_them(both) -> None:
    inputs = {"image": (PHOTO, None), "audio": (None, WAV), "both": (PHOTO, WAV)}
    scores = set()
    with start_in_thread(both) as running:
        for image, audio in inputs.values():
            files = {"image": image, "audio": audio}
            files = {name: data for name, data in files.items() if data}
            answer = running.client.post("/v1/caption", files=files)
            (expected,) = both.caption([Inputs(image=image, audio=audio)])
            assert answer.json()["caption"] == expected.text
            assert answer.json()["score"] == pytest.approx(expected.best.score, abs=1e-4)
            scores.add(round(answer.json()["score"], 4))
        assert len(scores) == 3
        answer = running.client.post("/v1/caption", files={"image": PHOTO, "audio": PHOTO})
        assert answer.status_code == 415
