"""Checkpoints of a transformers model in training: folders that `transformers` loads.

Such a folder has the files of the folder that the run started from (tokenizer, image processor and
settings of generation), with the new weights and `config.json`. `metrics.json` holds the scores
and `run.yaml` the settings of the run. Its name is not `config.yaml`, so that the folder remains
one of transformers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from captioner.checkpoint import METRICS
from captioner.checkpoint.folder_format import INDEX, PUBLIC_CONFIG, RUN_CONFIG, WEIGHTS
from captioner.checkpoint.weights import average_tensors, save_tensors, tensor_bytes
from captioner.config import Config, save_config
from captioner.errors import CheckpointError
from captioner.files import MANIFEST, replace_folder, restore_folder
from captioner.model.lora import add_new_adapters, merge_adapters
from captioner.text import one_line
from captioner.training.public_model import PREFIX, PublicModel

COPIED = (".json", ".jinja", ".model", ".txt")
"""Suffixes of the files of a transformers folder that are not weights."""


def save_public(
    folder: Path, config: Config, model: PublicModel, metrics: Mapping[str, Any]
) -> None:
    """Write a checkpoint atomically, with the weights as they are and `metrics.json`.

    LoRA adapters are merged into the weights. Raises CheckpointError if the folder cannot be
    written.
    """
    merged = merge_adapters(model)
    state = {name.removeprefix(PREFIX): value for name, value in merged.items()}
    files = [p for p in sorted(model.folder.iterdir()) if p.suffix in COPIED and p.is_file()]
    files = [p for p in files if p.name not in (METRICS, INDEX, MANIFEST)]
    size = tensor_bytes(state) + sum(path.stat().st_size for path in files)
    with replace_folder(folder, size) as partial:
        for path in files:
            shutil.copyfile(path, partial / path.name)
        module: Any = model.model
        module.save_pretrained(partial, state_dict=state, max_shard_size="1TB")
        (partial / WEIGHTS).chmod(0o644)
        save_config(config, partial / RUN_CONFIG)
        write_metrics(partial, metrics)


def publish_public(
    source: Path,
    folder: Path,
    dtype: torch.dtype,
    scores: Mapping[str, float] | None = None,
    classes: Mapping[str, Any] | None = None,
) -> None:
    """Write a copy of a checkpoint atomically, with weights of another type.

    `scores` are added to its validation scores, `classes` to its tables of classes. Raises
    CheckpointError if it cannot be written.
    """
    restore_folder(source)
    try:
        stored = load_file(source / WEIGHTS)
    except Exception as error:
        raise CheckpointError(f"{source / WEIGHTS}: cannot be read: {one_line(error)}") from None
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in stored.items()}
    with replace_folder(folder, tensor_bytes(state)) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        save_tensors(state, partial / WEIGHTS, metadata={"format": "pt"})
        (partial / WEIGHTS).chmod(0o644)
        config = json.loads((partial / PUBLIC_CONFIG).read_text(encoding="utf-8"))
        config["dtype"] = str(dtype).removeprefix("torch.")
        _write_json(partial / PUBLIC_CONFIG, config)
        metrics = json.loads((source / METRICS).read_text(encoding="utf-8"))
        metrics["val"] = {**(scores or {}), **metrics["val"]}
        if classes:
            metrics["classes"] = {**classes, **metrics.get("classes", {})}
        write_metrics(partial, metrics)


def load_public_average(folders: Sequence[Path], model: PublicModel) -> None:
    """Load the mean of the weights of several checkpoints; LoRA adapters are initialized again.

    Tensors that are equal in all of them are not changed by rounding. Raises CheckpointError.
    """
    mean = average_tensors([_load_state(folder, model) for folder in folders])
    model.load_state_dict(add_new_adapters(model, mean))


def _load_state(folder: Path, model: PublicModel) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by their names in the model, without adapters."""
    from captioner.backends.public.model_folder import load_model

    restore_folder(folder)
    loaded = load_model(str(folder), type(model.model).__name__, torch.float32)
    return {PREFIX + name: value for name, value in loaded.state_dict().items()}


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write `metrics.json`."""
    _write_json(folder / METRICS, metrics)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
