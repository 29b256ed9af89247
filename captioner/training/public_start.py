"""Start a run from a transformers folder: checks of the settings, and the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.checkpoint import resolve_checkpoint
from captioner.checkpoint.folder_format import checkpoint_format
from captioner.config import Config, ImageConfig, QuestionConfig
from captioner.errors import ConfigError
from captioner.model.lora import add_chosen_adapters
from captioner.training.public_model import PublicModel

if TYPE_CHECKING:
    from datasets import Dataset

    from captioner.backends.public.family import Family

DEFAULTS = Config()


def find_public_folder(name: str | None) -> Path | None:
    """Return the folder of `train.start` if it is a transformers model; raise CheckpointError."""
    if name is None:
        return None
    folder = resolve_checkpoint(name)
    return folder if checkpoint_format(folder) == "transformers" else None


def build_public_start(
    config: Config, folder: Path, rows: Dataset
) -> tuple[PublicModel, Vocabulary, Config]:
    """Return the model of a transformers folder, its tokenizer and the completed configuration.

    Raises:
        CheckpointError: The model cannot be loaded.
        ConfigError: It cannot be trained, or the settings or the data do not fit it.
    """
    from transformers.utils.logging import disable_progress_bar

    from captioner.backends.public.families import load_family
    from captioner.backends.public.public_backend import PublicBackend

    start = config.train.start
    for setting, hint in _list_unsupported(config):
        raise ConfigError(f"train.start={start}: a transformers model cannot use {setting}; {hint}")
    disable_progress_bar()  # also those of the checkpoints
    family = load_family(str(folder), torch.float32)
    if not family.trainable:
        kind = family.model.config.model_type
        raise ConfigError(
            f"train.start={start}: models of the type {kind!r} cannot be trained; expected BLIP,"
            " GIT or a vision-encoder-decoder model"
        )
    PublicBackend(family)  # sets `silent` of the tokenizer, which labels depend on
    _check_rows(family, rows, str(start))
    longest = config.train.max_length or min(family.max_length, DEFAULTS.model.max_length)
    if longest > family.max_length:
        limit = f"at most {family.max_length} tokens after the prompt"
        raise ConfigError(f"train.max_length={longest}: {start} has positions for {limit}")
    model = PublicModel(family, folder)
    if config.train.lora_rank:
        trains_encoder = any(stage.encoder_lr for stage in config.train.stages)
        names = list(list_adapted_layers(model, encoder=trains_encoder))
        add_chosen_adapters(model.model, config.train.lora_rank, names)
        model.has_adapters = True
    question = QuestionConfig(max_length=family.question_length) if family.questions else None
    completed = dataclasses.replace(
        config,
        image=_complete_image(config.image, family, str(start)),
        model=dataclasses.replace(config.model, max_length=longest, question=question),
    )
    return model, family.vocabulary, completed


def _list_unsupported(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the settings that a transformers model cannot use, each with advice."""
    train, image = config.train, config.image
    remove = "leave it out of the configuration"
    for name in ("teacher", "soup", "kinds", "compile", "question_max_length"):
        if getattr(train, name):
            yield f"train.{name}", remove
    if train.export != "none":
        yield f"train.export={train.export}", remove
    for name in ("model", "tokenizer", "audio"):
        if getattr(config, name) != getattr(DEFAULTS, name):
            yield f"the section {name}", f"{remove}, because the folder determines it"
    for name in ("size", "mean", "std", "resize"):
        if getattr(image, name) != getattr(DEFAULTS.image, name):
            yield f"image.{name}", f"{remove}, because its own image processor determines it"
    for number, stage in enumerate(train.stages):
        if stage.parts == "question":
            yield f"parts=question in train.stages.{number}", "use parts=all"
        if stage.size:
            yield f"size={stage.size} in train.stages.{number}", remove


def _check_rows(family: Family, rows: Dataset, start: str) -> None:
    """Raise ConfigError if the model does not take any row."""
    if any(tags is not None for tags in rows["tags"]):
        raise ConfigError(f"the data has tags, which {start} cannot predict; leave them out")
    if any(rows["audio"]):
        raise ConfigError(f"the data has recordings, and {start} takes images only")
    if any(rows["question"]) and not family.questions:
        raise ConfigError(
            f"the data has questions, and {start} only captions; choose a model for questions, or"
            " set data.captions=true"
        )
    if not all(rows["question"]) and not family.captions:
        raise ConfigError(
            f"the data has captions, and {start} only answers questions; choose a model for"
            " captions, or set data.questions=true"
        )


def _complete_image(image: ImageConfig, family: Family, start: str) -> ImageConfig:
    """Return the image section with the size and the normalization of the image processor."""
    spec = family.spec
    if spec is None or spec.size[0] != spec.size[1]:
        raise ConfigError(f"train.start={start}: only models of square images can be trained")
    mean, std = read_normalization(family.processor)
    return dataclasses.replace(image, size=spec.size[0], mean=mean, std=std)


def read_normalization(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation so that a processor computes (value / 255 - mean) / std."""
    scale = 255 * (processor.rescale_factor if processor.do_rescale else 1.0)
    mean, std = (0.0,) * 3, (1.0,) * 3
    if processor.do_normalize:
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    if abs(scale - 1) < 1e-9:
        return mean, std
    return tuple(x / scale for x in mean), tuple(x / scale for x in std)


def list_adapted_layers(model: PublicModel, *, encoder: bool) -> Iterator[str]:
    """Yield the names of the linear layers that get adapters.

    These are all layers except the output projections, and those of the image encoder only if a
    stage trains it.
    """
    from transformers.pytorch_utils import Conv1D

    fixed: set[Tensor] = set() if encoder else set(model.backbone.parameters())
    fixed |= model.output_weights
    for name, module in model.model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and module.weight not in fixed:
            yield name


class ProcessorPixels:
    """An image processor as a function from an RGB image to pixels (3, H, W)."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return the pixels (3, H, W), float32."""
        outputs = self.processor(images=[image], return_tensors="np")
        pixels: np.ndarray = np.asarray(outputs["pixel_values"][0], dtype=np.float32)
        return pixels

    def __repr__(self) -> str:
        return repr(self.processor)
