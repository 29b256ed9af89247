"""Servers for tests: a `serve.py` process, or an application in a thread."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn

from captioner.config import DecodingConfig
from captioner.predict.results import Answer, Answers, Caption, Result
from captioner.serve.app import create_app
from captioner.serve.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def start_process(*words: object, env: dict[str, str] | None = None) -> Iterator[SimpleNamespace]:
    """Start `serve.py` with these arguments; yield its `url`, `client`, `process` and `log`."""
    command = [sys.executable, ROOT / "serve.py", "--port", "0", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(command, env=env, **pipes)
    result = SimpleNamespace(process=running, log="")

    def read() -> None:
        for line in running.stderr:
            result.log += line

    reader = threading.Thread(target=read)
    reader.start()
    try:
        result.url = running.stdout.readline().strip()
        assert result.url.startswith("http://"), result.log
        with httpx.Client(base_url=result.url, timeout=30) as result.client:
            wait_for(lambda: result.client.get("/readyz").status_code == 200)
            yield result
    finally:
        running.terminate()
        running.wait(timeout=30)
        reader.join()
        running.stdout.close()
        running.stderr.close()


@contextmanager
def start_in_thread(
    captioner: Any, *, page: bool = False, **settings: Any
) -> Iterator[SimpleNamespace]:
    """Start an application of a captioner; yield its `url`, `client`, `engine` and `app`."""
    app = create_app(lambda: captioner, Settings(**settings), page=page)
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    running = threading.Thread(target=server.run)
    running.start()
    try:
        wait_for(lambda: server.started and app.state.engine.ready)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30) as client:
            yield SimpleNamespace(url=url, client=client, engine=app.state.engine, app=app)
    finally:
        server.should_exit = True
        running.join(timeout=30)


def wait_for(condition: Callable[[], object], *, seconds: float = 30) -> None:
    """Wait until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.01)


class FakeCaptioner:
    """A captioner whose captions contain the red value of the image.

    Attributes:
        batches: Kind and size of each call so far.
        unblocked: While this event is not set, calls block.
    """

    max_length = 8
    view = (16, 16), False
    audio_rate: int | None = None
    captions = True

    def __init__(self) -> None:
        self.config = SimpleNamespace(
            decoding=DecodingConfig(), model=SimpleNamespace(question=object())
        )
        self.tokenizer = SimpleNamespace(encode=str.split)
        self.batches: list[tuple[str, int]] = []
        self.unblocked = threading.Event()
        self.unblocked.set()

    def caption(self, images: list, *, num_captions: int = 1, **_: Any) -> list[Result]:
        self._enter("caption", len(images))
        return [
            Result(tuple(Caption(f"red {red(image)} {n}", -1.0, 0.5) for n in range(num_captions)))
            for image in images
        ]

    def encode_batch(self, images: list) -> list[Any]:
        return [red(image) for image in images]

    def answer(self, rows: list, **_: Any) -> list[Answers]:
        self._enter("ask", len(rows))
        return [Answers((Answer(f"{image} {question}", 0.5),)) for image, question in rows]

    def stream(self, image: Any, **_: Any) -> Iterator[str]:
        for word in ("a", " red", " dog"):
            self._enter("piece", 1)
            yield word

    def _enter(self, kind: str, size: int) -> None:
        self.batches.append((kind, size))
        assert self.unblocked.wait(30)


class FakeListener(FakeCaptioner):
    """A captioner of recordings whose captions contain the number of samples and their peak."""

    view = None
    audio_rate = 16_000

    def caption(self, sources: list, *, num_captions: int = 1, **_: Any) -> list[Result]:
        texts = self.encode_batch(sources)
        return [Result((Caption(text, -1.0, 0.5),) * num_captions) for text in texts]

    def encode_batch(self, sources: list) -> list[Any]:
        return [
            f"{len(samples)} samples at {rate} up to {abs(samples).max():.2f}"
            for samples, rate in sources
        ]


def red(image: Any) -> int:
    """Return the red value of the first pixel."""
    return image.getpixel((0, 0))[0]


def message(answer: httpx.Response) -> str:
    """Return the message of an error response of any API."""
    error = answer.json()["error"]
    return error if isinstance(error, str) else error["message"]


def picture_bytes(seed: int = 3, kind: str = "JPEG") -> bytes:
    """Return an image file."""
    from tiny import picture

    file = io.BytesIO()
    picture(seed, size=(200, 150)).save(file, kind)
    return file.getvalue()


def events(text: str) -> list[dict]:
    """Return the objects of a stream of server-sent events."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def chat_texts(completion: dict[str, Any]) -> list[str]:
    """Return the texts of a chat completion."""
    return [choice["message"]["content"] for choice in completion["choices"]]


PHOTO = picture_bytes()
PHOTO_URL = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
CHAT_IMAGE = {"type": "image_url", "image_url": {"url": PHOTO_URL}}
"""The part of a chat message that holds `PHOTO`."""
