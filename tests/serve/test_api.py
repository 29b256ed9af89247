"""The three APIs with a real captioner: accepted and rejected requests, and responses."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import picture
from tiny_vqa import QUESTIONS

pytest.importorskip("gradio")
from serving import PHOTO, events, start_in_thread

import captioner
from captioner.serve.prompts.intent import classify_intent

pytest_plugins = ("serving_fixtures",)
Q = QUESTIONS[0]


@pytest.fixture(scope="module")
def server(model) -> Iterator[SimpleNamespace]:
    with start_in_thread(model, max_pixels=10**6) as running:
        yield running


@pytest.fixture(scope="module")
def photo() -> bytes:
    return PHOTO


@pytest.fixture(scope="module")
def encoded(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def test_all_request_forms_return_the_captioners_caption(server, model, photo, encoded) -> None:
    expected = model.caption([photo])[0]
    post = server.client.post
    answers = [
        post("/v1/caption", files={"image": photo}),
        post("/v1/caption", json={"image": encoded}),
        post("/v1/caption", json={"image": f"data:image/jpeg;base64,{encoded}"}),
        post("/v1/caption", json={"image": {"url": f"data:;base64,{encoded}"}}),
        post("/v1/caption", content=photo, headers={"content-type": "image/jpeg"}),
        post("/v1/caption", content=photo),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        result = answer.json()
        assert result["caption"] == expected.text
        assert result["score"] == pytest.approx(expected.best.score, abs=1e-4)
        assert 0 < result["confidence"] < 1


def test_options_reach_the_captioner(server, model, photo) -> None:
    options = {
        "num_captions": 4,
        "max_length": 5,
        "must_include": ["dog|boat"],
        "length_penalty": 0.5,
    }
    expected = model.caption([photo], beam_size=4, **options)[0]
    answer = server.client.post("/v1/caption", files={"image": photo}, data=options)
    assert [c["caption"] for c in answer.json()["captions"]] == [c.text for c in expected.captions]


def test_samples_depend_only_on_the_seed(server, model, photo) -> None:
    drawn = {"method": "sample", "seed": 3, "num_captions": 2}
    expected = [c.text for c in model.caption([photo], **drawn)[0].captions]
    for _ in range(2):
        answer = server.client.post("/v1/caption", files={"image": photo}, data=drawn)
        assert [c["caption"] for c in answer.json()["captions"]] == expected


def test_samples_without_a_seed_differ(server, photo) -> None:
    drawn = {"method": "sample", "temperature": 2.0}
    answers = [
        server.client.post("/v1/caption", files={"image": photo}, data=drawn) for _ in range(8)
    ]
    assert len({answer.json()["caption"] for answer in answers}) > 1


def test_vqa_answers_questions(server, model, photo, encoded) -> None:
    expected = model.ask(photo, Q, num_answers=3)
    result = server.client.post(
        "/v1/vqa", json={"image": encoded, "question": Q, "num_answers": 3}
    ).json()
    assert [a["answer"] for a in result["answers"]] == [a.text for a in expected.answers]
    assert result["confidence"] == pytest.approx(expected.confidence, abs=1e-4)
    closed = {"question": Q, "answers": ["red", "blue"], "min_confidence": 1.0}
    result = server.client.post("/v1/vqa", files={"image": photo}, data=closed).json()
    assert (result["answer"], result["unsure"]) == ("unsure", True)
    assert result["answers"][0]["answer"] in ("red", "blue")


def test_score_ranks_texts(server, model, photo) -> None:
    texts = ["a red dog", "a dog"]
    expected = model.score(photo, texts)
    result = server.client.post("/v1/score", files={"image": photo}, data={"texts": texts}).json()
    assert [s["text"] for s in result["scores"]] == texts
    assert [s["score"] for s in result["scores"]] == pytest.approx(
        [s.score for s in expected], abs=1e-4
    )


def test_streams_send_the_text_word_by_word(server, model, photo) -> None:
    answer = server.client.post("/v1/caption", files={"image": photo}, data={"stream": "true"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    pieces = events(answer.text)
    assert pieces[-1] == {"done": True}
    assert "".join(p["text"] for p in pieces[:-1]) == "".join(model.stream(photo))
    answer = server.client.post(
        "/v1/vqa", files={"image": photo}, data={"stream": "true", "question": Q}
    )
    text = "".join(p.get("text", "") for p in events(answer.text))
    assert text == "".join(model.stream(photo, question=Q))


def test_error_before_the_first_word_has_an_http_status(server, photo) -> None:
    data = {"stream": "true", "beam_size": "4"}
    answer = server.client.post("/v1/caption", files={"image": photo}, data=data)
    assert (answer.status_code, "beam_size" in answer.text) == (422, True)


def test_stream_without_a_possible_text_ends_in_an_error(server, photo) -> None:
    data = {"stream": "true", "prefix": "a dog a", "no_repeat_ngram": "1"}
    answer = server.client.post("/v1/caption", files={"image": photo}, data=data)
    *pieces, last = events(answer.text)
    assert "".join(piece["text"] for piece in pieces) == "a dog"
    assert last["error"]["code"] == "bad_request"
    assert "satisfies all options" in last["error"]["message"]


def chat(url: str, *texts: str) -> dict:
    parts = [{"type": "text", "text": text} for text in texts]
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"model": "x", "messages": [{"role": "user", "content": [image, *parts]}]}


def test_chat_returns_a_caption_or_an_answer(server, model, photo, encoded) -> None:
    url = f"data:image/jpeg;base64,{encoded}"
    caption, answer = model.caption([photo])[0].text, model.ask(photo, Q).text
    for text, expected in (("Describe this image.", caption), ("", caption), (Q, answer)):
        result = server.client.post("/v1/chat/completions", json=chat(url, text)).json()
        assert result["choices"][0]["message"] == {"role": "assistant", "content": expected}
        assert result["usage"]["total_tokens"] >= result["usage"]["completion_tokens"] > 0
    later = chat(url, "describe it")
    later["messages"] += [
        {"role": "assistant", "content": caption},
        {"role": "user", "content": Q},
    ]
    result = server.client.post("/v1/chat/completions", json=later).json()
    assert result["choices"][0]["message"]["content"] == answer


def test_chat_returns_n_choices_with_and_without_temperature(server, encoded) -> None:
    request = chat(f"data:image/jpeg;base64,{encoded}") | {"n": 3}
    for extra in ({}, {"temperature": 1.5, "seed": -4}):
        result = server.client.post("/v1/chat/completions", json=request | extra).json()
        assert [choice["index"] for choice in result["choices"]] == [0, 1, 2]


def test_chat_streams(server, model, photo, encoded) -> None:
    request = chat(f"data:image/jpeg;base64,{encoded}") | {"stream": True}
    text = server.client.post("/v1/chat/completions", json=request).text
    assert text.endswith("data: [DONE]\n\n")
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events(text)]
    assert "".join(pieces) == "".join(model.stream(photo))


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("what color is the dog?", True),
        ("is there a dog", True),
        ("how many people are in the picture?", True),
        ("Tell me: where is she?", True),
        ("What is in this image?", False),
        ("What's in the picture", False),
        ("what do you see?", False),
        ("Describe the dog.", False),
        ("Caption this.", False),
        ("", False),
        ("?", False),
    ],
)
def test_chat_texts_are_classified_as_questions(text: str, asks: bool) -> None:
    assert (classify_intent(text).task == "question") == asks


def test_huggingface_api(server, model, photo, encoded) -> None:
    caption = [{"generated_text": model.caption([photo])[0].text}]
    answers = [{"answer": a.text, "score": pytest.approx(a.confidence, abs=1e-4)}
               for a in model.ask(photo, Q, num_answers=2).answers]  # fmt: skip
    post = server.client.post
    assert post("/hf/", content=photo, headers={"content-type": "image/jpeg"}).json() == caption
    assert post("/hf/", json={"inputs": encoded}).json() == caption
    parameters = {"parameters": {"top_k": 2}}
    request = {"inputs": {"image": encoded, "question": Q}} | parameters
    assert post("/hf/", json=request).json() == answers
    request = {"inputs": encoded, "image": encoded, "question": Q} | parameters
    assert post("/hf/", json=request).json() == answers
    assert post("/hf/", json={"inputs": "!"}).json()["error"].startswith("image: is not valid")


BIG = "iVBORw0KGgo="


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"image": None}, 422),
        ({"image": ""}, 422),
        ({"image": []}, 422),
        ({"image": {"url": 3}}, 422),
        ({"image": "not base64!"}, 422),
        ({"image": "QUJD"}, 415),
        ({"image": "data:text/html;base64,QUJD"}, 415),
        ({"image": "data:text/html,<b>"}, 415),
        ({"image": "data:image/png,abc"}, 415),
        ({"image": "http://127.0.0.1/a.png"}, 422),
        ({"image": "file:///etc/passwd"}, 422),
        ({"image": BIG, "num_captions": 0}, 422),
        ({"image": BIG, "num_captions": 1000}, 422),
        ({"image": BIG, "beam_size": 10**9}, 422),
        ({"image": BIG, "beam_size": "x"}, 422),
        ({"image": BIG, "temperature": float("1e400")}, 422),
        ({"image": BIG, "must_include": ["x"] * 100}, 422),
        ([], 422),
        ("x", 422),
        (None, 422),
    ],
)
def test_unusable_body_gets_an_error_message(server, body: object, status: int) -> None:
    answer = server.client.post(
        "/v1/caption", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "code"}
    assert "\n" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"image": 1e}', "\x00", "NaN x", "\udcff"]
)
def test_invalid_json_gets_status_400(server, text: str) -> None:
    answer = server.client.post(
        "/v1/caption",
        content=text.encode("utf-8", "surrogateescape"),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "question",
    ["", " ", "x" * 10_000, "what\x00", "\u202e", "\U0001f642", "\ud800", "?" * 50, "what " * 500],
)
def test_invalid_questions_get_status_422(server, encoded: str, question: str) -> None:
    body = json.dumps({"image": encoded, "question": question})
    for path in ("/v1/vqa", "/hf/"):
        body = json.dumps({"image": encoded, "inputs": encoded, "question": question})
        answer = server.client.post(
            path, content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("question", ["ما لون الكلب؟", "what colour 🐕?", "<s> what </s> <pad>?"])
def test_unusual_questions_are_handled(server, encoded: str, question: str) -> None:
    answer = server.client.post("/v1/vqa", json={"image": encoded, "question": question})
    assert answer.status_code in (200, 422)


def test_forms_with_wrong_files_or_unusual_names(server, photo) -> None:
    post = server.client.post
    two = [("image", ("a.jpg", photo)), ("image", ("b.jpg", photo))]
    assert post("/v1/caption", files=two).status_code == 422
    assert post("/v1/caption", files=[*two, *two]).status_code == 400
    assert post("/v1/caption", files={"image": ("", b"")}).status_code in (415, 422)
    assert post("/v1/caption", data={"image": "x"}).status_code in (415, 422)
    for name in ("../../etc/passwd", "a\nb", "x" * 3000, "\U0001f642.jpg", "C:\\x.jpg"):
        assert post("/v1/caption", files={"image": (name, photo)}).status_code == 200
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert post("/v1/caption", content=b"--y\r\n\r\n", headers=broken).status_code in (400, 422)
    bare = {"content-type": "multipart/form-data"}
    assert post("/v1/caption", content=b"--y\r\n\r\n", headers=bare).status_code in (400, 422)


def test_unusable_images_have_their_status(server, photo) -> None:
    large = io.BytesIO()
    picture(0, size=(1100, 1000)).save(large, "PNG")
    for data, status, code in (
        (b"", 415, "not_an_image"),
        (b"<svg></svg>", 415, "not_an_image"),
        (photo[: len(photo) // 2], 422, "bad_image"),
        (large.getvalue(), 422, "bad_image"),
    ):
        answer = server.client.post("/v1/caption", files={"image": data})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_captioning_checkpoint_rejects_questions(tmp_path: Path, photo) -> None:
    from tiny import make_checkpoint

    with start_in_thread(captioner.load(make_checkpoint(tmp_path / "best"))) as server:
        answer = server.client.post("/v1/vqa", files={"image": photo}, data={"question": Q})
        assert (answer.status_code, "captions only" in answer.text) == (422, True)


def test_documentation_needs_no_network(server) -> None:
    page = server.client.get("/docs").text
    assert "http://" not in page.replace(server.url, "")
    assert "https://" not in page
    for path in server.client.get("/openapi.json").json()["paths"]:
        assert path.startswith(("/v1/", "/hf/", "/healthz", "/readyz", "/metrics"))
