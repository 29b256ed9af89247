"""Test which generation settings of a transformers folder the searches use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from public_folders.blip import build_blip
from public_folders.encoder_decoder import build_encoder_decoder
from public_tokens import random_images

import captioner
from captioner.backends.public.family_loading import load_public
from captioner.decoding.ends import until_end
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
