"""The state that a run resumes from.

`states/` in the folder of a run holds the last few states. Each is a folder with
`state.safetensors` (weights, moving average and optimizer; whole tensors, however the ranks share
them) and `progress.json`. The folders' names sort by time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import ItemsView, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from captioner.checkpoint.weights import save_tensors, tensor_bytes
from captioner.config import Config, TrainConfig, to_dict
from captioner.config.parsing import parse_value
from captioner.errors import CheckpointError, ConfigError
from captioner.files import find_damage, replace_folder
from captioner.training import distributed
from captioner.training.ema import MovingAverage
from captioner.training.public_model import CaptionTokenizer

TENSORS, RECORD = "state.safetensors", "progress.json"
HARMLESS = {
    "data.cache_gb",
    "data.workers",
    "train.cache",
    "train.keep",
    "train.save_every",
    "train.tracker",
}
"""Settings that do not change the result of a run."""


@dataclass
class Progress:
    """The position of a run."""

    stage: int = 0
    epoch: int = 0
    """Finished epochs of the stage."""
    batch: int = 0
    """Finished batches of the epoch that follows."""
    step: int = 0
    """Optimizer steps of the whole run."""
    best: float = float("-inf")
    """Score of the result of the stage so far, -inf if it has none on the tasks of the stage."""
    results: dict[str, str] = field(default_factory=dict)
    """By stage: its result so far, a folder relative to that of the run."""
    kept: dict[str, dict[str, float]] = field(default_factory=dict)
    """By stage: the names of the checkpoints of epochs that it keeps, with their scores."""
    stale: int = 0
    """Validations since the score last improved, or since the stage began."""
    sums: dict[str, list[float]] = field(default_factory=dict)
    """In the unfinished epoch: the sum and the number of the values of each logged quantity."""

    @property
    def name(self) -> str:
        """Name of the state's folder; later ones sort after earlier ones."""
        return f"{self.stage:02}-{self.epoch:04}-{self.batch:07}"


def is_stage_finished(progress: Progress, settings: TrainConfig) -> bool:
    """Return whether the stage of a saved state has no epoch left."""
    if progress.batch:
        return False
    epochs = settings.stages[progress.stage].epochs
    return progress.epoch >= epochs or progress.stale >= settings.patience


def is_complete(progress: Progress, settings: TrainConfig, report: Path) -> bool:
    """Return whether a run has no step left and has written its report, which it does last."""
    last = progress.stage == len(settings.stages) - 1
    return last and is_stage_finished(progress, settings) and report.is_file()


def gather_state(
    model: nn.Module, average: MovingAverage, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, Tensor]:
    """Return the tensors that a resumed run needs (all ranks must call this), {} without `keep`."""
    parts: dict[str, Iterable[tuple[str, Tensor]]] = {
        "model": model.state_dict().items(),
        "average": average.state.items(),
        "optimizer": distributed.optimizer_state(model, optimizer),
    }
    state = {}
    for part, tensors in parts.items():
        for name, tensor in tensors:
            tensor = distributed.gather_tensor(tensor.detach())
            if keep:
                state[f"{part}.{name}"] = tensor.cpu().contiguous().clone()
    return state


def save_state(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    config: Config,
    tokenizer: CaptionTokenizer,
    data: str,
    answers: Sequence[tuple[int, ...]] = (),
    progress: Progress,
    average: MovingAverage,
    scaler: Mapping[str, Any] | None = None,
    ranks: int = 1,
) -> None:
    """Add a state to a folder of states; then remove all but the newest `train.keep` ones.

    `tensors` is the result of `gather_state`, `data` a digest of the rows, `answers` the classes of
    questions, `scaler` the state of the gradient scaler. Raises CheckpointError if the state cannot
    be written.
    """
    record = {
        "progress": dataclasses.asdict(progress),
        "average_updates": average.updates,
        "scaler": scaler,
        **_identify(config, tokenizer, data, ranks, answers),
        "launch": distributed.launch_id(),
    }
    with replace_folder(folder / progress.name, tensor_bytes(tensors)) as partial:
        save_tensors(tensors, partial / TENSORS)
        text = json.dumps(record, indent=2) + "\n"
        (partial / RECORD).write_text(text, encoding="utf-8")
    for old in _list_states(folder)[: -config.train.keep]:
        shutil.rmtree(old, ignore_errors=True)


def set_aside(folder: Path) -> None:
    """Rename the states of an earlier run, so that a new run can begin; keep one such run."""
    if _list_states(folder):
        other = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(other, ignore_errors=True)
        folder.rename(other)


def is_of_this_launch(folder: Path) -> bool:
    """Return whether the newest state was saved under the torchrun that started this process."""
    path, _ = _find_newest(folder)
    if path is None:
        return False
    record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    return bool(record.get("launch") == distributed.launch_id())


def _find_newest(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest intact state, if there is one, and messages about damaged newer ones."""
    damaged: list[str] = []
    for path in reversed(_list_states(folder)):
        if not (problem := find_damage(path)):
            return path, damaged
        damaged.append(f"{path}: {problem}; skipped")
    return None, damaged


def _list_states(folder: Path) -> list[Path]:
    """Return the states, oldest first."""
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def _identify(
    config: Config,
    tokenizer: CaptionTokenizer,
    data: str,
    ranks: int,
    answers: Sequence[tuple[int, ...]],
) -> dict[str, Any]:
    """Return the part of a record that must be the same when a run resumes."""
    settings = to_dict(config) | {"ranks": ranks}
    digest = hashlib.sha256(tokenizer.model).hexdigest()
    classes = hashlib.sha256(repr(answers).encode()).hexdigest() if answers else None
    return {"config": settings, "tokenizer": digest, "data": data, "answers": classes}


class SavedState:
    """The newest intact state in a folder of states.

    It must be of a run with the same tokenizer, configuration, `data` (a digest of the rows),
    `answers` of a classifier and number of ranks; with `force`, settings and data may differ.
    Raises CheckpointError otherwise.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        tokenizer: CaptionTokenizer,
        data: str,
        *,
        answers: Sequence[tuple[int, ...]] = (),
        force: bool = False,
        ranks: int = 1,
    ) -> None:
        path, self.damaged = _find_newest(folder)
        """Messages about newer states that are damaged."""
        if path is None:
            reason = "; ".join(self.damaged) or "nothing there"
            raise CheckpointError(
                f"{folder}: no state to resume from ({reason}); start without --resume"
            )
        try:
            record = json.loads((path / RECORD).read_text(encoding="utf-8"))
            self._tensors = load_file(path / TENSORS)
            self.progress = Progress(**record["progress"])
            self.average_updates: int = record["average_updates"]
            self.scaler: dict[str, Any] | None = record["scaler"]
            present = _identify(config, tokenizer, data, ranks, answers)
            _check_record(record, present, path, config.data.roots, force=force)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"{path}: not a state of this version ({error}); finish the run with the version"
                " that began it, or start without --resume"
            ) from None

    def restore_model(self, model: nn.Module, average: MovingAverage) -> None:
        """Load the weights and their moving average."""
        model.load_state_dict(self._select("model."))
        for key, value in self._select("average.").items():
            average.state[key].copy_(value)
        average.updates = self.average_updates

    def restore_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Load the state of the optimizer; both must be prepared for the ranks."""
        distributed.load_optimizer_state(model, optimizer, self._select("optimizer."))

    def _select(self, prefix: str) -> dict[str, Tensor]:
        tensors: ItemsView[str, Tensor] = self._tensors.items()
        return {k.removeprefix(prefix): v for k, v in tensors if k.startswith(prefix)}


def _check_record(
    record: Mapping[str, Any], present: Mapping[str, Any], path: Path, roots: str, *, force: bool
) -> None:
    """Raise CheckpointError if a run cannot resume from a state with this record."""
    record["progress"]["results"]  # missing in states of earlier versions
    differences = _differences(_complete(record["config"]), present["config"])
    changed = [key for key in differences if key not in HARMLESS]
    other_start = _compare_starts(record, present)
    if changed and not force:
        also = f"; {other_start}" if other_start else ""
        raise CheckpointError(
            f"{path}: this run had other settings ({', '.join(changed)}){also}; resume with its"
            " own or with --force, or start a run with another train.output"
        )
    if record["data"] != present["data"] and not force:
        raise CheckpointError(
            f"{path}: the images or texts of {roots} have changed since this run began; restore"
            " them, --force it, or start a run with another train.output"
        )
    # A tokenizer is trained on the captions at every start. With other token ids, the weights
    # would be useless.
    if record["tokenizer"] != present["tokenizer"]:
        if other_start:
            problem = f"{other_start}, and their tokenizers differ; resume with its own"
        elif start := present["config"]["train"]["start"]:
            problem = f"the tokenizer of {start} has changed since this run began; restore it"
        else:
            problem = f"its tokenizer was trained on other captions than those of {roots}; restore"
            problem += " them"
        raise CheckpointError(f"{path}: {problem}, or start a run with another train.output")
    if record.get("answers") != present.get("answers"):
        raise CheckpointError(
            f"{path}: its classes are other answers than the frequent ones of {roots}; restore"
            " them, or start a run with another train.output"
        )


def _compare_starts(record: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """Return which checkpoints two runs began from, as given; empty if they are the same."""
    first, second = (values["config"]["train"].get("start") for values in (record, present))
    if first == second:
        return ""
    return f"it began from {first or 'new weights'}, not from {second or 'new weights'}"


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """Return recorded settings, with the defaults of those that were added later."""
    settings = {key: value for key, value in config.items() if key != "ranks"}
    try:
        return config | to_dict(parse_value(Config, settings))
    except ConfigError:  # a setting was removed later: the comparison names it
        return config


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Return the dotted keys whose values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {**old, **new}
        parts = (_differences(old.get(k), new.get(k), f"{where}.{k}".strip(".")) for k in keys)
        return [name for part in parts for name in part]
    return [] if old == new else [where]
