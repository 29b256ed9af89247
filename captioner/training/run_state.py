"""A run on disk: the best weights, ready for use, and the state to resume from.

`best/` holds config.yaml, model.safetensors, tokenizer.model and metrics.json: a checkpoint; of a
Hugging Face question encoder, the configuration and tokenizer too.
`states/` holds the last few states to resume from, each a folder with state.safetensors (weights,
moving average, optimiser; whole tensors, however the ranks share them) and progress.json; their
names sort by time. All folders are made by `durable.writing`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from captioner.checkpoint import save_tensors, tensor_bytes
from captioner.config import Config, TrainConfig, to_dict
from captioner.errors import CheckpointError
from captioner.files import find_damage, replace_folder
from captioner.tokenizer import Tokenizer
from captioner.training import distributed
from captioner.training.ema import MovingAverage

HARMLESS = {"data.workers", "train.cache", "train.keep", "train.save_every", "train.tracker"}
"""Settings that change nothing of what comes out."""


@dataclass
class Progress:
    """Where a run stands."""

    stage: int = 0
    epoch: int = 0
    """Finished epochs of the stage."""
    batch: int = 0
    """Finished batches of the epoch after those."""
    step: int = 0
    """Optimiser steps of the whole run."""
    best: float = float("-inf")
    """Best validation score so far."""
    stale: int = 0
    """Evaluations since then, or since the stage began."""
    sums: dict[str, list[float]] = field(default_factory=dict)
    """Of the epoch under way: each loss's sum and count."""

    @property
    def name(self) -> str:
        """Of a state's folder; later ones sort behind."""
        return f"{self.stage:02}-{self.epoch:04}-{self.batch:07}"


def is_stage_finished(progress: Progress, settings: TrainConfig) -> bool:
    """Return whether the stage that a run stands in has no epoch left."""
    if progress.batch:
        return False
    epochs = settings.stages[progress.stage].epochs
    return progress.epoch >= epochs > 0 or progress.stale >= settings.patience


def is_complete(progress: Progress, settings: TrainConfig, report: Path) -> bool:
    """Return whether a run has no step left, and has written its report, the last thing it does."""
    last = progress.stage == len(settings.stages) - 1
    return last and is_stage_finished(progress, settings) and report.is_file()


def gather_state(
    model: nn.Module, average: MovingAverage, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, Tensor]:
    """The tensors that a resumed run needs; all ranks must ask, and those that `keep` get them."""
    parts = {
        "model": model.state_dict().items(),
        "average": average.state.items(),
        "optimizer": distributed.optimizer_state(model, optimizer),
    }
    found = {}
    for part, tensors in parts.items():
        for name, tensor in tensors:
            tensor = distributed.gather_tensor(tensor.detach())
            if keep:
                found[f"{part}.{name}"] = tensor.cpu().contiguous().clone()
    return found


def save_state(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    config: Config,
    tokenizer: Tokenizer,
    data: str,
    progress: Progress,
    average: MovingAverage,
    scaler: Mapping[str, Any] | None = None,
    ranks: int = 1,
) -> None:
    """Add what a resumed run needs to go on as if it had not stopped; then drop the oldest.

    `tensors` are those of `gather_state`, `data` is the digest of the rows that the run sees,
    `scaler` the state of a gradient scaler. Raises CheckpointError.
    """
    record = {
        "progress": dataclasses.asdict(progress),
        "average_updates": average.updates,
        "scaler": scaler,
        "config": to_dict(config) | {"ranks": ranks},
        "tokenizer": _digest(tokenizer),
        "data": data,
        "launch": distributed.launch(),
    }
    with replace_folder(folder / progress.name, tensor_bytes(tensors)) as partial:
        save_tensors(tensors, partial / "state.safetensors")
        text = json.dumps(record, indent=2) + "\n"
        (partial / "progress.json").write_text(text, encoding="utf-8")
    for old in _states(folder)[: -config.train.keep]:
        shutil.rmtree(old, ignore_errors=True)


def set_aside(folder: Path) -> None:
    """The states of an earlier run in the place of a new one's; one such run is kept."""
    if _states(folder):
        other = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(other, ignore_errors=True)
        folder.rename(other)


def is_of_this_launch(folder: Path) -> bool:
    """Whether the newest state is of a run that this very torchrun has started before."""
    path, _ = _newest(folder)
    if path is None:
        return False
    record = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    return record.get("launch") == distributed.launch()


def _newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole state, if any, and what is wrong with newer ones."""
    passed_over: list[str] = []
    for path in reversed(_states(folder)):
        if not (problem := find_damage(path)):
            return path, passed_over
        passed_over.append(f"{path}: {problem}; passed over")
    return None, passed_over


def _states(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def _digest(tokenizer: Tokenizer) -> str:
    return hashlib.sha256(tokenizer.model).hexdigest()


class SavedState:
    """The newest whole state that `save_state` wrote.

    `damaged` says what is wrong with newer ones. CheckpointError when there is none, or when it
    is of a run with another tokenizer, other settings or other `data`; with `force`, the last two
    are taken for this run's.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        tokenizer: Tokenizer,
        data: str,
        *,
        force: bool = False,
        ranks: int = 1,
    ) -> None:
        path, self.damaged = _newest(folder)
        if path is None:
            found = "; ".join(self.damaged) or "nothing there"
            raise CheckpointError(
                f"{folder}: no state to resume from ({found}); start without --resume"
            )
        try:
            record = json.loads((path / "progress.json").read_text(encoding="utf-8"))
            self._tensors = load_file(path / "state.safetensors")
            self.progress = Progress(**record["progress"])
            self.average_updates, self.scaler = record["average_updates"], record["scaler"]
            settings, seen, pieces = record["config"], record["data"], record["tokenizer"]
            settings["ranks"]  # of states before these, which number what the optimiser holds
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not a state of this version ({error})") from None
        present = to_dict(config) | {"ranks": ranks}
        changed = [key for key in _differences(settings, present) if key not in HARMLESS]
        if changed and not force:
            raise CheckpointError(
                f"{path}: this run had other settings ({', '.join(changed)}); resume with its"
                " own or with --force, or start a run with another train.output"
            )
        if seen != data and not force:
            raise CheckpointError(
                f"{path}: the images or texts of {config.data.roots} have changed since this run"
                " began; restore them, --force it, or start a run with another train.output"
            )
        # One is trained anew from the captions at every start; other ids would spoil the weights.
        if pieces != _digest(tokenizer):
            raise CheckpointError(
                f"{path}: its tokenizer was trained on other captions than those of"
                f" {config.data.roots}; restore them, or start a run with another train.output"
            )

    def restore_model(self, model: nn.Module, average: MovingAverage) -> None:
        """Put the weights and their moving average back."""
        model.load_state_dict(self._part("model."))
        for key, value in self._part("average.").items():
            average.state[key].copy_(value)
        average.updates = self.average_updates

    def restore_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the optimiser's state back; both as they were prepared."""
        distributed.load_optimizer_state(model, optimizer, self._part("optimizer."))

    def _part(self, prefix: str) -> dict[str, Tensor]:
        found = self._tensors.items()
        return {k.removeprefix(prefix): v for k, v in found if k.startswith(prefix)}


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {**old, **new}
        parts = (_differences(old.get(k), new.get(k), f"{where}.{k}".strip(".")) for k in keys)
        return [name for part in parts for name in part]
    return [] if old == new else [where]
