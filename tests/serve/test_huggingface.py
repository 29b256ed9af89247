"""Hugging Face's API: every parameter is applied or rejected."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_vqa import QUESTIONS

pytest.importorskip("gradio")
from serving import PHOTO, message

from captioner.serve.routes.huggingface_fields import GenerationParameters, HfParameters, HfRequest

pytest_plugins = ("serving_fixtures",)
Q = QUESTIONS[0]
ENCODED = base64.b64encode(PHOTO).decode()
GENERATION = ("generation_parameters", "generate_kwargs")


@pytest.fixture(scope="module")
def post(server) -> Callable[..., httpx.Response]:
    """A function that posts an image, as base64, with other fields."""
    return lambda **fields: server.client.post("/hf/", json={"inputs": ENCODED} | fields)


def captions(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [caption["generated_text"] for caption in answer.json()]


@pytest.mark.parametrize("name", GENERATION)
@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({"max_new_tokens": 3}, {"max_length": 3}),
        ({"max_length": 4}, {"max_length": 4}),
        ({"num_beams": 1}, {"beam_size": 1}),
        ({"num_beams": 4, "num_return_sequences": 4}, {"beam_size": 4, "num_captions": 4}),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 2.0,
          "num_return_sequences": 2},
         {"beam_size": 4, "groups": 2, "diversity": 2.0, "num_captions": 2}),
        ({"length_penalty": 0.5}, {"length_penalty": 0.5}),
        ({"no_repeat_ngram_size": 1}, {"no_repeat_ngram": 1}),
        ({"min_new_tokens": 2, "min_length": 2}, {"min_length": 2}),
        ({"do_sample": True, "seed": 3}, {"method": "sample", "seed": 3}),
        ({"do_sample": True, "seed": 3, "temperature": 2.0, "top_k": 5, "top_p": 0.9,
          "min_p": 0.01},
         {"method": "sample", "seed": 3, "temperature": 2.0, "top_k": 5, "top_p": 0.9,
          "min_p": 0.01}),
        ({"do_sample": True, "seed": 3, "temperature": 2.0, "num_beams": 1},
         {"method": "sample", "seed": 3, "temperature": 2.0}),
        ({"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "use_cache": True}, {}),
        ({"early_stopping": False, "repetition_penalty": 1.0, "typical_p": 1.0}, {}),
        (dict.fromkeys(GenerationParameters.model_fields), {}),
    ],
)  # fmt: skip
def test_caption_parameters_are_applied(post, model, name, parameters, options) -> None:
    expected = [caption.text for caption in model.caption([PHOTO], **options)[0].captions]
    assert captions(post(parameters={name: parameters})) == expected


def test_max_new_tokens_is_also_a_top_level_parameter(post, model) -> None:
    expected = [model.caption([PHOTO], max_length=3)[0].text]
    assert captions(post(parameters={"max_new_tokens": 3})) == expected
    both = {"max_new_tokens": 3, "generation_parameters": {"max_new_tokens": 3, "num_beams": 3}}
    assert captions(post(parameters=both)) == expected


def test_unseeded_requests_sample_different_captions(post) -> None:
    parameters = {"generate_kwargs": {"do_sample": True, "temperature": 2.0}}
    assert len({captions(post(parameters=parameters))[0] for _ in range(8)}) > 1


def test_question_parameters_are_applied(post, server, model) -> None:
    expected = [answer.text for answer in model.ask(PHOTO, Q, num_answers=3).answers]
    inputs = {"image": ENCODED, "question": Q}
    for fields in ({"question": Q}, {"question": Q, "image": ENCODED}, {"inputs": inputs},
                   {"inputs": inputs, "question": Q}):  # fmt: skip
        answers = post(**fields, parameters={"top_k": 3}).json()
        assert [answer["answer"] for answer in answers] == expected
    assert len(post(question=Q, parameters=None).json()) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"paramters": {}}, "paramters: unknown option; the nearest valid name is parameters"),
        ({"parameters": {"max_new_token": 3}}, "nearest valid name is parameters.max_new_tokens"),
        ({"parameters": {"num_beams": 3}}, "parameters.num_beams: unknown option"),
        ({"parameters": {"top_k": 3}}, "parameters.top_k: is the number of answers"),
        ({"parameters": {"generation_parameters": {"num_beam": 3}}},
         "the nearest valid name is generation_parameters.num_beams"),
        ({"parameters": {"generation_parameters": {"temperature": 0.5}}}, "temperature: has no"),
        ({"parameters": {"generation_parameters": {"top_k": 5}}}, "top_k: has no effect"),
        ({"parameters": {"generation_parameters": {"seed": 5}}}, "seed: has no effect"),
        ({"parameters": {"generation_parameters": {"penalty_alpha": 0.5}}}, "penalty_alpha: not"),
        ({"parameters": {"generation_parameters": {"repetition_penalty": 2}}}, "not supported"),
        ({"parameters": {"generation_parameters": {"early_stopping": True}}}, "early_stopping"),
        ({"parameters": {"generation_parameters": {"do_sample": True, "num_beams": 2}}},
         "num_beams: cannot"),
        ({"parameters": {"generation_parameters": {"do_sample": True, "length_penalty": 2}}},
         "length_penalty: has no effect"),
        ({"parameters": {"generation_parameters": {"max_length": 3, "max_new_tokens": 4}}},
         "max_new_tokens: differs"),
        ({"parameters": {"max_new_tokens": 3, "generate_kwargs": {"max_length": 4}}},
         "parameters.max_new_tokens: differs"),
        ({"parameters": {"generation_parameters": {}, "generate_kwargs": {}}}, "generate_kwargs"),
        ({"parameters": {"max_new_tokens": 1000}}, "max_length"),
        ({"parameters": {"generation_parameters": {"num_beams": 2, "num_return_sequences": 3}}},
         "beam_size=2"),
        ({"question": Q, "parameters": {"max_new_tokens": 3}}, "parameters.max_new_tokens: is for"),
        ({"question": Q, "parameters": {"generation_parameters": {}}}, "generation_parameters: is"),
        ({"question": Q, "parameters": {"top_k": 1000}}, "parameters.top_k"),
        ({"question": Q, "image": "QUJD"}, "image: differs from inputs"),
        ({"inputs": {"image": ENCODED, "question": Q}, "question": "where?"}, "question: differs"),
        ({"inputs": {"image": ENCODED, "questions": Q}}, "nearest valid name is inputs.question"),
        ({"inputs": {"image": ENCODED, "question": 3}}, "inputs.question: Input"),
        ({"inputs": {"question": Q}}, "image"),
        ({"inputs": {"image": ENCODED, "question": "what " * 3000}}, "10000 characters"),
        ({"question": "what " * 3000}, "10000 characters"),
        ({"question": "what " * 1000}, "tokens; this model reads at most"),
    ],
)  # fmt: skip
def test_inapplicable_parameters_are_rejected_by_name(post, fields, expected) -> None:
    answer = post(**fields)
    assert (answer.status_code, expected in message(answer)) == (422, True), answer.text


@settings(max_examples=60)
@given(
    place=st.sampled_from(("", "parameters", *GENERATION)),
    name=st.text(max_size=40)
    | st.sampled_from(sorted({*GenerationParameters.model_fields, *HfParameters.model_fields})),
    value=st.sampled_from([1, 0.5, "x", True]),
)
def test_any_parameter_is_valid_or_rejected_by_name(post, place, name, value) -> None:
    models = {"": HfRequest, "parameters": HfParameters}
    fields: dict[str, Any] = {name: value}
    if place:
        fields = {"parameters": fields if place == "parameters" else {place: fields}}
    answer = post(**fields)
    if answer.status_code == 200:
        assert name in models.get(place, GenerationParameters).model_fields
    else:
        assert answer.status_code == 422, answer.text
        words = {"num_return_sequences": "num_captions", "num_beam_groups": "groups",
                 "diversity_penalty": "diversity", "min_new_tokens": "min_length"}  # fmt: skip
        result = message(answer)
        assert any(w in result for w in (name, repr(name)[1:-1], words.get(name, name))), result
