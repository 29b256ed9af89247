"""Read and write the checkpoints of a run, in the format of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from captioner.checkpoint import CONFIG, weights
from captioner.checkpoint.folder_format import RUN_CONFIG
from captioner.config import Config, load_config
from captioner.files import restore_folder
from captioner.tokenizer import Tokenizer
from captioner.training.public_checkpoint import (
    load_public_average,
    publish_public,
    save_public,
)
from captioner.training.public_model import CaptionModel, CaptionTokenizer, PublicModel


def save_checkpoint(
    folder: Path,
    config: Config,
    tokenizer: CaptionTokenizer,
    model: CaptionModel,
    metrics: Mapping[str, Any],
) -> None:
    """Write a checkpoint in float32; raise CheckpointError."""
    if isinstance(model, PublicModel):
        save_public(folder, config, model, metrics)
    else:
        assert isinstance(tokenizer, Tokenizer)
        weights.save_best(folder, config, tokenizer, model, metrics, dtype=torch.float32)


def publish_checkpoint(
    source: Path,
    folder: Path,
    scores: Mapping[str, float] | None = None,
    classes: Mapping[str, Any] | None = None,
) -> None:
    """Write a copy with weights of the type `train.save_dtype`; see `weights`."""
    if is_public(source):
        dtype = getattr(torch, load_config(source / RUN_CONFIG).train.save_dtype)
        publish_public(source, folder, dtype, scores, classes)
    else:
        weights.publish_checkpoint(source, folder, scores, classes)


def load_best(folder: Path, model: CaptionModel) -> None:
    """Load a checkpoint of the run; LoRA adapters are initialized again."""
    if isinstance(model, PublicModel):
        load_public_average([folder], model)
    else:
        weights.load_best(folder, model)


def load_average(folders: Sequence[Path], model: CaptionModel) -> None:
    """Load the mean of the weights of several checkpoints of the run."""
    if isinstance(model, PublicModel):
        load_public_average(folders, model)
    else:
        weights.load_average(folders, model)


def image_size(folder: Path) -> int | None:
    """Return the image size of a checkpoint of the run; None for a model of recordings only."""
    name = RUN_CONFIG if is_public(folder) else CONFIG
    return load_config(folder / name).image.size


def is_public(folder: Path) -> bool:
    """Return whether a checkpoint of a run has the format of transformers."""
    restore_folder(folder)
    return (folder / RUN_CONFIG).is_file()
