"""A captioner in a child process: equal results, and its replacement after a crash."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from backend_pairs import make_full_checkpoint
from PIL import Image
from serving import wait_for
from tiny_vqa import QUESTIONS

import captioner
from captioner.errors import CaptionerError, CheckpointError, ImageError, QuestionError
from captioner.predict import Captioner
from captioner.serve.model_process import ModelProcessError, RemoteCaptioner, load_in_worker

pytestmark = pytest.mark.slow
Q = QUESTIONS[0]
PICTURES = [Image.new("RGB", (40, 30), color) for color in ("red", "blue", "white")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, add_graphs: Any) -> str:
    return str(add_graphs(make_full_checkpoint(tmp_path_factory.mktemp("process") / "best")))


@pytest.fixture(scope="module")
def local(checkpoint: str) -> Captioner:
    return captioner.load(checkpoint, backend="torch")


@pytest.fixture(scope="module", params=["onnx", "torch"])
def shared(checkpoint: str, request: pytest.FixtureRequest) -> Iterator[RemoteCaptioner]:
    remote = RemoteCaptioner(load_partial(checkpoint, backend=request.param))
    yield remote
    remote.close()


def load_partial(checkpoint: str, *, backend: str = "torch") -> partial:
    return partial(
        load_in_worker, checkpoint, backend=backend, device="cpu", dtype="float32", workers=1
    )


def pid(remote: RemoteCaptioner) -> int:
    return remote._process.pid


def kill(remote: RemoteCaptioner) -> None:
    os.kill(pid(remote), signal.SIGKILL)


def assert_same(result: Any, expected: Any) -> None:
    """Check that results are equal, with a tolerance for the summation order of threads."""
    assert type(result) is type(expected)
    if isinstance(result, list | tuple):
        assert len(result) == len(expected)
        for one, other in zip(result, expected, strict=True):
            assert_same(one, other)
    elif dataclasses.is_dataclass(result):
        for item in (item for item in dataclasses.fields(result) if item.compare):
            assert_same(getattr(result, item.name), getattr(expected, item.name))
    else:
        assert result == (
            pytest.approx(expected, rel=1e-4) if isinstance(expected, float) else expected
        )


def test_results_equal_those_of_a_local_captioner(
    local: Captioner, shared: RemoteCaptioner
) -> None:
    assert_same(shared.caption(PICTURES, num_captions=2), local.caption(PICTURES, num_captions=2))
    assert list(shared.stream(PICTURES[0])) == list(local.stream(PICTURES[0]))
    for one, other in zip(shared.stream(PICTURES[0]), local.stream(PICTURES[0]), strict=True):
        assert one.tokens == other.tokens > 0
    assert shared.caption(PICTURES)[0].best.tokens == local.caption(PICTURES)[0].best.tokens != ()
    sampling = {"method": "sample", "seed": 5}
    assert_same(shared.caption(PICTURES, **sampling), local.caption(PICTURES, **sampling))
    rows = [(picture, Q) for picture in PICTURES]
    assert_same(shared.answer(rows, num_answers=2), local.answer(rows, num_answers=2))
    assert (shared.config, shared.max_length) == (local.config, local.max_length)
    assert (shared.view, shared.audio_rate) == (local.view, local.audio_rate)
    assert shared.captions is local.captions is True
    assert shared.tokenizer.encode("a red square") == local.tokenizer.encode("a red square")


def test_encoded_images_are_sent_back_to_their_process(
    local: Captioner, shared: RemoteCaptioner
) -> None:
    expected, encoded = local.encode_batch(PICTURES), shared.encode_batch(PICTURES)
    texts = ["a red square", "red"]
    assert_same(shared.score(encoded[1], texts), local.score(expected[1], texts))
    assert_same(
        shared.answer(zip(encoded, [Q] * 3, strict=True)), local.answer([(e, Q) for e in expected])
    )
    assert list(shared.stream(encoded[0], question=Q)) == list(
        local.stream(expected[0], question=Q)
    )
    words, same = (
        c.attention(e, "a red square") for c, e in ((shared, encoded[0]), (local, expected[0]))
    )
    assert [w.word for w in words] == [w.word for w in same]
    for word, other in zip(words, same, strict=True):
        np.testing.assert_allclose(word.weights, other.weights, rtol=1e-4, atol=1e-6)


def test_errors_equal_those_of_the_captioner(shared: RemoteCaptioner) -> None:
    (result,) = shared.caption([b"no image"])
    assert isinstance(result.error, ImageError)
    with pytest.raises(QuestionError):
        list(shared.stream(PICTURES[0], question=""))
    with pytest.raises(CaptionerError, match="beam_size"):
        shared.caption(PICTURES, beam_size=0)
    with pytest.raises(RuntimeError, match="see the log"):
        shared.caption(PICTURES, batch_size="many")
    assert shared.caption(PICTURES)[0].text == shared.caption(PICTURES[:1])[0].text


def test_closed_stream_ends_before_its_next_piece(shared: RemoteCaptioner) -> None:
    whole = list(shared.stream(PICTURES[0]))
    for _ in range(3):
        stream = shared.stream(PICTURES[0])
        assert next(stream) == whole[0]
        stream.close()
    assert list(shared.stream(PICTURES[0])) == whole


def test_process_that_exits_is_replaced(local: Captioner, checkpoint: str) -> None:
    remote = RemoteCaptioner(load_partial(checkpoint))
    encoded = remote.encode_batch(PICTURES[:1])
    before = pid(remote)
    kill(remote)
    assert remote.caption(PICTURES) == local.caption(PICTURES)
    assert pid(remote) != before
    assert remote.answer([(encoded[0], Q)]) == local.answer([(PICTURES[0], Q)])

    stream = remote.stream(PICTURES[0])
    next(stream)
    kill(remote)
    wait_for(lambda: not remote._process.is_alive())
    with pytest.raises(ModelProcessError):
        list(stream)  # a repetition would send the first pieces again
    assert remote.caption(PICTURES) == local.caption(PICTURES)
    remote.close()


def test_signals_are_ignored_and_close_kills_the_process(checkpoint: str) -> None:
    remote = RemoteCaptioner(load_partial(checkpoint))
    process = psutil.Process(pid(remote))
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    assert remote.caption(PICTURES)
    assert process.is_running()
    problems: list[Exception] = []

    def ask() -> None:
        try:
            while True:
                remote.caption(PICTURES)
        except CaptionerError as error:
            problems.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    remote.close()
    asking.join(timeout=30)
    assert [type(problem) for problem in problems] == [ModelProcessError]
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_load_error_is_raised(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        RemoteCaptioner(load_partial(tmp_path / "none"))
