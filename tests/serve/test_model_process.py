"""A captioner in a process of its own: it answers as one in this process does, and is replaced."""

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
from PIL import Image
from serving import wait_for
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.errors import CaptionerError, CheckpointError, ImageError, QuestionError
from captioner.predict import Captioner
from captioner.serve.model_process import ModelProcessError, RemoteCaptioner, load_in_worker

pytestmark = pytest.mark.slow
Q = QUESTIONS[0]
PICTURES = [Image.new("RGB", (40, 30), color) for color in ("red", "blue", "white")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vqa_checkpoint(tmp_path_factory.mktemp("lane") / "best")


@pytest.fixture(scope="module")
def here(checkpoint: Path) -> Captioner:
    return captioner.load(checkpoint)


@pytest.fixture(scope="module")
def there(checkpoint: Path) -> Iterator[RemoteCaptioner]:
    found = RemoteCaptioner(loading(checkpoint))
    yield found
    found.close()


def loading(checkpoint: Path) -> partial:
    return partial(load_in_worker, str(checkpoint), device="cpu", dtype="float32", workers=1)


def pid(lane: RemoteCaptioner) -> int:
    return lane._process.pid


def kill(lane: RemoteCaptioner) -> None:
    os.kill(pid(lane), signal.SIGKILL)


def assert_same(found: Any, expected: Any) -> None:
    """Equal results; numbers up to rounding, since the threads of two processes sum otherwise."""
    assert type(found) is type(expected)
    if isinstance(found, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif dataclasses.is_dataclass(found):
        for item in (item for item in dataclasses.fields(found) if item.compare):
            assert_same(getattr(found, item.name), getattr(expected, item.name))
    else:
        assert found == (
            pytest.approx(expected, rel=1e-4) if isinstance(expected, float) else expected
        )


def test_it_answers_as_one_in_this_process_does(here: Captioner, there: RemoteCaptioner) -> None:
    assert_same(there.caption(PICTURES, num_captions=2), here.caption(PICTURES, num_captions=2))
    assert list(there.stream(PICTURES[0])) == list(here.stream(PICTURES[0]))
    for one, other in zip(there.stream(PICTURES[0]), here.stream(PICTURES[0]), strict=True):
        assert one.tokens == other.tokens > 0
    assert there.caption(PICTURES)[0].best.tokens == here.caption(PICTURES)[0].best.tokens != ()
    sampling = {"method": "sample", "seed": 5}
    assert_same(there.caption(PICTURES, **sampling), here.caption(PICTURES, **sampling))
    rows = [(picture, Q) for picture in PICTURES]
    assert_same(there.answer(rows, num_answers=2), here.answer(rows, num_answers=2))
    assert (there.config, there.max_length) == (here.config, here.max_length)
    assert there.view == here.view
    assert there.tokenizer.encode("a red square") == here.tokenizer.encode("a red square")


def test_what_it_has_encoded_goes_back_to_it(here: Captioner, there: RemoteCaptioner) -> None:
    mine, its = here.encode_batch(PICTURES), there.encode_batch(PICTURES)
    texts = ["a red square", "red"]
    assert_same(there.score(its[1], texts), here.score(mine[1], texts))
    assert_same(there.answer(zip(its, [Q] * 3, strict=True)), here.answer([(e, Q) for e in mine]))
    assert list(there.stream(its[0], question=Q)) == list(here.stream(mine[0], question=Q))
    words, same = (c.attention(e, "a red square") for c, e in ((there, its[0]), (here, mine[0])))
    assert [w.word for w in words] == [w.word for w in same]
    for word, other in zip(words, same, strict=True):
        np.testing.assert_allclose(word.weights, other.weights, rtol=1e-4, atol=1e-6)


def test_errors_are_those_of_the_captioner(there: RemoteCaptioner) -> None:
    (result,) = there.caption([b"no image"])
    assert isinstance(result.error, ImageError)
    with pytest.raises(QuestionError):
        list(there.stream(PICTURES[0], question=""))
    with pytest.raises(CaptionerError, match="beam_size"):
        there.caption(PICTURES, beam_size=0)
    with pytest.raises(RuntimeError, match="see the log"):
        there.caption(PICTURES, batch_size="many")
    assert there.caption(PICTURES)[0].text == there.caption(PICTURES[:1])[0].text


def test_a_stream_that_is_closed_ends_before_its_next_piece(there: RemoteCaptioner) -> None:
    whole = list(there.stream(PICTURES[0]))
    for _ in range(3):
        stream = there.stream(PICTURES[0])
        assert next(stream) == whole[0]
        stream.close()
    assert list(there.stream(PICTURES[0])) == whole


def test_a_process_that_ends_is_replaced(here: Captioner, checkpoint: Path) -> None:
    lane = RemoteCaptioner(loading(checkpoint))
    its = lane.encode_batch(PICTURES[:1])
    before = pid(lane)
    kill(lane)
    assert lane.caption(PICTURES) == here.caption(PICTURES)
    assert pid(lane) != before
    assert lane.answer([(its[0], Q)]) == here.answer([(PICTURES[0], Q)])

    stream = lane.stream(PICTURES[0])
    next(stream)
    kill(lane)
    wait_for(lambda: not lane._process.is_alive())
    with pytest.raises(ModelProcessError):
        list(stream)  # what has been heard would be said again
    assert lane.caption(PICTURES) == here.caption(PICTURES)
    lane.close()


def test_signals_for_all_leave_it_at_work_and_closing_ends_it(checkpoint: Path) -> None:
    lane = RemoteCaptioner(loading(checkpoint))
    process = psutil.Process(pid(lane))
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    assert lane.caption(PICTURES)
    assert process.is_running()
    problems: list[Exception] = []

    def ask() -> None:
        try:
            while True:
                lane.caption(PICTURES)
        except CaptionerError as error:
            problems.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    lane.close()
    asking.join(timeout=30)
    assert [type(problem) for problem in problems] == [ModelProcessError]
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_what_it_cannot_load_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        RemoteCaptioner(loading(tmp_path / "none"))
