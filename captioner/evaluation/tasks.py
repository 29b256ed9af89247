"""The rows that are scored: those of a data set, or those held out from a checkpoint's training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

from captioner.checkpoint import CONFIG, resolve_checkpoint
from captioner.checkpoint.folder_format import RUN_CONFIG, checkpoint_format
from captioner.config import Config, load_config
from captioner.data import Example, Report
from captioner.data.example import has_file_name, normalize_split
from captioner.data.example_rows import read_rows
from captioner.data.report import BAD_ROW
from captioner.errors import CheckpointError, DataError, SplitError

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULT_SPLIT, TRAIN_SPLIT = "val", "train"


@dataclass(frozen=True)
class EvaluationTask:
    """Either captions or questions of a data set."""

    name: str
    rows: list[Example]
    """The rows that are scored."""
    train: list[Example] = field(default_factory=list)
    """Training rows, for the majority baseline."""

    @property
    def has_questions(self) -> bool:
        """True if the rows are questions and not captions."""
        return bool(self.rows[0].question)


def read_tasks(
    root: str,
    *,
    format: str = "auto",
    splits: Sequence[str] = (),
    images: str | None = None,
    questions: bool = False,
    seed: int = 0,
    open_images: bool = False,
) -> tuple[list[EvaluationTask], Report]:
    """Read the captions and the questions of a data set.

    Images and answers may be missing. Without `splits`, val is scored, or the only split. With
    `open_images`, rows that name no image file are left out and reported.

    Raises:
        DataError: The data set cannot be read, or has no such rows.
    """
    source = partial(read_rows, root, format=format, images=images, questions=questions, seed=seed)
    read = partial(source, check_images=False, require_answers=False)
    try:
        # As in training, the questions that are made from captions depend on all captions read.
        needed = [*(splits or [DEFAULT_SPLIT]), TRAIN_SPLIT] if questions else splits
        rows, report = read(splits=needed or None)
    except SplitError:
        rows, report = read(splits=splits or None)
    counts = Counter(row.split for row in rows)
    chosen = _choose_splits(root, splits, counts)
    scored = [row for row in rows if row.split in chosen]
    if not scored:
        raise DataError(f"{root}: no question can be made from its captions")
    if open_images:
        scored = _with_image_files(scored, report, root)
    train: list[Example] = []
    if TRAIN_SPLIT not in chosen and any(row.question for row in scored):
        if TRAIN_SPLIT not in counts and splits:
            with contextlib.suppress(DataError):
                rows, _ = read(splits=[TRAIN_SPLIT])
        train = [row for row in rows if row.split == TRAIN_SPLIT]
    captions = [row for row in scored if row.kind == "captions"]
    asked = [row for row in scored if row.kind == "questions"]
    tasks = [EvaluationTask("captions", captions), EvaluationTask("questions", asked, train)]
    tasks = [task for task in tasks if task.rows]
    if not tasks:
        raise DataError(f"{root}: has tags, which are not scored; expected captions or questions")
    return tasks, report


def read_held_out(
    config: Config, *, only: str | None = None
) -> tuple[list[EvaluationTask], Report]:
    """Read all validation rows of a run, by task, without the limits of `eval_images`.

    Raises:
        DataError: The data cannot be read, no task has the name `only`, or no row is held out.
    """
    from captioner.data.splits import read_splits

    sources, train, val, report = read_splits(config, all_validation_rows=True)
    names = [source.name for source in sources]
    if only is not None and only not in names:
        raise DataError(f"no task is named {only!r}; expected one of {', '.join(names)}")
    tasks = [
        EvaluationTask(name, examples_of_source(val, number), examples_of_source(train, number))
        for number, name in enumerate(names)
        if only in (None, name) and sources[number].kind != "tags"
    ]
    tasks = [task for task in tasks if task.rows]
    if not tasks:
        raise DataError(f"{', '.join(names)}: no row is held out from training")
    return tasks, report


def check_blind(blind: str, config: Config, *, held_out: bool) -> None:
    """Raise CheckpointError unless a checkpoint is a blind baseline of a configuration."""
    theirs = checkpoint_config(blind)
    hint = "for the blind baseline, give a checkpoint"
    if not theirs.model.blind:
        problem = "this model uses the images"
        raise CheckpointError(f"{blind}: {problem}; {hint} that was trained with model.blind=true")
    seed, needed = theirs.data.seed, config.data.seed
    if held_out and seed != needed:
        problem = f"other rows were held out from its training (data.seed={seed}, not {needed})"
        raise CheckpointError(f"{blind}: {problem}; {hint} with that seed")


def checkpoint_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a checkpoint, with `key.path=value` overrides applied.

    That of a transformers model which was not trained by this package has the defaults.
    """
    folder = resolve_checkpoint(name)
    if (folder / RUN_CONFIG).is_file():
        return load_config(folder / RUN_CONFIG, overrides)
    is_own = checkpoint_format(folder) == "captioner"
    return load_config(folder / CONFIG if is_own else None, overrides)


def to_examples(rows: Dataset) -> list[Example]:
    """Return the rows of a table as examples."""
    names = [column.name for column in dataclasses.fields(Example)]
    table = rows.select_columns(names).to_dict()
    table["references"] = map(tuple, table["references"])
    table["weights"] = map(tuple, table["weights"])
    table["tags"] = (None if tags is None else tuple(tags) for tags in table["tags"])
    return [Example(*values) for values in zip(*(table[name] for name in names), strict=True)]


def _choose_splits(root: str, splits: Sequence[str], counts: Counter[str]) -> set[str]:
    """Return the splits to score: those given, the only one, or val."""
    if splits or len(counts) < 2:
        return set(map(normalize_split, splits or counts))
    if DEFAULT_SPLIT not in counts:
        names = ", ".join(f"{split} ({count})" for split, count in counts.items())
        raise DataError(f"{root}: has the splits {names}; choose with --split")
    return {DEFAULT_SPLIT}


def _with_image_files(rows: Iterable[Example], report: Report, root: str) -> list[Example]:
    """Return the rows that name an image file, and report the others."""
    kept = []
    for row in rows:
        if has_file_name(row.image):
            kept.append(row)
        else:
            report.add(BAD_ROW, PurePath(row.image).name)
    if not kept:
        problem = str(report.problems[BAD_ROW])
        raise DataError(f"{root}: no row names an image file: {BAD_ROW}: {problem}")
    return kept


def examples_of_source(rows: Dataset, number: int) -> list[Example]:
    """Return the rows of one task of a table with the column `source`."""
    return to_examples(rows.select([i for i, s in enumerate(rows["source"]) if s == number]))
