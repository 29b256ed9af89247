"""Test which generation settings of a transformers folder the searches use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from public_folders.blip import build_blip
from public_folders.chat import build_qwen2_vl
from public_folders.encoder_decoder import build_encoder_decoder
from public_folders.git import build_git
from public_folders.prompted import build_paligemma, build_pix2struct_vqa
from public_oracles import processor_oracle
from public_tokens import random_images
from transformers.modeling_outputs import BaseModelOutput

import captioner
from captioner.backends.public.family import Family
from captioner.backends.public.family_loading import load_public
from captioner.backends.public.paligemma import PaliGemma
from captioner.decoding.ends import until_end
from captioner.errors import CheckpointError
from captioner.generation.answers import search_answers
from captioner.generation.captions import search_captions

PENALTY = 1.8


def change(folder: Path, **values: Any) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_settings_of_the_part_that_generates(tmp_path: Path) -> None:
    """`generate` of BLIP passes its inputs to the text decoder, which has its own settings."""
    build_blip(tmp_path, 0)
    change(tmp_path, num_beams=2, repetition_penalty=PENALTY, suppress_tokens=[7])
    backend, config = load_public(tmp_path)
    assert (config.decoding.beam_size, config.decoding.repetition_penalty) == (5, 1.0)
    assert not backend.rules.suppresses


def test_penalty_below_one_is_ignored(tmp_path: Path) -> None:
    build_encoder_decoder(tmp_path, 0)
    change(tmp_path, repetition_penalty=0.5)
    _, config = load_public(tmp_path)
    assert config.decoding.repetition_penalty == config.answers.repetition_penalty == 1


@pytest.mark.parametrize("beams", [1, 3])
def test_penalty_of_captions(tmp_path: Path, beams: int) -> None:
    build_encoder_decoder(tmp_path, 0)
    change(tmp_path, repetition_penalty=PENALTY)
    model = captioner.load(tmp_path)
    family, (image,) = model.backend.family, random_images(1)
    pixels = family.processor(images=image, return_tensors="pt").pixel_values
    search = {"num_beams": beams, "do_sample": False, "max_new_tokens": 12}
    texts = []
    for options in ({}, {"repetition_penalty": 1.0}):
        caption = model.caption(image, beam_size=beams, max_length=12, **options)[0].captions[0]
        with torch.inference_mode():
            raw = family.model.generate(pixel_values=pixels, **search, **options)[0, 1:].tolist()
        assert list(caption.tokens) == until_end(raw, family.vocabulary.ends)
        texts.append(caption.tokens)
    assert texts[0] != texts[1]


def test_sampled_tokens_have_the_penalty(tmp_path: Path) -> None:
    """With one token to draw from, sampling is a greedy search."""
    build_encoder_decoder(tmp_path, 0)
    change(tmp_path, repetition_penalty=PENALTY)
    model, (image,) = captioner.load(tmp_path), random_images(1)
    drawn = model.caption(image, method="sample", top_k=1)[0].captions[0]
    best = model.caption(image, beam_size=1)[0].captions[0]
    assert drawn.tokens == best.tokens


# Beams and lengths: `generate` without options uses those of the file


def generate_caption(folder: Path, family: Family, image: Image.Image) -> list[int]:
    """Return the caption of `generate` without other settings than those of the folder."""
    with torch.inference_mode():
        if isinstance(family, PaliGemma):
            raw = processor_oracle(folder, caption="<image>caption en")(family, image, None, {})
        else:
            pixels = family.processor(images=image, return_tensors="pt").pixel_values
            # With a cache, GIT in transformers 5.0 counts the image in the positions of tokens.
            raw = family.model.generate(pixel_values=pixels, use_cache=False)[0, 1:].tolist()
    return until_end(map(int, raw), family.vocabulary.ends)


NEW = not transformers.__version__.startswith("5.0.")
COUNTS_OTHERWISE = "in transformers 5.0, generate counts a stated max_length otherwise"


@pytest.mark.parametrize("build", [build_encoder_decoder, build_git, build_paligemma])
@pytest.mark.parametrize(
    "values",
    [
        {"num_beams": 1, "max_new_tokens": 9},
        {"num_beams": 1, "max_length": 32},
        {"num_beams": 3, "min_new_tokens": 8, "max_new_tokens": 12, "length_penalty": -2.0},
        {"num_beams": 1, "min_length": 31, "max_length": 33},
    ],
)
def test_stated_beams_and_lengths_are_those_of_generate(
    tmp_path: Path, build: Callable[..., None], values: dict[str, Any]
) -> None:
    if "max_length" in values and not NEW:
        pytest.skip(COUNTS_OTHERWISE)
    build(tmp_path, 0)
    change(tmp_path, **values)
    model, (image,) = captioner.load(tmp_path), random_images(1)
    assert model.config.decoding.beam_size == values["num_beams"]
    expected = generate_caption(tmp_path, model.backend.family, image)
    assert list(model.caption(image)[0].captions[0].tokens) == expected


@pytest.mark.skipif(not NEW, reason=COUNTS_OTHERWISE)
def test_stated_lengths_of_answers(tmp_path: Path) -> None:
    build_pix2struct_vqa(tmp_path, 0)
    plain = captioner.load(tmp_path).config.answers
    assert (plain.beam_size, plain.max_length, plain.min_length) == (5, 12, 0)
    change(tmp_path, num_beams=1, min_new_tokens=4, max_length=7)
    model, (image,) = captioner.load(tmp_path), random_images(1)
    answers = model.config.answers
    assert (answers.beam_size, answers.max_length, answers.min_length) == (1, 6, 4)
    for seed in range(4):
        (image,) = random_images(1, seed)
        memory = model.backend.encode([model.backend.read(image)])
        asked = model.backend.family.question_prompt("what color is the dog?")
        memories = model.backend.encode_questions(memory, [asked], [0])
        ((best,),) = search_answers(model.backend, memories, answers, num_return=1)
        raw = model.backend.family
        with torch.inference_mode():
            inputs = raw.attended(memories)
            raw_ids = raw.model.generate(
                flattened_patches=None,
                encoder_outputs=BaseModelOutput(inputs["encoder_hidden_states"]),
                attention_mask=torch.ones(inputs["encoder_hidden_states"].shape[:2]),
            )[0, 1:].tolist()
        assert best.tokens == until_end(raw_ids, raw.vocabulary.ends)


def test_lengths_stay_within_the_model(tmp_path: Path) -> None:
    build_encoder_decoder(tmp_path, 0)
    plain = captioner.load(tmp_path)
    change(tmp_path, max_length=5000, min_length=4000)
    model = captioner.load(tmp_path)
    decoding = model.config.decoding
    assert decoding.max_length == model.max_length == plain.max_length
    assert decoding.min_length == decoding.max_length - 1
    assert plain.config.decoding.max_length == 30
    (image,) = random_images(1)
    assert len(model.caption(image, max_length=3)[0].captions[0].tokens) == 3


def test_a_longest_text_that_the_prompt_exceeds_is_ignored(tmp_path: Path) -> None:
    build_qwen2_vl(tmp_path, 0)
    change(tmp_path, max_length=3)
    _, config = load_public(tmp_path)
    assert (config.decoding.max_length, config.answers.max_length) == (128, 64)


# Settings that are ignored, and wrong ones


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"exponential_decay_length_penalty": [3, 1.5], "sequence_bias": [[[7], -2.0]]},
         "exponential_decay_length_penalty, sequence_bias"),
        ({"bad_words_ids": [[7]], "penalty_alpha": 0.6}, "bad_words_ids, penalty_alpha"),
        ({"do_sample": True, "temperature": 0.1, "top_k": 3, "top_p": 1.0}, None),
        ({"num_beams": 2, "early_stopping": True}, "early_stopping"),
        ({"repetition_penalty": 0.5}, "repetition_penalty"),
        ({"do_sample": False, "temperature": 0.1, "guidance_scale": 1, "early_stopping": True,
          "diversity_penalty": 0.0, "encoder_no_repeat_ngram_size": 0, "num_beam_groups": 1}, None),
    ],
)  # fmt: skip
def test_ignored_settings_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: dict[str, Any], names: str | None
) -> None:
    build_qwen2_vl(tmp_path, 0)
    change(tmp_path, **values)
    model, (image,) = captioner.load(tmp_path), random_images(1)
    lines = [r.message for r in caplog.records if r.name.startswith("captioner")]
    expected = f"{tmp_path}: settings of generation_config.json that are ignored: {names}"
    assert lines == ([] if names is None else [expected])
    first, second = (model.caption(image, max_length=8)[0].text for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_beams": 5.0}, "num_beams=5.0: expected a whole number from 1 to 100"),
        ({"num_beams": True}, "num_beams=True: expected a whole number from 1 to 100"),
        ({"length_penalty": "x"}, "length_penalty='x': expected a number from -10 to 10"),
        ({"repetition_penalty": "x"}, "repetition_penalty='x': expected a number"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: expected a whole number, 1 or more"),
        ({"min_length": -1}, "min_length=-1: expected a whole number, 0 or more"),
        ({"suppress_tokens": -1}, "suppress_tokens=-1: expected a list of token ids, 0 or more"),
        ({"forced_eos_token_id": [-1]}, r"forced_eos_token_id=\[-1\]: expected token ids"),
        ({"num_return_sequences": 9}, "num_return_sequences=9: .*`num_return_sequences`"),
        ({"pad_token_id": "x"}, "pad_token_id='x': TypeError: "),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    build_encoder_decoder(tmp_path, 0)
    change(tmp_path, **values)
    with pytest.raises(
        CheckpointError, match=rf"^{tmp_path}: generation_config.json: {message}"
    ) as caught:
        load_public(tmp_path)
    assert str(caught.value).endswith("; correct or remove it")
    assert "config.json and the weights" not in str(caught.value)


def test_score_of_a_caption_with_a_forced_end(tmp_path: Path) -> None:
    build_encoder_decoder(tmp_path, 0, "beit", "bart")
    path = tmp_path / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"forced_eos_token_id": settings["eos_token_id"]}))
    model, (image,) = captioner.load(tmp_path), random_images(1)
    memory = model.backend.encode([model.backend.read(image)])
    config = model.config.decoding
    (hypotheses,) = search_captions(model.backend, memory, config)
    longest = [h for h in hypotheses if len(h.tokens) == config.max_length]
    assert longest
    for hypothesis in longest:
        logprobs = model.backend.score(memory, np.array([[hypothesis.tokens]]))[0, 0]
        assert logprobs[-1] == 0
        assert logprobs.sum() == pytest.approx(hypothesis.logprob, abs=1e-3)


def test_score_of_texts_of_different_lengths_with_token_0_suppressed(tmp_path: Path) -> None:
    build_git(tmp_path, 0)
    change(tmp_path, suppress_tokens=[0])
    model, (image,) = captioner.load(tmp_path), random_images(1)
    short, long = "a dog", "a dog on the grass"
    alone = [model.score(image, [text])[0].logprob for text in (short, long)]
    together = [scored.logprob for scored in model.score(image, [short, long])]
    assert np.isfinite(alone).all()
    assert together == pytest.approx(alone, abs=1e-4)
