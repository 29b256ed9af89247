"""Recordings in requests: all forms, limits, and models that take images or recordings only."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from bad_inputs import GREY, encode

pytest.importorskip("gradio")
pytest.importorskip("soundfile")
from bad_recordings import TONE, kinds, tone, write
from serving import PHOTO, FakeCaptioner, FakeListener, chat_texts, message, start_in_thread

WAV = write(TONE)
CAPTION = "16000 samples at 16000 up to 0.50"


@pytest.fixture(scope="module")
def listener() -> Iterator[SimpleNamespace]:
    """A server whose model takes recordings only."""
    with start_in_thread(FakeListener(), max_audio_seconds=10.0) as running:
        yield running


@pytest.fixture(scope="module")
def viewer() -> Iterator[SimpleNamespace]:
    """A server whose model takes images only."""
    with start_in_thread(FakeCaptioner()) as running:
        yield running


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_all_request_forms_return_the_caption(listener, kind: str) -> None:
    data = WAV if kind == "WAV" else write(TONE, kind=kind)
    encoded = base64.b64encode(data).decode()
    post = listener.client.post
    answers = [
        post("/v1/caption", files={"audio": data}),
        post("/v1/caption", files={"image": ("photo.jpg", data, "image/jpeg")}),
        post("/v1/caption", json={"audio": encoded}),
        post("/v1/caption", json={"audio": f"data:audio/wav;base64,{encoded}"}),
        post("/v1/caption", json={"audio": {"url": f"data:;base64,{encoded}"}}),
        post("/v1/caption", content=data, headers={"content-type": "audio/wav"}),
        post("/v1/caption", content=data),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.json()["caption"].startswith(CAPTION[:24])
        assert answer.json()["low_confidence"] is False


def test_recordings_of_other_rates_are_resampled_and_averaged(listener) -> None:
    stereo = write(tone(44_100)[:, None] * [1.0, 0.5], 44_100)
    answer = listener.client.post("/v1/caption", content=stereo)
    assert answer.json()["caption"] == "16000 samples at 16000 up to 0.38"


def test_questions_texts_and_the_hugging_face_api_take_recordings(listener) -> None:
    answer = listener.client.post("/v1/vqa", files={"audio": WAV}, data={"question": "what is it"})
    assert answer.json()["answer"] == f"{CAPTION} what is it"
    answer = listener.client.post("/hf/", content=WAV)
    assert answer.json() == [{"generated_text": CAPTION}]


def test_a_chat_takes_recordings(listener, viewer) -> None:
    def chat(*parts: dict) -> dict:
        return {"json": {"messages": [{"role": "user", "content": parts}]}}

    encoded = base64.b64encode(WAV).decode()
    audio = {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}}
    post = listener.client.post
    answer = post("/v1/chat/completions", **chat(audio))
    assert chat_texts(answer.json()) == [CAPTION]
    answer = viewer.client.post("/v1/chat/completions", **chat(audio))
    assert message(answer) == "<bytes>: is a recording; this model takes images only"
    for parts, text in (
        ((audio, audio), "2 recordings; send one"),
        (({"type": "input_audio", "input_audio": encoded},), "expected an object with data"),
        (({"type": "input_audio", "input_audio": {"url": "x"}},), "input_audio.url"),
        ((audio | {"text": "x"},), "a part of type input_audio has none"),
    ):
        answer = post("/v1/chat/completions", **chat(*parts))
        assert answer.status_code == 422
        assert text in message(answer)


def test_silence_has_low_confidence(listener) -> None:
    answer = listener.client.post("/v1/caption", content=write(0 * TONE))
    assert answer.json()["low_confidence"] is True


def test_a_model_of_images_rejects_recordings(viewer) -> None:
    for path, body in (("/v1/caption", {"audio": WAV}), ("/v1/vqa", {"image": WAV})):
        answer = viewer.client.post(
            path, files=body, data={"question": "?"} if "vqa" in path else {}
        )
        assert answer.status_code == 415
        assert answer.json()["error"]["code"] == "wrong_input"
        assert message(answer) == "<bytes>: is a recording; this model takes images only"


def test_a_model_of_recordings_rejects_images(listener) -> None:
    answer = listener.client.post("/v1/caption", content=PHOTO)
    assert answer.status_code == 415
    assert message(answer) == "<bytes>: is an image; this model takes recordings only"
    answer = listener.client.post("/v1/caption", content=b"just text")
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "not_audio")
    assert "expected WAV, FLAC" in message(answer)


@pytest.mark.parametrize(
    ("request_of", "text"),
    [
        ({"json": {"audio": "bark.wav"}}, "audio: is not valid base64"),
        ({"json": {"audio": "file:///bark.wav"}}, "never reads local files"),
        ({"json": {"audio": "https://a.org/bark.wav"}}, "audio: the URL is of a host that"),
        ({"json": {"image": {"url": "http://a.org:8/"}}}, "image: the URL must be http"),
        ({"json": {"audio": "data:text/plain,x"}}, "audio: a data URI"),
        ({"json": {"audio": {"path": "x"}}}, "audio.path"),
        ({"json": {"sound": "x"}}, "sound"),
        ({"json": {}}, "in the field audio, a recording"),
        ({"files": {"sound": WAV}}, "sound"),
        ({"files": [("audio", WAV), ("audio", WAV)]}, "audio: given more than once"),
        ({"files": {"audio": WAV, "image": WAV}}, "two files of the same kind"),
        ({"files": {"audio": WAV}, "data": {"audio": "x"}}, "audio: given more than once"),
        ({"content": WAV, "params": {"audio": "x"}}, "the body is the audio"),
        ({"content": write(tone(seconds=11))}, "longer than 10 s"),
    ],
)
def test_invalid_requests_are_rejected_with_one_line(listener, request_of, text: str) -> None:
    answer = listener.client.post("/v1/caption", **request_of)
    assert 400 <= answer.status_code < 500
    assert text in message(answer)
    assert message(answer).isprintable()


@pytest.mark.slow
def test_each_bad_recording_has_the_expected_status(listener, viewer) -> None:
    wrong = {}
    for kind in kinds():
        if callable(kind.content):
            continue
        form = {"audio": (os.fsencode(kind.name).decode("latin1"), kind.content)}
        answer = listener.client.post("/v1/caption", files=form)
        error = {415 if kind.error == "AudioFormatError" else 422}
        # Without a signature of audio, the content is an image or text.
        expected = {"error": error, "either": {200, 415, 422}}.get(kind.expect, {200})
        if answer.status_code not in expected:
            wrong[kind.name] = answer.status_code, answer.text[:200]
        elif answer.status_code == 200 and answer.json()["low_confidence"] is not kind.silent:
            wrong[kind.name] = answer.text
        status = viewer.client.post("/v1/caption", content=kind.content or b" ").status_code
        if not (400 <= status < 500 or kind.content.startswith((b"\xff\xd8", b"\x89PNG"))):
            wrong[f"{kind.name} to a model of images"] = status
    assert wrong == {}


def test_an_image_is_no_recording(viewer, listener) -> None:
    image = encode(GREY, "PNG")
    assert viewer.client.post("/v1/caption", content=image).status_code == 200
    assert listener.client.post("/v1/caption", files={"audio": image}).status_code == 415
