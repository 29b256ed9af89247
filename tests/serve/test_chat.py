"""Chat completions: the task, sampling, truncation, and streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny_vqa import QUESTIONS

pytest.importorskip("gradio")
from serving import PHOTO, chat_texts, events

from captioner.serve.routes.chat_fields import choice_seed

pytest_plugins = ("serving_fixtures",)
Q = QUESTIONS[0]
DRAWN = {"temperature": 2.0, "seed": 5}
TASKS = pytest.mark.parametrize(("text", "task"), [("Describe it.", "caption"), (Q, "question")])


@pytest.fixture(scope="module")
def stream(post_chat) -> Callable[..., list[dict[str, Any]]]:
    """A function that returns the chunks of a streamed chat."""

    def send(text: str = "", **fields: Any) -> list[dict[str, Any]]:
        answer = post_chat(text, stream=True, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        return events(answer.text)

    return send


def join_chunks(chunks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the text and the finish reason of each choice of a stream."""
    result: dict[int, tuple[str, str]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        text, reason = result.get(choice["index"], ("", None))
        assert reason is None, "a chunk after the last one of its choice"
        text += choice["delta"].get("content", "")
        result[choice["index"]] = (text, choice["finish_reason"])
    assert sorted(result) == list(range(len(result)))
    return [result[index] for index in sorted(result)]


# The task


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Can you describe this image in detail?", None),
        ("How would you caption this photo?", None),
        ("Hi! " + Q, Q),
        (f"Answer in one word. {Q}", Q),
        ("Tell me what the dog is by", "what is the dog by?"),
        ("Tell me the color of the dog", "what is the color of the dog?"),
    ],
)
def test_response_and_chunks_state_the_task(ask_chat, stream, model, text, question) -> None:
    if question is None:
        task, whole, greedy = "caption", model.caption([PHOTO])[0].text, model.stream(PHOTO)
    else:
        task, whole = "question", model.ask(PHOTO, question).text
        greedy = model.stream(PHOTO, question=question)
    result, chunks = ask_chat(text), stream(text, stream_options={"include_usage": True})
    assert (result["task"], chat_texts(result)) == (task, [whole])
    assert {chunk["task"] for chunk in chunks} == {task}
    pieces = list(greedy)
    search = model.config.decoding if question is None else model.config.answers
    reason = "length" if pieces[-1].tokens == search.max_length else "stop"
    assert join_chunks(chunks) == [("".join(pieces), reason)]


# Sampling


@TASKS
def test_equal_seeds_sample_equal_texts(ask_chat, stream, text, task) -> None:
    drawn = [chat_texts(ask_chat(text, temperature=2.0))[0] for _ in range(8)]
    assert len(set(drawn)) > 1
    same = {chat_texts(ask_chat(text, **DRAWN))[0] for _ in range(3)}
    same |= {join_chunks(stream(text, **DRAWN))[0][0] for _ in range(3)}
    assert len(same) == 1
    other = [chat_texts(ask_chat(text, **DRAWN | {"seed": seed}))[0] for seed in range(8)]
    assert len(set(other)) > 1


def test_chat_samples_equal_those_of_the_captioner(ask_chat, model) -> None:
    options = {"method": "sample", "temperature": 2.0, "seed": 5}
    expected = model.caption([PHOTO], num_captions=3, **options)[0].captions
    assert chat_texts(ask_chat("", n=3, **DRAWN)) == [caption.text for caption in expected]
    answers = [
        "".join(model.stream(PHOTO, question=Q, **options | {"seed": choice_seed(5, index)}))
        for index in range(3)
    ]
    assert chat_texts(ask_chat(Q, n=3, **DRAWN)) == answers


@TASKS
def test_negative_seeds_differ_from_positive_ones(ask_chat, text, task) -> None:
    drawn = {
        seed: chat_texts(ask_chat(text, n=4, temperature=2.0, seed=seed))
        for seed in (3, -3, -(2**63))
    }
    assert drawn[3] != drawn[-3] != drawn[-(2**63)] != drawn[3]
    assert chat_texts(ask_chat(text, n=4, temperature=2.0, seed=-3)) == drawn[-3]


@TASKS
def test_temperature_0_uses_beam_search_and_top_p_samples(ask_chat, text, task) -> None:
    searched = chat_texts(ask_chat(text))
    for fields in ({"temperature": 0}, {"temperature": 0, "seed": 9}, {"top_p": 1}, {"seed": 4}):
        assert chat_texts(ask_chat(text, **fields)) == searched
    drawn = [chat_texts(ask_chat(text, top_p=0.95, seed=seed))[0] for seed in range(8)]
    assert len(set(drawn)) > 1
    assert chat_texts(ask_chat(text, top_p=0.95, seed=3)) == chat_texts(
        ask_chat(text, top_p=0.95, temperature=1, seed=3)
    )


# Where texts end


@TASKS
@pytest.mark.parametrize("fields", [{}, {"n": 2}, DRAWN, DRAWN | {"n": 2}])
def test_max_tokens_truncates_the_text(ask_chat, stream, text, task, fields) -> None:
    whole, chunks = ask_chat(text, **fields), join_chunks(stream(text, **fields))
    for name in ("max_tokens", "max_completion_tokens"):
        cut = ask_chat(text, **fields, **{name: 3})
        assert {choice["finish_reason"] for choice in cut["choices"]} == {"length"}
        assert cut["usage"]["completion_tokens"] == 3 * len(cut["choices"])
        for short, long in zip(chat_texts(cut), chat_texts(whole), strict=True):
            assert short
            assert (long.startswith(short), long != short) == (True, True)
        streamed = join_chunks(stream(text, **fields, **{name: 3}))
        for (short, reason), (long, _) in zip(streamed, chunks, strict=True):
            assert reason == "length"
            assert (long.startswith(short), long != short) == (True, True)
    roomy = ask_chat(text, **fields, max_tokens=1000)
    assert (chat_texts(roomy), roomy["choices"]) == (chat_texts(whole), whole["choices"])


def test_truncated_text_has_exactly_max_tokens(ask_chat, stream, model) -> None:
    tokens = model.caption([PHOTO])[0].best.tokens
    pieces = list(model.stream(PHOTO))
    for count in range(1, len(tokens)):
        assert chat_texts(ask_chat("", max_tokens=count)) == [
            model.tokenizer.decode(tokens[:count])
        ]
        assert join_chunks(stream("", max_tokens=count)) == [("".join(pieces[:count]), "length")]


@TASKS
def test_text_of_the_longest_length_has_finish_reason_length(
    ask_chat, stream, model, text, task, monkeypatch
) -> None:
    for options in (model.config.decoding, model.config.answers):
        monkeypatch.setitem(options.__dict__, "max_length", 2)
    assert [choice["finish_reason"] for choice in ask_chat(text)["choices"]] == ["length"]
    assert [reason for _, reason in join_chunks(stream(text))] == ["length"]
    assert ask_chat(text)["usage"]["completion_tokens"] == 2


def test_a_chat_without_a_file_is_an_error_that_names_what_the_model_takes(server) -> None:
    body = {"messages": [{"role": "user", "content": "what is it?"}]}
    answer = server.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 422
    problem = "messages: no image_url; this model needs an image in the messages"
    assert answer.json()["error"]["message"] == problem


@TASKS
def test_stop_sequence_may_span_streamed_pieces(ask_chat, stream, text, task) -> None:
    for get in (
        lambda **f: chat_texts(ask_chat(text, **f))[0],
        lambda **f: join_chunks(stream(text, **f))[0][0],
    ):
        whole = get()
        spanning = whole[2:6]  # more than one token
        assert get(stop=spanning) == whole[: whole.index(spanning)]
        assert get(stop=["nowhere", spanning]) == whole[: whole.index(spanning)]
        assert get(stop=whole[-1] + "x") == whole
        assert get(stop=[whole]) == ""
        assert get(stop=spanning, max_tokens=1) == get(max_tokens=1)
    reasons = {c["finish_reason"] for c in ask_chat(text, stop=spanning)["choices"]}
    assert reasons == {"stop"} == {reason for _, reason in join_chunks(stream(text, stop=spanning))}


# Streams


@TASKS
@pytest.mark.parametrize("fields", [{}, DRAWN, {"stop": "o"}, {"max_tokens": 2}])
def test_n_streams_equal_the_n_choices(ask_chat, stream, text, task, fields) -> None:
    chunks = stream(text, n=3, **fields)
    completion = ask_chat(text, n=3, **fields)
    reasons = [choice["finish_reason"] for choice in completion["choices"]]
    assert join_chunks(chunks) == list(zip(chat_texts(completion), reasons, strict=True))
    firsts = [chunk["choices"][0] for chunk in chunks if "role" in chunk["choices"][0]["delta"]]
    assert [first["index"] for first in firsts] == [0, 1, 2]


@TASKS
def test_last_chunk_has_the_usage_on_request(ask_chat, stream, text, task) -> None:
    for fields in ({}, {"n": 2, "max_tokens": 2}):
        *chunks, last = stream(text, stream_options={"include_usage": True}, **fields)
        assert last["choices"] == []
        assert {chunk["usage"] for chunk in chunks} == {None}
        usage, cut = last["usage"], ask_chat(text, **fields)["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens"] == cut["prompt_tokens"]
        assert (usage["prompt_tokens"] > 0) == (task == "question")
        if fields:
            assert usage == cut
    for options in (None, {}, {"include_usage": False}, {"include_obfuscation": False}):
        assert all("usage" not in chunk for chunk in stream(text, stream_options=options))
