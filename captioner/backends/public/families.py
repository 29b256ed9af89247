"""The supported families by the `model_type` of `config.json`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captioner.backends.public.family import Family
from captioner.backends.public.generation_settings import GenerationSettings
from captioner.backends.public.model_folder import (
    check_generation_settings,
    read_config,
    read_settings,
)
from captioner.backends.public.public_vocabulary import PromptTokenizer
from captioner.errors import CheckpointError
from captioner.text import one_line

FAMILIES: dict[str, str] = {
    "blip": "blip.BlipCaptions",
    "blip-2": "blip2.Blip2",
    "BlipForQuestionAnswering": "blip_questions.BlipAnswers",
    "florence2": "florence2.Florence2",
    "gemma3": "gemma3.Gemma3",
    "git": "git.Git",
    "idefics3": "idefics3.Idefics3",
    "instructblip": "instructblip.InstructBlip",
    "kosmos-2": "kosmos2.Kosmos2",
    "llava": "llava.Llava",
    "llava_next": "llava.LlavaNext",
    "llava_onevision": "llava.LlavaOnevision",
    "paligemma": "paligemma.PaliGemma",
    "pix2struct": "pix2struct.Pix2StructCaptions",
    "qwen2_5_vl": "qwen_vl.Qwen2p5Vl",
    "qwen2_vl": "qwen_vl.Qwen2Vl",
    "smolvlm": "idefics3.SmolVlm",
    "vilt": "vilt.Vilt",
    "vision-encoder-decoder": "encoder_decoder.EncoderDecoder",
}
"""Module and class of each model type; a class name of transformers overrides its type."""


def load_family(folder: str, dtype: torch.dtype | str) -> Family:
    """Load the model of a transformers folder.

    Raises:
        CheckpointError: The model type is not supported, or a part cannot be loaded.
    """
    config = read_config(folder)
    classes = config.get("architectures")
    names = [*(classes if isinstance(classes, list) else ()), config.get("model_type")]
    place = next((FAMILIES[x] for x in names if isinstance(x, str) and x in FAMILIES), None)
    if place is None:
        known = ", ".join(sorted(name for name in FAMILIES if name.islower()))
        raise CheckpointError(
            f"{folder}: the model type {config.get('model_type')!r} is not supported; supported"
            f" are {known}"
        )
    module, name = place.split(".")
    kind: Any = getattr(importlib.import_module(f"captioner.backends.public.{module}"), name)
    if (path := Path(folder) / "generation_config.json").exists():
        settings = read_settings(path)  # transformers ignores a damaged file
        GenerationSettings.of(settings)
        check_generation_settings(settings)
    family: Family = kind.load(folder, dtype)
    _check_family(family, folder)
    _set_lengths(family)
    if family.questions:
        family.vocabulary.question_tokenizer = PromptTokenizer(family.question_prompt)
    return family


def _set_lengths(family: Family) -> None:
    """Replace the longest texts of a family by those that its generation settings state."""
    settings = GenerationSettings.of_model(family.generator)
    if not settings.has_lengths:
        return
    if family.captions:
        longest = settings.longest(family.prompt_length(asks=False))
        family.caption_length = longest or family.caption_length
    if family.questions:
        longest = settings.longest(family.prompt_length(asks=True))
        family.answer_length = longest or family.answer_length


def _check_family(family: Family, folder: str) -> None:
    """Raise CheckpointError if a text cannot end, or the image processor does not work."""
    size = len(family.vocabulary)
    if outside := [i for i in family.vocabulary.ends if not 0 <= i < size]:
        raise CheckpointError(
            f"{folder}: the id {outside[0]} ends a text, but the model has the ids 0 to {size - 1};"
            " correct eos_token_id in generation_config.json"
        )
    try:
        family.read(Image.new("RGB", (64, 64)))
    except Exception as error:  # damaged settings make the library raise errors of many types
        raise CheckpointError(
            f"{folder}: the image processor does not work: {one_line(error)}; restore"
            " preprocessor_config.json"
        ) from None
