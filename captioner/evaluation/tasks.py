"""What is scored: rows of a data set, or those that a checkpoint's own training held out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from captioner.config import Config, load_config
from captioner.data import Example, Report, read_dataset
from captioner.data.example import has_file_name, normalize_split
from captioner.data.report import BAD_ROW
from captioner.errors import CheckpointError, DataError, SplitError

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULT_SPLIT, TRAIN_SPLIT = "val", "train"


@dataclass(frozen=True)
class EvaluationTask:
    """Rows of one kind, and the training rows that belong to them."""

    name: str
    rows: list[Example]
    train: list[Example] = field(default_factory=list)

    @property
    def has_questions(self) -> bool:
        """Whether the rows are questions."""
        return bool(self.rows[0].question)


def read_tasks(
    root: str, *, splits: Sequence[str] = (), open_images: bool = False, **options: Any
) -> tuple[list[EvaluationTask], Report]:
    """Return the captions and the questions of a data set, and what was wrong with it.

    Images and answers may be missing. Training rows are never those that are scored.

    Args:
        splits: Without any, it is val, or the only split that there is.
        open_images: Leave out, and report, rows that name no image file.
        options: Those of `read_dataset`.

    Raises:
        DataError: The data set cannot be read, or has no such rows.
    """
    options |= {"check_images": False, "require_answers": False}
    try:
        # What is asked of captions depends on all that are read: here as in training.
        made = [*(splits or [DEFAULT_SPLIT]), TRAIN_SPLIT] if options.get("questions") else splits
        table, report = read_dataset(root, splits=made or None, **options)
    except SplitError:
        table, report = read_dataset(root, splits=splits or None, **options)
    rows = examples(table)
    counts = Counter(row.split for row in rows)
    wanted = set(map(normalize_split, splits or counts))
    if not splits and len(counts) > 1:
        wanted = {DEFAULT_SPLIT}
        if DEFAULT_SPLIT not in counts:
            there = ", ".join(f"{split} ({count})" for split, count in counts.items())
            raise DataError(f"{root}: has the splits {there}; choose with --split")
    chosen = [row for row in rows if row.split in wanted]
    if not chosen:
        raise DataError(f"{root}: no question can be made of its captions")
    if open_images:
        chosen = _with_files(chosen, report, root)
    train: list[Example] = []
    if TRAIN_SPLIT not in wanted and any(row.question for row in chosen):
        if TRAIN_SPLIT not in counts and splits:
            with contextlib.suppress(DataError):
                rows = examples(read_dataset(root, splits=[TRAIN_SPLIT], **options)[0])
        train = [row for row in rows if row.split == TRAIN_SPLIT]
    captions = EvaluationTask("captions", [row for row in chosen if not row.question])
    questions = EvaluationTask("questions", [row for row in chosen if row.question], train)
    return [task for task in (captions, questions) if task.rows], report


def read_held_out(
    config: Config, *, only: str | None = None
) -> tuple[list[EvaluationTask], Report]:
    """The validation rows of a run's configuration, by task, however few of them the run used.

    `only` is the name of one task. Raises DataError where there is none of that name, and what
    the run would.
    """
    from captioner.data.splits import read_rows

    settings = dataclasses.replace(config.train, eval_images=None)
    tasks, train, val, report = read_rows(dataclasses.replace(config, train=settings))
    names = [task.name for task in tasks]
    if only is not None and only not in names:
        raise DataError(f"no task is called {only!r}; there are {', '.join(names)}")
    found = []
    for number, name in enumerate(names):
        if only in (None, name):
            parts = (_of_source(rows, number) for rows in (val, train))
            found.append(EvaluationTask(name, *parts))
    found = [task for task in found if task.rows]
    if not found:
        raise DataError(f"no row of {', '.join(names)} is held out")
    return found, report


def check_blind(blind: str, config: Config, *, held_out: bool) -> None:
    """Raise CheckpointError where a checkpoint is no blind control of another's configuration."""
    theirs = checkpoint_config(blind)
    if not theirs.model.blind:
        raise CheckpointError(
            f"{blind}: this model sees the images; as the blind control, give one that was"
            " trained with model.blind=true"
        )
    if held_out and theirs.data.seed != config.data.seed:
        raise CheckpointError(
            f"{blind}: its training held out other rows (data.seed={theirs.data.seed}, not"
            f" {config.data.seed}); as the blind control, give one of the same seed"
        )


def checkpoint_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """A checkpoint's configuration with `key.path=value` words applied."""
    # Imported here so that scoring a file costs no torch.
    from captioner.checkpoint import resolve_checkpoint

    return load_config(resolve_checkpoint(name) / "config.yaml", overrides)


def examples(rows: Dataset) -> list[Example]:
    """A table's rows."""
    names = [setting.name for setting in dataclasses.fields(Example)]
    table = rows.select_columns(names).to_dict()
    table["references"] = map(tuple, table["references"])
    return [Example(*values) for values in zip(*(table[name] for name in names), strict=True)]


def _with_files(rows: Sequence[Example], report: Report, root: str) -> list[Example]:
    """Return the rows that name an image file, and report the others."""
    for row in rows:
        if not has_file_name(row.image):
            report.add(BAD_ROW, PurePath(row.image).name)
    kept = [row for row in rows if has_file_name(row.image)]
    if not kept:
        problem = str(report.problems[BAD_ROW])
        raise DataError(f"{root}: no image to open: {BAD_ROW}: {problem}")
    return kept


def _of_source(rows: Dataset, number: int) -> list[Example]:
    return examples(rows.select([i for i, s in enumerate(rows["source"]) if s == number]))
