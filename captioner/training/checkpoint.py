"""A run on disk: the best weights, ready for use, and the state to resume from.

`best/` holds config.yaml, model.safetensors, tokenizer.model and metrics.json: a checkpoint; of a
Hugging Face question encoder, the configuration and tokenizer too.
`last/` holds state.safetensors (weights, moving average, optimiser) and progress.json, written
after each epoch. A folder is written whole beside its place and then takes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captioner.build import TEXT_ENCODER, load_strictly, load_weights
from captioner.config import Config, load_config, save_config, to_dict
from captioner.errors import CheckpointError
from captioner.model.question import TextEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training.optimizer import MovingAverage


@dataclass
class Progress:
    """Where a run stands."""

    stage: int = 0
    epoch: int = 0
    """Finished epochs of the stage."""
    step: int = 0
    """Optimiser steps of the whole run."""
    best: float = float("-inf")
    """Best validation score so far."""
    stale: int = 0
    """Evaluations since then, or since the stage began."""


def save_best(
    folder: Path, config: Config, tokenizer: Tokenizer, model: Seq2Seq, metrics: dict[str, Any]
) -> None:
    """Write a checkpoint for use, its weights in `train.save_dtype`."""
    dtype = getattr(torch, config.train.save_dtype)
    partial = _fresh(folder)
    save_config(config, partial / "config.yaml")
    tokenizer.save(partial / "tokenizer.model")
    if isinstance(model.question_encoder, TextEncoder):
        model.question_encoder.model.config.save_pretrained(partial / TEXT_ENCODER)
        tokenizer.questions.save(partial / TEXT_ENCODER)
    weights = {
        k: v.to("cpu", dtype).contiguous()
        for k, v in model.state_dict().items()
        if v.is_floating_point()
    }
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for its owner alone; the folder is made to be shared.
    (partial / "model.safetensors").chmod(0o644)
    (partial / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    _replace(folder, partial)


def set_temperature(folder: Path, temperature: float) -> None:
    """Put a fitted `answers.temperature` into a checkpoint's configuration."""
    path = folder / "config.yaml"
    config = load_config(path, [f"answers.temperature={temperature:.4f}"])
    partial = path.with_suffix(".partial")
    save_config(config, partial)
    partial.replace(path)


def load_best(folder: Path, model: nn.Module) -> None:
    """Put the best weights so far into the model."""
    load_strictly(model, load_weights(folder / "model.safetensors"), folder)


def best_scores(folder: Path) -> dict[str, float]:
    """The validation scores of the best checkpoint; empty when none was written."""
    path = folder / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8"))["val"] if path.exists() else {}


def save_state(
    folder: Path,
    *,
    config: Config,
    tokenizer: Tokenizer,
    progress: Progress,
    model: nn.Module,
    average: MovingAverage,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write all that a resumed run needs to go on as if it had not stopped."""
    partial = _fresh(folder)
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state.items()}
    for i, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": v for name, v in values.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    save_file(tensors, partial / "state.safetensors")
    record = {
        "progress": dataclasses.asdict(progress),
        "average_updates": average.updates,
        "config": to_dict(config),
        "tokenizer": hashlib.sha256(tokenizer.model).hexdigest(),
    }
    (partial / "progress.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _replace(folder, partial)


class SavedState:
    """What `save_state` wrote; CheckpointError when it is missing, torn or of another run."""

    def __init__(self, folder: Path, config: Config, tokenizer: Tokenizer) -> None:
        try:
            record = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            self._tensors = load_file(folder / "state.safetensors")
            self.progress = Progress(**record["progress"])
            self.average_updates = record["average_updates"]
            settings, pieces = record["config"], record["tokenizer"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder}: no state to resume from ({error}); start without --resume"
            ) from None
        changed = _differences(settings, to_dict(config))
        if changed:
            raise CheckpointError(
                f"{folder}: this run had other settings ({', '.join(changed)}); resume with its"
                " own, or start a run with another train.output"
            )
        # The tokenizer is trained anew from the captions; other ids would spoil the weights.
        if pieces != hashlib.sha256(tokenizer.model).hexdigest():
            raise CheckpointError(
                f"{folder}: the training captions of {config.data.roots} have changed"
                " since this run began; restore them, or start a run with another train.output"
            )

    def restore_model(self, model: nn.Module, average: MovingAverage) -> None:
        """Put the weights and their moving average back."""
        model.load_state_dict(self._part("model."))
        for key, value in self._part("average.").items():
            average.state[key].copy_(value)
        average.updates = self.average_updates

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the optimiser's moments back."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self._part("optimizer.").items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        # The fused step walks through memory, so a moment must lie there as its weight does
        # (channels last), and a file holds it contiguous.
        for weight, values in optimizer.state.items():
            for name, value in values.items():
                if value.shape == weight.shape:
                    values[name] = torch.empty_like(weight).copy_(value)

    def _part(self, prefix: str) -> dict[str, Tensor]:
        found = self._tensors.items()
        return {k.removeprefix(prefix): v for k, v in found if k.startswith(prefix)}


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {**old, **new}
        parts = (_differences(old.get(k), new.get(k), f"{where}.{k}".strip(".")) for k in keys)
        return [name for part in parts for name in part]
    return [] if old == new else [where]


def _fresh(folder: Path) -> Path:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _replace(folder: Path, partial: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
