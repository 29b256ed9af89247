"""Load the family of a transformers folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captioner.backends.public.family import Family
from captioner.backends.public.family_registry import FAMILIES, find_family
from captioner.backends.public.generation_settings import GenerationSettings
from captioner.backends.public.model_folder import (
    check_generation_settings,
    read_config,
    read_settings,
)
from captioner.backends.public.public_vocabulary import PromptTokenizer
from captioner.errors import CheckpointError
from captioner.text import one_line


def load_family(folder: str, dtype: torch.dtype | str) -> Family:
    """Load the model of a transformers folder.

    Raises:
        CheckpointError: The model type is not supported, or a part cannot be loaded.
    """
    config = read_config(folder)
    entry = find_family(config)
    if entry is None:
        known = ", ".join(sorted(name for name in FAMILIES if name.islower()))
        raise CheckpointError(
            f"{folder}: the model type {config.get('model_type')!r} is not supported; supported"
            f" are {known}"
        )
    module, name = entry.place.split(".")
    kind: Any = getattr(importlib.import_module(f"captioner.backends.public.{module}"), name)
    if (path := Path(folder) / "generation_config.json").exists():
        settings = read_settings(path)  # transformers ignores a damaged file
        try:
            GenerationSettings.of(settings)
            check_generation_settings(settings)
        except CheckpointError as error:
            raise CheckpointError(f"{folder}: {error}") from None
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
