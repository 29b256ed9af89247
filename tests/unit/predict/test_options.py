"""Keyword options of the Python API: each is applied or rejected, none is ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny import picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.config import DecodingConfig
from captioner.errors import CaptionerError
from captioner.predict import Captioner, questions
from captioner.predict import captioner as module

DECODING = tuple(field.name for field in dataclasses.fields(DecodingConfig))
ANSWERING = ("answers", "num_answers", "min_confidence", "beam_size")
OPTIONS = {
    "load": ("checkpoint", "device", "dtype", "tta", "compile"),
    "caption": ("images", "num_captions", "batch_size", *DECODING),
    "caption_stream": ("images", "num_captions", "batch_size", *DECODING),
    "stream": ("image", "question", *DECODING),
    "score": ("image", "texts", "question"),
    "attention": ("image", "text", "question"),
    "encode": ("image",),
    "encode_batch": ("images",),
    "ask": ("image", "question", *ANSWERING),
    "answer": ("rows", "batch_size", *ANSWERING),
    "answer_stream": ("rows", "batch_size", *ANSWERING),
}
"""The keywords of each function."""
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "load": (),
    "caption": (picture(0),),
    "caption_stream": ([picture(0)],),
    "stream": (picture(0),),
    "score": (picture(0), ["a dog"]),
    "attention": (picture(0), "a dog"),
    "encode": (picture(0),),
    "encode_batch": ([picture(0)],),
    "ask": (picture(0), QUESTIONS[0]),
    "answer": ([(picture(0), QUESTIONS[0])],),
    "answer_stream": ([(picture(0), QUESTIONS[0])],),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vqa_checkpoint(tmp_path_factory.mktemp("options") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


def function(model: Captioner, name: str) -> Any:
    return captioner.load if name == "load" else getattr(model, name)


@st.composite
def misspelled(draw) -> tuple[str, str, str]:
    """Draw a function, one of its keywords, and the keyword with one letter changed."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    keyword = draw(st.sampled_from(sorted(OPTIONS[name])))
    place = draw(st.integers(1, len(keyword) - 1))
    letter = draw(st.sampled_from(["", "s", "_", "x", keyword[place] * 2]))
    wrong = keyword[:place] + letter + keyword[place + draw(st.integers(0, 1)) :]
    assume(wrong not in OPTIONS[name])
    return name, keyword, wrong


@given(misspelled())
def test_an_unknown_keyword_raises_an_error_with_the_nearest(model, case):
    name, _, wrong = case
    with pytest.raises(CaptionerError, match=rf"{name}\(\) has no option '{wrong}'; the nearest"):
        function(model, name)(*ARGUMENTS[name], **{wrong: 1})


@pytest.mark.parametrize(
    ("name", "wrong", "nearest"),
    [
        ("caption", "num_caption", "num_captions"),
        ("caption", "beams", "beam_size"),
        ("caption", "must_includes", "must_include"),
        ("stream", "temprature", "temperature"),
        ("ask", "num_answer", "num_answers"),
        ("answer", "batchsize", "batch_size"),
        ("load", "tta_", "tta"),
        ("score", "questions", "question"),
    ],
)
def test_the_nearest_keyword_is_named(model, name, wrong, nearest):
    with pytest.raises(CaptionerError, match=f"the nearest is '{nearest}'"):
        function(model, name)(*ARGUMENTS[name], **{wrong: 1})


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "num_captions": st.integers(1, 3),
    "batch_size": st.integers(1, 3),
    "method": st.sampled_from(["beam", "sample"]),
    "beam_size": st.integers(1, 4),
    "max_length": st.integers(5, 8),
    "min_length": st.integers(1, 4),
    "length_penalty": st.sampled_from([0.3, 2.0]),
    "length_form": st.just("gnmt"),
    "groups": st.integers(2, 3),
    "diversity": st.just(0.5),
    "temperature": st.just(0.7),
    "top_k": st.just(5),
    "top_p": st.just(0.9),
    "min_p": st.just(0.01),
    "seed": st.just(4),
    "no_repeat_ngram": st.just(2),
    "repetition_penalty": st.just(1.2),
    "must_include": st.just(["dog|boat"]),
    "banned": st.just(["red"]),
    "prefix": st.just("a dog"),
    "no_dangling": st.just(True),
}
"""Values other than the defaults."""
RANKING = {"length_penalty", "length_form"}


@st.composite
def decoding(draw, names: tuple[str, ...]) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    return {name: draw(VALUES[name]) for name in chosen}


@pytest.fixture(scope="module")
def searches() -> Iterator[list[tuple[DecodingConfig, int]]]:
    """The configuration of each search, with the number of captions of each image."""
    seen: list[tuple[DecodingConfig, int]] = []

    def search(backend, batches, config, constraints, *, rows=1) -> Iterator[Any]:
        seen.append((config, rows))
        yield from original_search(backend, batches, config, constraints, rows=rows)

    def stream(backend, memory, config, constraints, **rest) -> Iterator[int]:
        seen.append((config, 1))
        return original_stream(backend, memory, config, constraints, **rest)

    original_search, original_stream = module.search_caption_stream, module.stream_tokens
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "search_caption_stream", search)
        patch.setattr(module, "stream_tokens", stream)
        yield seen


def assert_applied(options: dict[str, Any], seen: list[tuple[DecodingConfig, int]]) -> None:
    """Check that each option is in the search's configuration and has an effect."""
    ((config, rows),) = seen
    for name, value in options.items():
        if name == "num_captions":
            assert rows == value
        elif name != "batch_size":
            value = tuple(value) if isinstance(value, list) else value
            assert getattr(config, name) == value, name
    if config.method == "sample":
        assert not options.keys() & (RANKING | {"beam_size", "groups", "must_include"})
    else:
        assert not options.keys() & {"temperature", "top_k", "top_p", "min_p", "seed"}
        assert config.beam_size > 1 or not options.keys() & RANKING


def run_options(call, options: dict[str, Any], seen: list) -> str:
    """Call with options; return the error, or "" if they were applied."""
    seen.clear()
    try:
        list(call(**options))
    except CaptionerError as error:
        assert seen == [], "an option is rejected before anything is computed"
        return str(error)
    assert_applied(options, seen)
    return ""


@settings(max_examples=40)
@given(decoding(tuple(VALUES)))
def test_caption_options_are_applied_or_rejected(model, searches, options):
    error = run_options(lambda **o: model.caption(picture(0), **o), options, searches)
    assert not error or any(name in error for name in options), error


@settings(max_examples=40)
@given(decoding(tuple(name for name in VALUES if name not in ("num_captions", "batch_size"))))
def test_stream_options_are_applied_or_rejected(model, searches, options):
    error = run_options(lambda **o: model.stream(picture(0), **o), options, searches)
    assert not error or any(name in error for name in options), error


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "answers": st.sampled_from([["red", "dog"], ["red", "green", "a boat", "dog"]]),
            "num_answers": st.integers(1, 3),
            "min_confidence": st.sampled_from([0.0, 0.2, 1.0]),
            "beam_size": st.integers(1, 4),
        },
    )
)
def test_answer_options_are_applied(model, options):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        answer = questions.search_answers
        patch.setattr(
            questions,
            "search_answers",
            lambda *a, **o: seen.append((a[2], o)) or answer(*a, **o),
        )
        found = model.ask(picture(0), QUESTIONS[0], **options)
    ((config, rest),) = seen
    if "answers" in options:
        assert {a.text for a in found.answers} <= set(options["answers"])
        assert rest["closed"] is not None
        assert config.beam_size == len(options["answers"])  # all of them are searched
    elif "beam_size" in options:
        assert config.beam_size == max(options["beam_size"], options.get("num_answers", 1))
    assert len(found.answers) <= options.get("num_answers", 1)
    assert found.unsure == (found.confidence < options.get("min_confidence", 0.0))


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1, "length_penalty": 2.0},
        {"beam_size": 1, "length_form": "gnmt"},
        {"method": "sample", "length_penalty": 2.0},
        {"num_captions": 0},
    ],
)
def test_options_without_effect_are_rejected(model, options):
    with pytest.raises(CaptionerError, match=list(options)[-1]):
        model.caption(picture(0), **options)


@pytest.mark.parametrize(
    "options", [{"num_captions": 2.5}, {"num_captions": True}, {"batch_size": "3"}]
)
def test_counts_must_be_whole_numbers(model, options):
    with pytest.raises(TypeError, match=next(iter(options))):
        model.caption(picture(0), **options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_answers": 0}, CaptionerError),
        ({"num_answers": 1.5}, TypeError),
        ({"beam_size": "2"}, TypeError),
        ({"min_confidence": "high"}, TypeError),
        ({"min_confidence": float("nan")}, CaptionerError),
    ],
)
def test_answer_options_are_checked(model, options, error):
    with pytest.raises(error, match=next(iter(options))):
        model.ask(picture(0), QUESTIONS[0], **options)
