"""Public models that only caption or only answer questions, on every route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from public_folders.catalog import FAMILIES

pytest.importorskip("gradio")
from serving import CHAT_IMAGE, PHOTO_URL, start_in_thread

import captioner

CAPTIONS_ONLY = "captions only and cannot answer questions"
QUESTIONS_ONLY = "answers questions only; ask a question"
SAMPLING = {"temperature": 1.0, "seed": 1}
FIELDS = pytest.mark.parametrize(
    "fields", [{}, SAMPLING, {"stream": True}, SAMPLING | {"stream": True, "n": 2}]
)


@pytest.fixture(scope="module", params=["BLIP", "BLIP VQA"])
def served(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A server of a model; `captions` is False if it answers questions only."""
    folder: Path = tmp_path_factory.mktemp("single") / "model"
    FAMILIES[request.param](folder, 0)
    with start_in_thread(captioner.load(folder, device="cpu")) as running:
        running.captions = request.param == "BLIP"
        yield running


def chat(served: SimpleNamespace, text: str, **fields: object) -> httpx.Response:
    content = [CHAT_IMAGE, {"type": "text", "text": text}]
    body = {"messages": [{"role": "user", "content": content}]}
    return served.client.post("/v1/chat/completions", json=body | fields)


def check_rejected(answer: httpx.Response, message: str) -> None:
    """Check for OpenAI's error body."""
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "bad_request")


@FIELDS
@pytest.mark.parametrize("text", ["What color is the dog?", "Count the dogs", "Describe its color"])
def test_a_chat_with_a_question_needs_a_model_for_questions(served, text, fields) -> None:
    answer = chat(served, text, **fields)
    if served.captions:
        check_rejected(answer, CAPTIONS_ONLY)
    else:
        assert answer.status_code == 200, answer.text


@FIELDS
@pytest.mark.parametrize("text", ["Describe this image.", ""])
def test_a_chat_with_a_request_for_a_caption_needs_a_model_for_captions(
    served, text, fields
) -> None:
    answer = chat(served, text, **fields)
    if served.captions:
        assert answer.status_code == 200, answer.text
    else:
        check_rejected(answer, QUESTIONS_ONLY)


@FIELDS
def test_a_question_about_the_whole_image_suits_both(served, fields) -> None:
    answer = chat(served, "What is in this picture?", **fields)
    assert answer.status_code == 200, answer.text
    task = "caption" if served.captions else "question"
    assert f'"task":"{task}"' in answer.text.replace(": ", ":")


def test_the_other_routes_reject_the_task_that_the_model_lacks(served) -> None:
    question = {"question": "What is in this picture?"}
    hf = {"inputs": {"image": PHOTO_URL} | ({} if not served.captions else question)}
    body = {"image": PHOTO_URL} | (question if served.captions else {})
    route = "/v1/vqa" if served.captions else "/v1/caption"
    message = CAPTIONS_ONLY if served.captions else QUESTIONS_ONLY
    check_rejected(served.client.post(route, json=body), message)
    answer = served.client.post("/hf/", json=hf)
    assert answer.status_code == 422
    assert message in answer.json()["error"]
