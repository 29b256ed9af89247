"""Chat completions: each field and message part is applied, has no effect, or is rejected."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_vqa import QUESTIONS

pytest.importorskip("gradio")
from serving import CHAT_IMAGE, PHOTO, PHOTO_URL, chat_texts, message

from captioner.serve.routes.chat_fields import ChatRequest

pytest_plugins = ("serving_fixtures",)
Q = QUESTIONS[0]


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
def test_fields_without_effect_do_not_change_the_text(ask_chat, model, fields) -> None:
    assert chat_texts(ask_chat("", **fields)) == [model.caption([PHOTO])[0].text]
    assert chat_texts(ask_chat(Q, **fields)) == [model.ask(PHOTO, Q).text]


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
def test_inapplicable_fields_are_rejected_by_name(post_chat, name, value) -> None:
    answer = post_chat("", **{name: value})
    assert (answer.status_code, message(answer).startswith(name)) == (422, True), answer.text


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temprature", "the nearest valid name is temperature"),
        ("max_token", "the nearest valid name is max_tokens"),
        ("stop_sequence", "the nearest valid name is stop"),
        ("num_captions", "use n"),
        ("num_caption", "for num_captions, use n"),
        ("must_includes", "for must_include, it is for captions; use /v1/caption"),
        ("lenght_penalty", "for length_penalty, it is for captions; use /v1/caption"),
        ("beam_size", "use /v1/caption"),
        ("top_k", "use /v1/caption"),
        ("image", "put it into a message"),
    ],
)
def test_unknown_fields_are_rejected_by_name(post_chat, name, hint) -> None:
    answer = post_chat("", **{name: 1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_option")
    assert message(answer).startswith(f"{name}: ")
    assert hint in message(answer)


@settings(max_examples=60)
@given(
    st.text(max_size=40) | st.sampled_from(sorted(ChatRequest.model_fields)),
    st.sampled_from([1, 0.5, "x", True, ["a"], {"a": 1}]),
)
def test_any_field_is_valid_or_rejected_by_name(post_chat, name, value) -> None:
    answer = post_chat("", **{name: value})
    if answer.status_code == 200:
        assert name in ChatRequest.model_fields
    else:
        assert answer.status_code == 422
        assert name in message(answer) or repr(name)[1:-1] in message(answer)


def test_different_token_limits_are_rejected(post_chat, ask_chat) -> None:
    answer = post_chat("", max_tokens=2, max_completion_tokens=3)
    assert (answer.status_code, "max_tokens" in message(answer)) == (422, True)
    assert ask_chat("", max_tokens=2, max_completion_tokens=2)["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    "options", [{"include_usages": True}, {"include_obfuscation": True}, {"include_usage": "x"}]
)
def test_stream_options_are_validated(post_chat, options) -> None:
    answer = post_chat("", stream=True, stream_options=options)
    assert (answer.status_code, "stream_options." in message(answer)) == (422, True)


# Messages


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([CHAT_IMAGE, CHAT_IMAGE], "messages.0.content: 2 images"),
        ([CHAT_IMAGE, {"type": "input_audio", "input_audio": {}}], "audio: expected base64"),
        ([CHAT_IMAGE, {"type": "file", "file": {}}], "content.1.type: file"),
        ([CHAT_IMAGE, {"type": "text", "txt": "a"}], "content.1.txt: unknown option; the nearest"),
        ([CHAT_IMAGE, {"type": "text"}], "content.1.text: expected text"),
        (
            [CHAT_IMAGE, {"type": "text", "text": "a", "image_url": "b"}],
            "content.1.image_url: a part",
        ),
        ([CHAT_IMAGE, "text"], "content.1: expected an object"),
        (
            [{"type": "image_url", "image_url": {"url": PHOTO_URL, "detail": "high"}}],
            "detail: the model",
        ),
        (
            [{"type": "image_url", "image_url": {"url": PHOTO_URL, "size": 3}}],
            "size: unknown option",
        ),
        (3, "messages.0.content: expected text"),
        ([CHAT_IMAGE, {"type": "text", "text": "a " * 6000}], "more than 10,000 characters"),
    ],
)
def test_message_parts_are_not_ignored_silently(server, content, expected) -> None:
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
    body = {"messages": [{"role": "user", "content": [CHAT_IMAGE]} | more]}
    answer = server.client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, expected in message(answer)) == (422, True), answer.text


def test_conversations_with_earlier_answers_are_accepted(server, model) -> None:
    url = {"url": PHOTO_URL, "detail": "auto"}
    system = {"role": "system", "content": "You are a helpful assistant."}
    first = {"role": "user", "name": "me", "content": [
        {"type": "image_url", "image_url": url},
        {"type": "text", "text": "Describe it.", "cache_control": {"type": "ephemeral"}},
    ]}  # fmt: skip
    reply = {"role": "assistant", "content": "a dog", "refusal": None, "annotations": [],
             "tool_calls": None, "audio": None}  # fmt: skip
    for system["role"] in ("system", "developer"):
        messages = [system, first, reply, {"role": "user", "content": Q}]
        result = server.client.post("/v1/chat/completions", json={"messages": messages}).json()
        assert (chat_texts(result), result["task"]) == ([model.ask(PHOTO, Q).text], "question")


def test_openapi_lists_exactly_the_chat_fields(server) -> None:
    operation = server.client.get("/openapi.json").json()["paths"]["/v1/chat/completions"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(ChatRequest.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["frequency_penalty"]["enum"] == [0, None]
    assert "`task`" in operation["description"]
    assert json.dumps(schema["properties"]["stop"]).count("string") == 2
