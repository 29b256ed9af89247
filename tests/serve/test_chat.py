"""Chat completions: fields are applied, neutral, or rejected; where texts end; streams."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

pytest.importorskip("gradio")
from serving import events, message, picture_bytes, start_in_thread

import captioner
from captioner.serve.routes.chat_fields import ChatRequest, choice_seed

Q = QUESTIONS[0]
PHOTO = picture_bytes()
URL = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
IMAGE = {"type": "image_url", "image_url": {"url": URL}}
DRAWN = {"temperature": 2.0, "seed": 5}
TASKS = pytest.mark.parametrize(("text", "task"), [("Describe it.", "caption"), (Q, "question")])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> captioner.Captioner:
    return captioner.load(make_vqa_checkpoint(tmp_path_factory.mktemp("served") / "best"))


@pytest.fixture(scope="module")
def server(model) -> Iterator[SimpleNamespace]:
    with start_in_thread(model) as found:
        yield found


@pytest.fixture(scope="module")
def post(server) -> Callable[..., httpx.Response]:
    """Sends a chat with an image, a text and fields."""

    def send(text: str = "", **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": text}]}]}
        return server.client.post("/v1/chat/completions", json=body | fields)

    return send


@pytest.fixture(scope="module")
def ask(post) -> Callable[..., dict[str, Any]]:
    """The completion of such a chat."""

    def send(text: str = "", **fields: Any) -> dict[str, Any]:
        answer = post(text, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return send


@pytest.fixture(scope="module")
def stream(post) -> Callable[..., list[dict[str, Any]]]:
    """The chunks of such a chat."""

    def send(text: str = "", **fields: Any) -> list[dict[str, Any]]:
        answer = post(text, stream=True, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        return events(answer.text)

    return send


def texts_of(completion: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in completion["choices"]]


def joined(chunks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The text and the finish reason of each choice of a stream."""
    found: dict[int, tuple[str, str]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        text, reason = found.get(choice["index"], ("", None))
        assert reason is None, "a chunk after the last one of its choice"
        text += choice["delta"].get("content", "")
        found[choice["index"]] = (text, choice["finish_reason"])
    assert sorted(found) == list(range(len(found)))
    return [found[index] for index in sorted(found)]


# Fields


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys(set(ChatRequest.model_fields) - {"messages"}),
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False},
        {"response_format": {"type": "text"}, "tools": [], "tool_choice": "auto", "functions": []},
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"model": "any", "modalities": ["text"], "parallel_tool_calls": True, "top_logprobs": 0},
        {"safety_identifier": "x", "prompt_cache_key": "y", "reasoning_effort": "none"},
        {"temperature": 0, "top_p": 1, "n": 1, "seed": 3, "stop": [], "verbosity": "medium"},
    ],
)
def test_fields_that_ask_for_nothing_change_nothing(ask, model, fields) -> None:
    assert texts_of(ask("", **fields)) == [model.caption([PHOTO])[0].text]
    assert texts_of(ask(Q, **fields)) == [model.ask(PHOTO, Q).text]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frequency_penalty", 0.5),
        ("presence_penalty", -1),
        ("logit_bias", {"50": 100}),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("tool_prompt", "use"),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "mp3"}),
        ("prediction", {"type": "content", "content": "a"}),
        ("reasoning_effort", "high"),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("store", True),
        ("n", 0),
        ("n", 1000),
        ("temperature", 3),
        ("temperature", 1e-9),
        ("top_p", 0),
        ("seed", 2**63),
        ("max_tokens", 0),
        ("max_completion_tokens", -1),
        ("stop", ["a"] * 5),
        ("stop", ""),
        ("stop", [""]),
        ("stop", 3),
        ("stream_options", {"include_usage": True}),
        ("messages", []),
    ],
)
def test_fields_that_cannot_be_applied_are_rejected_by_name(post, name, value) -> None:
    answer = post("", **{name: value})
    assert (answer.status_code, message(answer).startswith(name)) == (422, True), answer.text


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temprature", "the nearest valid name is temperature"),
        ("max_token", "the nearest valid name is max_tokens"),
        ("stop_sequence", "the nearest valid name is stop"),
        ("num_captions", "use n"),
        ("beam_size", "use /v1/caption"),
        ("top_k", "use /v1/caption"),
        ("image", "put it into a message"),
    ],
)
def test_unknown_fields_are_rejected_by_name(post, name, hint) -> None:
    answer = post("", **{name: 1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_option")
    assert message(answer).startswith(f"{name}: ")
    assert hint in message(answer)


@settings(max_examples=60)
@given(
    st.text(max_size=40) | st.sampled_from(sorted(ChatRequest.model_fields)),
    st.sampled_from([1, 0.5, "x", True, ["a"], {"a": 1}]),
)
def test_any_field_is_rejected_by_name_or_valid(post, name, value) -> None:
    answer = post("", **{name: value})
    if answer.status_code == 200:
        assert name in ChatRequest.model_fields
    else:
        assert answer.status_code == 422
        assert name in message(answer) or repr(name)[1:-1] in message(answer)


def test_limits_that_differ_are_rejected(post, ask) -> None:
    answer = post("", max_tokens=2, max_completion_tokens=3)
    assert (answer.status_code, "max_tokens" in message(answer)) == (422, True)
    assert ask("", max_tokens=2, max_completion_tokens=2)["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    "options", [{"include_usages": True}, {"include_obfuscation": True}, {"include_usage": "x"}]
)
def test_stream_options_are_checked_too(post, options) -> None:
    answer = post("", stream=True, stream_options=options)
    assert (answer.status_code, "stream_options." in message(answer)) == (422, True)


# Messages


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([IMAGE, IMAGE], "messages.0.content: 2 images"),
        ([IMAGE, {"type": "input_audio", "input_audio": {}}], "content.1.type: input_audio"),
        ([IMAGE, {"type": "file", "file": {}}], "content.1.type: file"),
        ([IMAGE, {"type": "text", "txt": "a"}], "content.1.txt: unknown option; the nearest"),
        ([IMAGE, {"type": "text"}], "content.1.text: expected text"),
        ([IMAGE, {"type": "text", "text": "a", "image_url": "b"}], "content.1.image_url: a part"),
        ([IMAGE, "text"], "content.1: expected an object"),
        ([{"type": "image_url", "image_url": {"url": URL, "detail": "high"}}], "detail: the model"),
        ([{"type": "image_url", "image_url": {"url": URL, "size": 3}}], "size: unknown option"),
        (3, "messages.0.content: expected text"),
        ([IMAGE, {"type": "text", "text": "a " * 6000}], "more than 10,000 characters"),
    ],
)
def test_parts_that_would_be_ignored_are_rejected(server, content, expected) -> None:
    body = {"messages": [{"role": "user", "content": content}]}
    answer = server.client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, expected in message(answer)) == (422, True), answer.text


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"role": "robot"}, "messages.0.role: expected one of"),
        ({"contents": []}, "messages.0.contents: unknown option; the nearest"),
        ({"question": Q}, "messages.0.question: unknown option"),
    ],
)
def test_messages_have_known_roles_and_keys(server, more, expected) -> None:
    body = {"messages": [{"role": "user", "content": [IMAGE]} | more]}
    answer = server.client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, expected in message(answer)) == (422, True), answer.text


def test_conversations_as_clients_send_them_back_are_read(server, model) -> None:
    url = {"url": URL, "detail": "auto"}
    system = {"role": "system", "content": "You are a helpful assistant."}
    first = {"role": "user", "name": "me", "content": [
        {"type": "image_url", "image_url": url},
        {"type": "text", "text": "Describe it.", "cache_control": {"type": "ephemeral"}},
    ]}  # fmt: skip
    reply = {"role": "assistant", "content": "a dog", "refusal": None, "annotations": [],
             "tool_calls": None, "audio": None}  # fmt: skip
    for system["role"] in ("system", "developer"):
        messages = [system, first, reply, {"role": "user", "content": Q}]
        found = server.client.post("/v1/chat/completions", json={"messages": messages}).json()
        assert (texts_of(found), found["task"]) == ([model.ask(PHOTO, Q).text], "question")


# The task


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Can you describe this image in detail?", None),
        ("How would you caption this photo?", None),
        ("Hi! " + Q, Q),
        (f"Answer in one word. {Q}", Q),
        ("Tell me what the dog is by", "what is the dog by?"),
        ("Tell me the color of the dog", "what is the color of the dog?"),
    ],
)
def test_the_answer_and_each_chunk_state_the_task(ask, stream, model, text, asked) -> None:
    if asked is None:
        task, whole, greedy = "caption", model.caption([PHOTO])[0].text, model.stream(PHOTO)
    else:
        task, whole = "question", model.ask(PHOTO, asked).text
        greedy = model.stream(PHOTO, question=asked)
    found, chunks = ask(text), stream(text, stream_options={"include_usage": True})
    assert (found["task"], texts_of(found)) == (task, [whole])
    assert {chunk["task"] for chunk in chunks} == {task}
    assert joined(chunks) == [("".join(greedy), "stop")]


# Sampling


@TASKS
def test_a_seed_repeats_and_no_seed_does_not(ask, stream, text, task) -> None:
    drawn = [texts_of(ask(text, temperature=2.0))[0] for _ in range(8)]
    assert len(set(drawn)) > 1
    same = {texts_of(ask(text, **DRAWN))[0] for _ in range(3)}
    same |= {joined(stream(text, **DRAWN))[0][0] for _ in range(3)}
    assert len(same) == 1
    other = [texts_of(ask(text, **DRAWN | {"seed": seed}))[0] for seed in range(8)]
    assert len(set(other)) > 1


def test_what_is_drawn_is_what_the_captioner_draws(ask, model) -> None:
    options = {"method": "sample", "temperature": 2.0, "seed": 5}
    expected = model.caption([PHOTO], num_captions=3, **options)[0].captions
    assert texts_of(ask("", n=3, **DRAWN)) == [caption.text for caption in expected]
    answers = [
        "".join(model.stream(PHOTO, question=Q, **options | {"seed": choice_seed(5, index)}))
        for index in range(3)
    ]
    assert texts_of(ask(Q, n=3, **DRAWN)) == answers


@TASKS
def test_negative_seeds_are_seeds_of_their_own(ask, text, task) -> None:
    drawn = {
        seed: texts_of(ask(text, n=4, temperature=2.0, seed=seed)) for seed in (3, -3, -(2**63))
    }
    assert drawn[3] != drawn[-3] != drawn[-(2**63)] != drawn[3]
    assert texts_of(ask(text, n=4, temperature=2.0, seed=-3)) == drawn[-3]


@TASKS
def test_temperature_0_is_the_search_and_top_p_alone_draws(ask, text, task) -> None:
    searched = texts_of(ask(text))
    for fields in ({"temperature": 0}, {"temperature": 0, "seed": 9}, {"top_p": 1}, {"seed": 4}):
        assert texts_of(ask(text, **fields)) == searched
    drawn = [texts_of(ask(text, top_p=0.95, seed=seed))[0] for seed in range(8)]
    assert len(set(drawn)) > 1
    assert texts_of(ask(text, top_p=0.95, seed=3)) == texts_of(
        ask(text, top_p=0.95, temperature=1, seed=3)
    )


# Where texts end


@TASKS
@pytest.mark.parametrize("fields", [{}, {"n": 2}, DRAWN, DRAWN | {"n": 2}])
def test_max_tokens_cuts_the_text(ask, stream, text, task, fields) -> None:
    whole, chunks = ask(text, **fields), joined(stream(text, **fields))
    assert {choice["finish_reason"] for choice in whole["choices"]} == {"stop"}
    assert {reason for _, reason in chunks} == {"stop"}
    for name in ("max_tokens", "max_completion_tokens"):
        cut = ask(text, **fields, **{name: 3})
        assert {choice["finish_reason"] for choice in cut["choices"]} == {"length"}
        assert cut["usage"]["completion_tokens"] == 3 * len(cut["choices"])
        for short, long in zip(texts_of(cut), texts_of(whole), strict=True):
            assert short
            assert (long.startswith(short), long != short) == (True, True)
        streamed = joined(stream(text, **fields, **{name: 3}))
        for (short, reason), (long, _) in zip(streamed, chunks, strict=True):
            assert reason == "length"
            assert (long.startswith(short), long != short) == (True, True)
    roomy = ask(text, **fields, max_tokens=1000)
    assert (texts_of(roomy), roomy["choices"]) == (texts_of(whole), whole["choices"])


def test_a_cut_text_has_as_many_tokens_as_were_asked_for(ask, stream, model) -> None:
    tokens = model.caption([PHOTO])[0].best.tokens
    pieces = list(model.stream(PHOTO))
    for count in range(1, len(tokens)):
        assert texts_of(ask("", max_tokens=count)) == [model.tokenizer.decode(tokens[:count])]
        assert joined(stream("", max_tokens=count)) == [("".join(pieces[:count]), "length")]


@TASKS
def test_stop_cuts_before_the_sequence_even_across_pieces(ask, stream, text, task) -> None:
    for get in (
        lambda **f: texts_of(ask(text, **f))[0],
        lambda **f: joined(stream(text, **f))[0][0],
    ):
        whole = get()
        spanning = whole[2:6]  # more than one token
        assert get(stop=spanning) == whole[: whole.index(spanning)]
        assert get(stop=["nowhere", spanning]) == whole[: whole.index(spanning)]
        assert get(stop=whole[-1] + "x") == whole
        assert get(stop=[whole]) == ""
        assert get(stop=spanning, max_tokens=1) == get(max_tokens=1)
    reasons = {c["finish_reason"] for c in ask(text, stop=spanning)["choices"]}
    assert reasons == {"stop"} == {reason for _, reason in joined(stream(text, stop=spanning))}


# Streams


@TASKS
@pytest.mark.parametrize("fields", [{}, DRAWN, {"stop": "o"}, {"max_tokens": 2}])
def test_n_streams_are_the_n_choices(ask, stream, text, task, fields) -> None:
    chunks = stream(text, n=3, **fields)
    completion = ask(text, n=3, **fields)
    reasons = [choice["finish_reason"] for choice in completion["choices"]]
    assert joined(chunks) == list(zip(texts_of(completion), reasons, strict=True))
    firsts = [chunk["choices"][0] for chunk in chunks if "role" in chunk["choices"][0]["delta"]]
    assert [first["index"] for first in firsts] == [0, 1, 2]


@TASKS
def test_usage_is_the_last_chunk_where_it_is_asked_for(ask, stream, text, task) -> None:
    for fields in ({}, {"n": 2, "max_tokens": 2}):
        *chunks, last = stream(text, stream_options={"include_usage": True}, **fields)
        assert last["choices"] == []
        assert {chunk["usage"] for chunk in chunks} == {None}
        usage, cut = last["usage"], ask(text, **fields)["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens"] == cut["prompt_tokens"]
        assert (usage["prompt_tokens"] > 0) == (task == "question")
        if fields:
            assert usage == cut
    for options in (None, {}, {"include_usage": False}, {"include_obfuscation": False}):
        assert all("usage" not in chunk for chunk in stream(text, stream_options=options))


def test_the_openapi_lists_the_fields_and_no_others(server) -> None:
    operation = server.client.get("/openapi.json").json()["paths"]["/v1/chat/completions"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(ChatRequest.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["frequency_penalty"]["enum"] == [0, None]
    assert "`task`" in operation["description"]
    assert json.dumps(schema["properties"]["stop"]).count("string") == 2
