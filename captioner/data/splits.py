"""The training and validation rows of a run, from the data sets of its configuration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from captioner.config import Config, DataConfig, SourceConfig
from captioner.data import Report, read_dataset
from captioner.data.columns import arrow_column, iterate_columns, unique_texts
from captioner.data.duplicates import group_equal_files, report_leaks
from captioner.data.example import RowKind, normalize_split
from captioner.data.formats.hf_dataset_names import is_dataset_name, parse_dataset_name
from captioner.data.held_out_rows import hold_out
from captioner.data.table import copy_rows
from captioner.errors import ConfigError, DataError, SplitError
from captioner.sources import file_name

if TYPE_CHECKING:
    from datasets import Dataset

_KINDS = tuple(sorted(get_args(RowKind)))


@dataclass(frozen=True)
class Task:
    """The task of a data set: captioning, question answering or the prediction of tags."""

    name: str
    source: SourceConfig
    kind: RowKind


def read_splits(
    config: Config, *, all_validation_rows: bool = False
) -> tuple[list[Task], Dataset, Dataset, Report]:
    """Return the tasks, the training rows, the validation rows and a report of unused rows.

    The column `source` is the index of a row's task. Each kind of rows of a data set makes a
    task. With `all_validation_rows`, `eval_images` has no effect. Raises ConfigError if no data set
    is named, DataError if one cannot be read or is too small.
    """
    from datasets import concatenate_datasets

    report = Report()
    tasks: list[Task] = []
    train: list[Dataset] = []
    val: list[Dataset] = []
    for number, source in enumerate(config.data.all_sources):
        key = f"data.sources.{number}" if config.data.sources else "data"
        # In a function of its own, so that the mapped files of the whole data set are closed.
        problems = _read_tasks(source, key, config, tasks, (train, val), all_validation_rows)
        report.merge(problems)
        name = str(source.root)
        report.parts[f"{name} ({key})" if name in report.parts else name] = problems
    train_rows, val_rows = concatenate_datasets(train), concatenate_datasets(val)
    report_leaks(train_rows, val_rows, report)
    return tasks, train_rows, val_rows, report


def _read_tasks(
    source: SourceConfig,
    key: str,
    config: Config,
    tasks: list[Task],
    tables: tuple[list[Dataset], list[Dataset]],
    all_validation_rows: bool,
) -> Report:
    """Add the tasks of a data set, and their rows to both tables; return its problems."""
    train, val, problems = _read_source(source, key, config.data)
    if not all_validation_rows:
        val = _limit_validation(val, source, key, config, problems)
    codes = [_list_kinds(part) for part in (train, val)]
    for code, task_kind in enumerate(_KINDS):
        if not any((part_codes == code).any() for part_codes in codes):
            continue
        for part, part_codes, parts in zip((train, val), codes, tables, strict=True):
            chosen = part.select(np.flatnonzero(part_codes == code))
            parts.append(copy_rows(chosen, source=len(tasks)))
        tasks.append(Task(_name_task(source, task_kind, tasks), source, task_kind))
    return problems


def _list_kinds(rows: Dataset) -> NDArray[np.int8]:
    """Return the place in `_KINDS` of the kind of each row (N,)."""
    import pyarrow.compute as pc

    has_tags = pc.is_valid(arrow_column(rows, "tags")).to_numpy()
    has_question = pc.not_equal(arrow_column(rows, "question"), "").to_numpy()
    codes = np.full(len(rows), _KINDS.index("captions"), np.int8)
    codes[has_question] = _KINDS.index("questions")
    codes[has_tags] = _KINDS.index("tags")
    return codes


def _name_task(source: SourceConfig, kind: RowKind, others: list[Task]) -> str:
    """Return the name of a task: that of its folder or file, with a number if it is taken."""
    is_made = {"questions": source.questions, "captions": source.captions}.get(kind)
    base = _title(str(source.root)) + (f" {kind}" if is_made else "")
    taken = {task.name for task in others}
    names = (f"{base} {number}" if number > 1 else base for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def _title(root: str) -> str:
    """Return the name of a data set without its folder or user."""
    if is_dataset_name(root):
        return parse_dataset_name(root).repository.rpartition("/")[2]
    return Path(root).stem


def _read_source(
    source: SourceConfig, key: str, data: DataConfig
) -> tuple[Dataset, Dataset, Report]:
    """Return the training rows, the validation rows and the problems of one data set.

    `key` is that of the data set in the configuration, for messages.
    """
    if source.root is None:
        raise ConfigError(f"{key}.root is not set; add {key}.root=PATH to the command")
    train, val, problems = _split(source, data)
    train = _limit(train, source.limit, f"{key}.limit", "train", problems)
    val = _limit(val, source.limit, f"{key}.limit", "val", problems)
    return train, val, problems


def _limit_validation(
    rows: Dataset, source: SourceConfig, key: str, config: Config, report: Report
) -> Dataset:
    """Return the rows of the first `eval_images` images, and report the others."""
    if source.eval_images is not None:
        return _limit(rows, source.eval_images, f"{key}.eval_images", "val", report)
    return _limit(rows, config.train.eval_images, "train.eval_images", "val", report)


def _split(source: SourceConfig, data: DataConfig) -> tuple[Dataset, Dataset, Report]:
    """Return training rows, validation rows and problems; hold out rows if there is no split."""
    read = partial(
        read_dataset,
        str(source.root),
        format=source.format,
        images=source.images,
        phrases=source.phrases,
        questions=source.questions,
        captions=source.captions,
        seed=data.seed,
        cache_gb=data.cache_gb,
    )
    is_default = source.val_splits == SourceConfig().val_splits  # the user has named no split
    rows, problems = read(
        splits=(*source.train_splits, *source.val_splits),
        optional_splits=source.val_splits if is_default else (),
    )
    train = _select_splits(rows, source.train_splits)
    if not problems.missing_splits:
        return train, _select_splits(rows, source.val_splits), problems
    error = SplitError(f"{source.root}: has no split {', '.join(problems.missing_splits)}")
    try:
        train, val = hold_out(train, source, data.seed, error, problems)
    except SplitError:
        raise _explain_too_few(source, rows) or error from None
    kind = f"held out for validation, which {source.root} has no split for"
    key = "question_id" if source.hold_out == "question" else "image_id"
    for name in dict.fromkeys(val[key]):
        problems.add(kind, name)
    return train, val, problems


def _explain_too_few(source: SourceConfig, rows: Dataset) -> DataError | None:
    """Return the error for a data set that is too small to hold out a part of it."""
    images = list(dict.fromkeys(rows["image"]))
    if source.hold_out == "question" and len(rows) > 1:
        return None
    equal = len(images) > 1 and any(len(g) == len(images) for g in group_equal_files(images))
    if len(images) > 1 and not equal:
        return None
    content = f"{len(images)} images of equal bytes" if equal else "a single image"
    return DataError(
        f"{source.root}: holds {content} ({file_name(images[0])}); training needs at least two"
        " different ones, one of them for validation; add images, or validate on the same with"
        f" data.val_splits=[{source.train_splits[0]}]"
    )


def _limit(rows: Dataset, limit: int | None, setting: str, split: str, report: Report) -> Dataset:
    """Return the rows of the first `limit` images, and report the others."""
    if limit is None:
        return rows
    kept = first_images(rows, limit)
    images = _count_images(rows) - _count_images(kept)
    if images:
        report.add(f"rows beyond {setting}={limit}", f"{images} images of {split}")
    return kept


def first_images(rows: Dataset, limit: int | None) -> Dataset:
    """Return the rows of the first `limit` images."""
    if limit is None:
        return rows
    wanted = set(itertools.islice(unique_texts(arrow_column(rows, "image")), limit))
    is_wanted = [image in wanted for (image,) in iterate_columns(rows, "image")]
    return rows.select(np.flatnonzero(is_wanted))


def _count_images(rows: Dataset) -> int:
    return len(unique_texts(arrow_column(rows, "image")))


def _select_splits(rows: Dataset, names: Sequence[str]) -> Dataset:
    wanted = {normalize_split(name) for name in names}
    splits = enumerate(iterate_columns(rows, "split"))
    return rows.select(np.array([i for i, (split,) in splits if split in wanted], np.int64))
