"""The supported families by the `model_type` of `config.json`."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from captioner.backends.public.family import Family
from captioner.backends.public.model_folder import read_config
from captioner.backends.public.public_vocabulary import PromptTokenizer
from captioner.errors import CheckpointError

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
    names = [*(config.get("architectures") or ()), config.get("model_type")]
    place = next((FAMILIES[name] for name in names if name in FAMILIES), None)
    if place is None:
        known = ", ".join(sorted(name for name in FAMILIES if name.islower()))
        raise CheckpointError(
            f"{folder}: the model type {config.get('model_type')!r} is not supported; supported"
            f" are {known}"
        )
    module, name = place.split(".")
    kind: Any = getattr(importlib.import_module(f"captioner.backends.public.{module}"), name)
    family: Family = kind.load(folder, dtype)
    if family.questions:
        family.vocabulary.question_tokenizer = PromptTokenizer(family.question_prompt)
    return family
