"""Existing clients against a `serve.py` process."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import picture
from tiny_vqa import QUESTIONS

pytest.importorskip("gradio")
from serving import start_process

import captioner

pytestmark = pytest.mark.slow
Q = QUESTIONS[0]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "a.jpg"
    picture(3, size=(200, 150)).save(path)
    return path


@pytest.fixture(scope="module")
def expected(vqa_checkpoint: str, photo: Path) -> SimpleNamespace:
    model = captioner.load(vqa_checkpoint)
    caption, answer = model.caption([photo])[0].text, model.ask(photo, Q).text
    return SimpleNamespace(caption=caption, answer=answer, streamed="".join(model.stream(photo)))


@pytest.fixture(scope="module")
def server(vqa_checkpoint: str) -> Iterator[SimpleNamespace]:
    with start_process("--no-page", "--checkpoint", vqa_checkpoint) as running:
        yield running
    assert running.process.returncode == 0  # SIGTERM is not an error


def messages(photo: Path, text: str) -> list[dict]:
    url = "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image]}]


def test_openai_client(server, photo, expected) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    (model,) = [entry.id for entry in client.models.list()]
    create = client.chat.completions.create
    for text, expected_text in (("Describe this image.", expected.caption), (Q, expected.answer)):
        result = create(model=model, messages=messages(photo, text), user="me", logit_bias={})
        assert result.choices[0].message.content == expected_text
        assert result.usage.total_tokens > 0
    stream = create(model=model, messages=messages(photo, ""), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == expected.streamed
    with pytest.raises(openai.UnprocessableEntityError, match="no image_url"):
        create(model=model, messages=[{"role": "user", "content": "hello"}])


def test_openai_client_options(server, photo, expected) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    chat = {"model": "x", "messages": messages(photo, Q)}
    create = client.chat.completions.create
    cut = create(**chat, max_tokens=2, frequency_penalty=0, tools=[], response_format={
        "type": "text"}).choices[0]  # fmt: skip
    assert (cut.finish_reason, expected.answer.startswith(cut.message.content)) == ("length", True)
    assert (
        create(**chat, stop=expected.answer[1:3]).choices[0].message.content == expected.answer[0]
    )
    drawn = [create(**chat, temperature=1.5, seed=7, n=2).choices for _ in range(2)]
    assert [c.message.content for c in drawn[0]] == [c.message.content for c in drawn[1]]
    options = {"stream": True, "n": 2, "stream_options": {"include_usage": True}}
    *chunks, last = create(**chat, **options)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert (last.choices, last.usage.completion_tokens > 0) == ([], True)
    for wrong in ({"frequency_penalty": 1}, {"tools": [{}]}, {"extra_body": {"top_k": 3}}):
        name = next(iter(wrong.get("extra_body", wrong)))
        with pytest.raises(openai.UnprocessableEntityError, match=name):
            create(**chat, **wrong)


def test_huggingface_client(server, photo, expected, monkeypatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    # The tests set this variable; the server is on the loopback interface.
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    client = hub.InferenceClient(model=f"{server.url}/hf/")
    assert client.image_to_text(photo).generated_text == expected.caption
    assert client.image_to_text(photo.read_bytes()).generated_text == expected.caption
    (answer,) = client.visual_question_answering(photo, Q, top_k=1)
    assert answer.answer == expected.answer
    with pytest.raises(hub.errors.HfHubHTTPError, match="415"):
        client.image_to_text(b"no picture")
    client = hub.InferenceClient(base_url=f"{server.url}/v1")
    chat = {"messages": messages(photo, Q), "max_tokens": 50, "temperature": 0, "top_p": 0.9}
    assert client.chat_completion(**chat).choices[0].message.content == expected.answer
    chunks = list(client.chat_completion(**chat, stream=True))
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_llm_command(server, photo, expected, tmp_path: Path) -> None:
    """Simon Willison's `llm` command, with the server in its file of models."""
    pytest.importorskip("llm")
    entry = {"model_id": "here", "model_name": "x", "api_base": f"{server.url}/v1", "vision": True}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([entry]))
    words = ["-m", "llm", "-m", "here", "-a", str(photo), "--no-log", "--key", "none"]
    env = os.environ | {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}
    options = ["-o", "temperature", "0", "-o", "max_tokens", "100", "-o", "seed", "1"]
    options += ["--system", "You are helpful.", "--no-stream"]
    for more, expected_text in (
        ([*options, Q], expected.answer),
        (["describe it"], expected.streamed),
    ):
        result = subprocess.run(
            [sys.executable, *words, *more], env=env, capture_output=True, text=True, timeout=120
        )
        assert (result.stdout.strip(), result.returncode) == (expected_text, 0), result.stderr


def test_log_has_one_line_per_request_without_questions(vqa_checkpoint, photo) -> None:
    secret = "what is the password of the dog"
    with start_process("--no-page", "--checkpoint", vqa_checkpoint) as running:
        sent = {"image": photo.read_bytes()}
        answer = running.client.post("/v1/vqa", files=sent, data={"question": secret})
        running.client.post("/v1/caption", files={"image": b"no"})
    lines = [json.loads(line) for line in running.log.splitlines()]
    entries = [line for line in lines if line["route"].startswith("/v1/")]
    assert [line["status"] for line in entries] == [answer.status_code, 415]
    assert entries[0]["id"] == answer.headers["x-request-id"]
    assert "password" not in running.log


def test_sigterm_finishes_an_open_stream(vqa_checkpoint, photo) -> None:
    """A stream that is open at SIGTERM is sent to its end, and the exit status is 0."""
    with start_process("--no-page", "--checkpoint", vqa_checkpoint) as running:
        files = {"image": photo.read_bytes()}
        with running.client.stream(
            "POST", "/v1/caption", files=files, data={"stream": "true"}
        ) as answer:
            running.process.send_signal(signal.SIGTERM)
            text = answer.read().decode()
        assert '"done": true' in text
        assert running.process.wait(timeout=30) == 0


def test_sigint_exits_with_130(vqa_checkpoint) -> None:
    with start_process("--no-page", "--checkpoint", vqa_checkpoint) as running:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=30) == 130
    assert "Traceback" not in running.log


def test_load_error_is_one_line(tmp_path: Path) -> None:
    words = [sys.executable, ROOT / "serve.py", "--no-page", "--port", "0"]
    ended = subprocess.run(
        [*words, "--checkpoint", tmp_path], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr
