"""Fixtures of the tests of the server; a test module loads them through `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from serving import CHAT_IMAGE, start_in_thread
from tiny_vqa import make_vqa_checkpoint

import captioner


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> captioner.Captioner:
    """A tiny model that answers questions."""
    return captioner.load(make_vqa_checkpoint(tmp_path_factory.mktemp("served") / "best"))


@pytest.fixture(scope="module")
def server(model) -> Iterator[SimpleNamespace]:
    """A server of the model, with the default settings."""
    with start_in_thread(model) as running:
        yield running


@pytest.fixture(scope="module")
def post_chat(server) -> Callable[..., httpx.Response]:
    """A function that posts a chat with an image, a text and fields."""

    def send(text: str = "", **fields: Any) -> httpx.Response:
        content = [CHAT_IMAGE, {"type": "text", "text": text}]
        body = {"messages": [{"role": "user", "content": content}]}
        return server.client.post("/v1/chat/completions", json=body | fields)

    return send


@pytest.fixture(scope="module")
def ask_chat(post_chat) -> Callable[..., dict[str, Any]]:
    """A function that returns the completion of such a chat."""

    def send(text: str = "", **fields: Any) -> dict[str, Any]:
        answer = post_chat(text, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return send
