"""The native routes: every option is applied or rejected, in JSON, forms and query strings."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_vqa import QUESTIONS

pytest.importorskip("gradio")
from serving import PHOTO, message, picture_bytes

from captioner.serve.routes.image_field import read_image_field
from captioner.serve.routes.native_fields import (
    DECODING_FIELDS,
    CaptionRequest,
    ScoreRequest,
    VqaRequest,
)

pytest_plugins = ("serving_fixtures",)
Q = QUESTIONS[0]
ENCODED = base64.b64encode(PHOTO).decode()
NEEDED: dict[str, dict[str, Any]] = {
    "caption": {},
    "vqa": {"question": Q},
    "score": {"texts": ["a dog"]},
}
VALID = {
    "caption": set(CaptionRequest.model_fields),
    "vqa": set(VqaRequest.model_fields),
    "score": set(ScoreRequest.model_fields),
}
ROUTES = sorted(VALID)
FORMS = ("json", "form", "query")


@pytest.fixture(scope="module")
def post(server) -> Callable[..., httpx.Response]:
    """A function that posts an image and options to a native route, in one of three forms."""

    def send(route: str, form: str = "json", **options: Any) -> httpx.Response:
        path = f"/v1/{route}"
        if form == "json":
            return server.client.post(path, json={"image": ENCODED, **options})
        if form == "form":
            return server.client.post(path, files={"image": PHOTO}, data=options)
        return server.client.post(path, content=PHOTO, params=options)

    return send


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("route", "name", "hint"),
    [
        ("caption", "num_caption", "the nearest valid name is num_captions"),
        ("caption", "must_includes", "the nearest valid name is must_include"),
        ("caption", "beamsize", "the nearest valid name is beam_size"),
        ("caption", "steam", "the nearest valid name is stream"),
        ("caption", "question", "use /v1/vqa"),
        ("caption", "num_answers", "use /v1/vqa"),
        ("caption", "texts", "use /v1/score"),
        ("vqa", "quesiton", "the nearest valid name is question"),
        ("vqa", "num_answer", "the nearest valid name is num_answers"),
        ("vqa", "max_length", "use /v1/caption"),
        ("vqa", "num_captions", "use /v1/caption"),
        ("vqa", "temperature", "use /v1/caption"),
        ("vqa", "texts", "use /v1/score"),
        ("score", "text", "the nearest valid name is texts"),
        ("score", "beam_size", "use /v1/caption"),
        ("score", "stream", "use /v1/caption"),
        ("score", "answers", "use /v1/vqa"),
    ],
)
def test_unknown_options_are_rejected_by_name(post, form, route, name, hint) -> None:
    answer = post(route, form, **NEEDED[route], **{name: "1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_option")
    assert message(answer).startswith(f"{name}: ")
    assert hint in message(answer)


@settings(max_examples=60)
@given(
    route=st.sampled_from(ROUTES),
    name=st.text(max_size=80) | st.sampled_from(sorted(set().union(*VALID.values()))),
    value=st.sampled_from([1, 0.5, "x", True, ["dog"]]),
)
@example(route="caption", name="\ud800", value=1)
@example(route="vqa", name="x" * 100_000, value=1)
def test_any_name_is_valid_or_rejected_in_json(server, route, name, value) -> None:
    body = {"image": ENCODED, **NEEDED[route], name: value}
    headers = {"content-type": "application/json"}
    answer = server.client.post(f"/v1/{route}", content=json.dumps(body), headers=headers)
    assert_rejected_or_valid(answer, route, name)


@settings(max_examples=60)
@given(
    route=st.sampled_from(ROUTES),
    form=st.sampled_from(("form", "query")),
    name=st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
    | st.sampled_from(sorted(set().union(*VALID.values()))),
)
def test_any_name_is_valid_or_rejected_in_forms_and_queries(post, route, form, name) -> None:
    answer = post(route, form, **{**NEEDED[route], name: "1"})
    assert_rejected_or_valid(answer, route, name)


def assert_rejected_or_valid(answer: httpx.Response, route: str, name: str) -> None:
    """Check that a name is valid, or that the error names it."""
    if answer.status_code == 200:
        assert name in VALID[route] | {"image"}
    else:
        assert answer.status_code in (415, 422), answer.text
        quoted = name if len(name) <= 60 else name[:57]
        assert quoted in message(answer) or repr(quoted)[1:-1] in message(answer)
        assert "\n" not in message(answer)


@pytest.mark.parametrize(
    "options",
    [
        {"num_captions": 3},
        {"method": "sample", "seed": 5},
        {"method": "sample", "seed": 5, "temperature": 2.0},
        {"method": "sample", "seed": 5, "temperature": 2.0, "top_k": 2},
        {"method": "sample", "seed": 5, "temperature": 2.0, "top_p": 0.3},
        {"method": "sample", "seed": 5, "temperature": 2.0, "min_p": 0.5},
        {"beam_size": 1},
        {"max_length": 3},
        {"no_repeat_ngram": 1},
        {"must_include": ["dog"]},
        {"banned": ["k", "kk"]},
        {"prefix": "a dog"},
        {"num_captions": 2, "groups": 2, "diversity": 4.0, "beam_size": 4},
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_valid_options_are_applied(post, model, form, options) -> None:
    expected = model.caption([PHOTO], **options)[0]
    answer = post("caption", form, **options)
    assert answer.status_code == 200, answer.text
    result = [caption["caption"] for caption in answer.json()["captions"]]
    assert result == [caption.text for caption in expected.captions]


@pytest.mark.parametrize("form", ["form", "query"])
@pytest.mark.parametrize(
    ("route", "name", "values"),
    [
        ("caption", "beam_size", ["1", "3"]),
        ("caption", "stream", ["true", "true"]),
        ("vqa", "question", [Q, "where?"]),
        ("vqa", "num_answers", ["1", "1"]),
        ("score", "question", [Q, Q]),
    ],
)
def test_duplicate_scalar_is_rejected(post, form, route, name, values) -> None:
    answer = post(route, form, **{**NEEDED[route], name: values})
    assert (answer.status_code, message(answer)) == (
        422,
        f"{name}: given more than once; send it once",
    )


@pytest.mark.parametrize("form", ["form", "query"])
def test_lists_may_be_repeated(post, model, form) -> None:
    words = ["dog", "boat"]
    answer = post("caption", form, must_include=words)
    assert answer.json()["caption"] == model.caption([PHOTO], must_include=words)[0].text


@pytest.mark.parametrize("name", ["beam_size", "image", "x"])
def test_duplicate_name_in_json_is_rejected(server, name) -> None:
    text = f'{{"image": "{ENCODED}", "{name}": 1, "{name}": 2}}'
    headers = {"content-type": "application/json"}
    answer = server.client.post("/v1/caption", content=text, headers=headers)
    assert (answer.status_code, f"{name}: given more than once" in answer.text) == (422, True)


@pytest.mark.parametrize("path", ["/v1/caption", "/v1/vqa", "/v1/score", "/hf/"])
def test_query_parameters_with_a_body_of_fields_are_rejected(server, path) -> None:
    sent = [{"json": {"image": ENCODED}}]
    if path != "/hf/":
        sent.append({"files": {"image": PHOTO}})
    for how in sent:
        answer = server.client.post(f"{path}?num_captions=3", **how)
        assert (answer.status_code, "num_captions: query param" in answer.text) == (422, True)
    chat = server.client.post("/v1/chat/completions?n=2", json={"messages": []})
    assert (chat.status_code, "n: query param" in chat.text) == (422, True)


def test_second_and_misnamed_files_are_rejected(server) -> None:
    post = server.client.post
    photo = ("image", ("a.jpg", PHOTO))
    answer = post("/v1/caption", files=[photo, ("photo", ("b.jpg", PHOTO))])
    assert (answer.status_code, "photo: unknown option" in answer.text) == (422, True)
    answer = post("/v1/caption", files=[photo, photo])
    assert (answer.status_code, "image: given more than once" in answer.text) == (422, True)
    assert post("/v1/caption", files=[photo, photo, photo]).status_code == 400
    answer = post("/v1/caption", files={"imgae": PHOTO})
    assert (answer.status_code, "nearest valid name is image" in answer.text) == (422, True)
    answer = post("/v1/caption", files={"image": PHOTO}, data={"image": ENCODED})
    assert (answer.status_code, "image: given more than once" in answer.text) == (422, True)
    answer = post("/v1/caption", content=PHOTO, params={"image": ENCODED})
    assert (answer.status_code, "image: the body is the image" in answer.text) == (422, True)


def test_compressed_body_is_rejected(server) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    for path in ("/v1/caption", "/hf/", "/v1/chat/completions"):
        answer = server.client.post(path, content=b"\x1f\x8b", headers=headers)
        assert (answer.status_code, "Content-Encoding" in answer.text) == (415, True)


@pytest.mark.parametrize(
    ("route", "options", "name"),
    [
        ("caption", {"num_captions": 2}, "num_captions"),
        ("caption", {"beam_size": 2}, "beam_size"),
        ("caption", {"groups": 2}, "groups"),
        ("caption", {"diversity": 0.5}, "diversity"),
        ("caption", {"length_penalty": 0.5}, "length_penalty"),
        ("caption", {"length_form": "gnmt"}, "length_form"),
        ("vqa", {"num_answers": 2}, "num_answers"),
        ("vqa", {"answers": ["red", "blue"]}, "answers"),
        ("vqa", {"min_confidence": 0.5}, "min_confidence"),
        ("vqa", {"beam_size": 2}, "beam_size"),
    ],
)
def test_options_that_a_stream_cannot_apply_are_rejected(post, route, options, name) -> None:
    answer = post(route, **NEEDED[route], stream=True, **options)
    assert answer.status_code == 422
    assert message(answer).startswith(f"{name}: cannot be applied to a stream")


@pytest.mark.parametrize(
    ("route", "options"),
    [
        ("caption", {"num_captions": 1, "beam_size": 1, "length_penalty": 1.0}),
        ("caption", {"method": "sample", "seed": 4, "temperature": 1.5, "top_p": 0.9}),
        ("caption", {"max_length": 3, "banned": ["k"], "must_include": ["dog"]}),
        ("vqa", {"num_answers": 1, "min_confidence": 0.0, "beam_size": 1}),
    ],
)
def test_stream_options_are_applied(post, model, route, options) -> None:
    answer = post(route, **NEEDED[route], stream=True, **options)
    pieces = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    decoding = {name: value for name, value in options.items() if name in DECODING_FIELDS}
    if route == "vqa":
        decoding = {"question": Q}
    text = "".join(piece.get("text", "") for piece in pieces)
    assert text == "".join(model.stream(PHOTO, **decoding))


@pytest.mark.parametrize(
    ("route", "options", "named"),
    [
        ("caption", {"num_captions": 4, "beam_size": 2}, "num_captions=4"),
        ("caption", {"groups": 2, "diversity": 1.0, "beam_size": 3}, "beam_size=3"),
        ("caption", {"method": "sample", "beam_size": 3}, "beam_size"),
        ("caption", {"method": "sample", "length_penalty": 0.5}, "length_penalty"),
        ("caption", {"method": "sample", "length_form": "gnmt"}, "length_form"),
        ("caption", {"method": "sample", "temperature": 1e-9}, "temperature"),
        ("caption", {"top_p": 0.5}, "top_p"),
        ("caption", {"seed": 3}, "seed"),
        ("caption", {"max_length": 1000}, "max_length"),
        ("vqa", {"num_answers": 3, "beam_size": 2}, "beam_size"),
        ("vqa", {"answers": ["red"], "beam_size": 2}, "beam_size"),
    ],
)
def test_options_without_effect_in_combination_are_rejected(post, route, options, named) -> None:
    answer = post(route, **NEEDED[route], **options)
    assert (answer.status_code, named in message(answer)) == (422, True), answer.text


def test_openapi_lists_exactly_the_options(server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    for route in ROUTES:
        content = paths[f"/v1/{route}"]["post"]["requestBody"]["content"]
        for kind in ("application/json", "multipart/form-data"):
            schema = content[kind]["schema"]
            assert set(schema["properties"]) == VALID[route] | {"image", "audio"}
            assert schema["additionalProperties"] is False


# Images


@pytest.fixture(scope="module")
def plain() -> str:
    """Return base64 with padding and with both characters that differ between the two alphabets."""
    for seed in range(100):
        text = base64.b64encode(picture_bytes(seed, "PNG")).decode()
        if text.endswith("=") and "+" in text and "/" in text:
            return text
    raise AssertionError("no seed gives such an image")


def base64_forms(plain: str) -> list[str]:
    """Return the image in every accepted form of base64."""
    safe = plain.replace("+", "-").replace("/", "_")
    return [
        plain,
        plain.rstrip("="),
        safe,
        safe.rstrip("="),
        "\n".join(plain[i : i + 76] for i in range(0, len(plain), 76)),
        f"data:image/png;base64,{plain}",
        f"DATA:IMAGE/PNG;BASE64,{plain}",
        f"Data:Image/PNG;Base64,{safe.rstrip('=')}",
        f"data:image/png;base64,{plain.replace('=', '%3D')}",
        f"data:image/png;base64,{quote(plain, safe='')}",
        f"data:image/png;name=a.png;base64,{plain}",
        f"data:;base64,{plain}",
        f" data:image/png;base64,{plain}\n",
    ]


def requests_with(image: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a path and a body with this image for each route."""
    part = {"type": "image_url", "image_url": {"url": image}}
    return [
        ("/v1/caption", {"image": image}),
        ("/v1/caption", {"image": {"url": image}}),
        ("/v1/vqa", {"image": image, "question": Q}),
        ("/v1/score", {"image": image, "texts": ["a dog"]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]}),
        ("/hf/", {"inputs": image}),
        ("/hf/", {"inputs": {"image": image, "question": Q}}),
    ]


def test_every_form_of_base64_is_accepted(plain) -> None:
    data = base64.b64decode(plain)
    for image in base64_forms(plain):
        assert asyncio.run(read_image_field(image, None)) == data, image[:40]


def test_base64_is_accepted_on_all_routes(server, plain) -> None:
    images = base64_forms(plain)
    for image in (images[3], images[7], images[9]):
        for path, body in requests_with(image):
            answer = server.client.post(path, json=body)
            assert answer.status_code == 200, (path, answer.text)


@pytest.mark.parametrize(
    "text", ["QUJ=D", "QUJD=", "QUJDR===", "QUJDR", "Q U J!", "photo.jpg", "Ä"]
)
def test_invalid_base64_is_rejected(server, text) -> None:
    for path, body in requests_with(text):
        answer = server.client.post(path, json=body)
        assert (answer.status_code, "is not valid base64" in message(answer)) == (422, True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///etc/passwd", "never reads local files"),
        ("FILE:photo.jpg", "never reads local files"),
        (r"C:\photo.jpg", "never reads local files"),
        ("ftp://example.org/a.png", "URLs of the scheme 'ftp' are not supported"),
        ("s3://bucket/a.png", "URLs of the scheme 's3' are not supported"),
        ("http://example.org/a.png", "a host that this server does not fetch from"),
    ],
)
def test_unsupported_urls_are_explained(server, url, expected) -> None:
    for path, body in requests_with(url):
        answer = server.client.post(path, json=body)
        assert (answer.status_code, expected in message(answer)) == (422, True), answer.text


def test_image_object_has_only_a_url(server) -> None:
    answer = server.client.post("/v1/caption", json={"image": {"url": ENCODED, "detail": "low"}})
    assert (answer.status_code, "image.detail: unknown option" in answer.text) == (422, True)
