"""Weights of a checkpoint as torch tensors: reading, checking and writing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captioner.checkpoint.folder import ANSWERS, METRICS, TEXT_ENCODER
from captioner.checkpoint.folder_format import CONFIG, TOKENIZER, WEIGHTS
from captioner.config import Config, load_config, save_config
from captioner.errors import CheckpointError
from captioner.files import replace_folder, restore_folder
from captioner.model.image_encoder import resize_positions
from captioner.model.lora import add_new_adapters, merge_adapters
from captioner.model.question_encoder import TextEncoder
from captioner.model.seq2seq import TRAINING_ONLY, Seq2Seq
from captioner.tokenizer import Tokenizer

POSITIONS = "memory_encoder.positions"


def load_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, floats as float32; raise CheckpointError."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from None
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights; raise CheckpointError, with their path, if a name or a shape differs."""
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    problems = [("missing", missing), ("not the model's", extra), ("of another shape", shapes)]
    parts = [f"{len(keys)} {what} (first: {keys[0]})" for what, keys in problems if keys]
    if parts:
        raise CheckpointError(f"{path} does not fit the model: {'; '.join(parts)}")
    model.load_state_dict(state, strict=False)


def stored_feature_shape(
    state: Mapping[str, Tensor], path: Path, *, prefix: str = ""
) -> tuple[int, int]:
    """Return the (positions, channels) of the backbone features that stored weights expect.

    `prefix` is that of the names of a second encoder.
    """
    try:
        positions = state[f"{prefix}{POSITIONS}"].shape[0]
        return positions, state[f"{prefix}memory_encoder.projection.weight"].shape[1]
    except KeyError as error:
        raise CheckpointError(f"{path}: not a captioner's weights; {error} is missing") from None


def save_best(
    folder: Path,
    config: Config,
    tokenizer: Tokenizer,
    model: Seq2Seq,
    metrics: Mapping[str, Any],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a checkpoint atomically, with `metrics` (the validation scores) as `metrics.json`.

    The weights get the type `dtype`, or else `train.save_dtype`; LoRA adapters are merged into
    them, and parts for training only are left out. Raises CheckpointError if the folder cannot be
    written.
    """
    weights = _to_dtype(merge_adapters(model), dtype or getattr(torch, config.train.save_dtype))
    with replace_folder(folder, tensor_bytes(weights)) as partial:
        save_config(config, partial / CONFIG)
        tokenizer.save(partial / TOKENIZER)
        if isinstance(model.question_encoder, TextEncoder):
            text_config: Any = model.question_encoder.model.config
            text_config.save_pretrained(partial / TEXT_ENCODER)
            tokenizer.question_tokenizer.save(partial / TEXT_ENCODER)
        if model.answer_head is not None:
            texts = [tokenizer.decode(list(ids)) for ids in model.answer_head.answers]
            text = json.dumps(texts, ensure_ascii=False, indent=0)
            (partial / ANSWERS).write_text(text + "\n", encoding="utf-8")
        save_tensors(weights, partial / WEIGHTS, metadata={"format": "pt"})
        # safetensors lets only the owner read its files, but checkpoints are meant to be shared.
        (partial / WEIGHTS).chmod(0o644)
        _write_metrics(partial, metrics)


def publish_checkpoint(
    source: Path,
    folder: Path,
    scores: Mapping[str, float] | None = None,
    classes: Mapping[str, Any] | None = None,
) -> None:
    """Write a copy of a checkpoint atomically, with weights of the type `train.save_dtype`.

    `scores` are added to its validation scores, and `classes` to its tables of classes. Raises
    CheckpointError if it cannot be written.
    """
    restore_folder(source)
    dtype = getattr(torch, load_config(source / CONFIG).train.save_dtype)
    weights = _to_dtype(load_weights(source / WEIGHTS), dtype)
    with replace_folder(folder, tensor_bytes(weights)) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        save_tensors(weights, partial / WEIGHTS, metadata={"format": "pt"})
        (partial / WEIGHTS).chmod(0o644)
        metrics = json.loads((source / METRICS).read_text(encoding="utf-8"))
        metrics["val"] = {**(scores or {}), **metrics["val"]}
        if classes:
            metrics["classes"] = {**classes, **metrics.get("classes", {})}
        _write_metrics(partial, metrics)


def _write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def _to_dtype(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the floating-point tensors that a checkpoint holds, on the CPU, with this type."""
    floats = {
        k: v for k, v in state.items() if v.is_floating_point() and not k.startswith(TRAINING_ONLY)
    }
    return {k: v.to("cpu", dtype).contiguous() for k, v in floats.items()}


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file; raise OSError if that fails."""
    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the size of tensors in bytes."""
    return sum(x.nbytes for x in tensors.values())


def load_best(folder: Path, model: nn.Module) -> None:
    """Load a checkpoint of the run; LoRA adapters are initialized again.

    Position embeddings of another image size are interpolated. Parts for training only keep their
    present weights.
    """
    restore_folder(folder)
    load_average([folder], model)


def load_average(folders: Sequence[Path], model: nn.Module) -> None:
    """Load the mean of the weights of several checkpoints of one run, as `load_best` does.

    Tensors that are equal in all of them are not changed by rounding. The order of the checkpoints
    can change the mean by rounding.
    """
    positions = len(model.get_parameter(POSITIONS))
    first = average_tensors([_load_at_size(folder, positions) for folder in folders])
    kept = {k: v for k, v in model.state_dict().items() if k.startswith(TRAINING_ONLY)}
    load_strictly(model, add_new_adapters(model, first) | kept, folders[0])


def average_tensors(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of the tensors of several checkpoints by name.

    Tensors that are equal in all of them are not changed by rounding.
    """
    first, *others = states
    mean = dict(first)
    for key, value in first.items():
        values = [value, *(other[key] for other in others)]
        if any(not torch.equal(value, x) for x in values):
            mean[key] = torch.stack(values).mean(0)
    return mean


def _load_at_size(folder: Path, positions: int) -> dict[str, Tensor]:
    state = load_weights(folder / WEIGHTS)
    return state | {POSITIONS: resize_positions(state[POSITIONS], positions)}
