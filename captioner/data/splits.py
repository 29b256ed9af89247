"""The training and validation rows of a run, from the data sets of its configuration."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from captioner.config import Config, DataConfig, SourceConfig
from captioner.data import Report, normalize_question, read_dataset
from captioner.data.columns import TextColumn, arrow_column, iterate_columns, unique_texts
from captioner.data.duplicates import group_equal_files
from captioner.data.example import RowKind, normalize_split
from captioner.data.formats.hf_dataset_names import is_dataset_name, parse_dataset_name
from captioner.data.table import copy_rows
from captioner.errors import ConfigError, DataError, SplitError
from captioner.sources import file_name, parse_member

if TYPE_CHECKING:
    from datasets import Dataset

LEAKED = "validation image that is byte-identical to a training image (not a test of new images)"
ASKED_BEFORE = "held-out question that training asks about the same image: left out"

_KINDS = tuple(sorted(get_args(RowKind)))

MIN_TAG_IMAGES = 2
"""Training images that a tag needs; with fewer, it is not predicted."""


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
    _report_leaks(train_rows, val_rows, report)
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
    kinds = [_list_kinds(part) for part in (train, val)]
    for task_kind in [kind for kind in _KINDS if any(kind in part for part in kinds)]:
        for part, part_kinds, parts in zip((train, val), kinds, tables, strict=True):
            chosen = part.select(np.flatnonzero(part_kinds == task_kind))
            parts.append(copy_rows(chosen, source=len(tasks)))
        tasks.append(Task(_name_task(source, task_kind, tasks), source, task_kind))
    return problems


def _list_kinds(rows: Dataset) -> NDArray[np.str_]:
    """Return the kind of each row (N,)."""
    import pyarrow.compute as pc

    has_tags = pc.is_valid(arrow_column(rows, "tags")).to_numpy()
    has_question = pc.not_equal(arrow_column(rows, "question"), "").to_numpy()
    return np.where(has_tags, "tags", np.where(has_question, "questions", "captions"))


def _report_leaks(train: Dataset, val: Dataset, report: Report) -> None:
    """Report validation images that are training images under another name."""
    columns = arrow_column(train, "image"), arrow_column(val, "image")
    groups = group_equal_files(unique_texts(*columns))
    equal = {path for group in groups for path in group}
    trained, validated = (equal.intersection(TextColumn(column)) for column in columns)
    for group in groups:
        first = next((path for path in group if path in trained), None)
        for path in group if first is not None else ():
            if path in validated and path not in trained:
                report.add(LEAKED, f"{file_name(path)} = {file_name(first or '')}")


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
    images = len(set(rows["image"])) - len(set(kept["image"]))
    if images:
        report.add(f"rows beyond {setting}={limit}", f"{images} images of {split}")
    return kept


def first_images(rows: Dataset, limit: int | None) -> Dataset:
    """Return the rows of the first `limit` images."""
    if limit is None:
        return rows
    wanted = set(list(dict.fromkeys(rows["image"]))[:limit])
    return rows.select([i for i, image in enumerate(rows["image"]) if image in wanted])


def _select_splits(rows: Dataset, names: Sequence[str]) -> Dataset:
    wanted = {normalize_split(name) for name in names}
    splits = enumerate(iterate_columns(rows, "split"))
    return rows.select(np.array([i for i, (split,) in splits if split in wanted], np.int64))


def hold_out(
    rows: Dataset, source: SourceConfig, seed: int, error: DataError, report: Report | None = None
) -> tuple[Dataset, Dataset]:
    """Split rows into training rows and held-out rows.

    Rows of one image stay together, and so do images whose files have equal bytes. With
    `hold_out=question`, single questions are held out instead; those that training asks about the
    same image as well are left out. Only the id of a row and the seed determine if it is held out,
    so data sets over the same images are split alike; `val_share` is met on average. The report
    gets the questions that are left out; `error` is raised if one of the parts would be empty.
    """
    single = source.hold_out == "question"
    joined = {} if single else _join_equal_images(rows)
    keys = (
        (single and question_id) or joined.get(image, image_id)
        for image, image_id, question_id in iterate_columns(
            rows, "image", "image_id", "question_id"
        )
    )
    drawn = np.fromiter((_uniform(f"{seed} {key}") for key in keys), np.float64, len(rows))  # (N,)
    # Both parts get at least one row, even if there are only a few rows.
    held = (drawn < source.val_share) & (drawn != drawn.max()) | (drawn == drawn.min())
    train, val = (rows.select(np.flatnonzero(held == wanted)) for wanted in (False, True))
    # A data set may ask the same question about an image twice.
    trained = {pair for pair in _image_questions(train) if pair[1]}
    new = [pair not in trained for pair in _image_questions(val)]
    for (name,), is_new in zip(iterate_columns(val, "question_id"), new, strict=True):
        if report is not None and not is_new:
            report.add(ASKED_BEFORE, name)
    val = val.select(np.flatnonzero(new))
    if not len(train) or not len(val):
        raise error
    return train, val


def _join_equal_images(rows: Dataset) -> dict[str, str]:
    """Return one key for all images whose files have equal bytes, by path."""
    groups = group_equal_files(unique_texts(arrow_column(rows, "image")))
    equal = {path for group in groups for path in group}
    pairs = iterate_columns(rows, "image", "image_id")
    key_of = {path: key for path, key in pairs if path in equal}
    return {path: min(key_of[p] for p in group) for group in groups for path in group}


def _uniform(key: str) -> float:
    """Return a number in [0, 1) that depends on the key only."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _image_questions(rows: Dataset) -> Iterator[tuple[str, str]]:
    """Return the image and the normalized question, "" for captions, of each row."""
    for image, question in iterate_columns(rows, "image", "question"):
        yield image, question and normalize_question(question)


def frequent_tags(rows: Dataset) -> dict[int, list[str]]:
    """Return the tags of at least `MIN_TAG_IMAGES` images, for each source of tags."""
    counts: dict[int, Counter[str]] = {}
    for source, tags in iterate_columns(rows, "source", "tags"):
        if tags is not None:
            counts.setdefault(source, Counter()).update(tags)
    return {
        source: sorted(tag for tag, count in counter.items() if count >= MIN_TAG_IMAGES)
        for source, counter in counts.items()
    }


def digest_rows(*tables: Dataset) -> str:
    """Return a digest of all rows and of the sizes, but not the folders, of the image files."""
    digest = hashlib.sha256()
    for rows in tables:
        names = [name for name in rows.column_names if name not in ("rows", "audio")]
        for audio, *values in iterate_columns(rows, "audio", *names):
            row = dict(zip(names, values, strict=True))
            if not row.get("weights"):  # so that the digest of data without weights is the same
                row.pop("weights", None)
            content = _describe_content(row["image"])
            row["image"] = file_name(row["image"])
            digest.update(repr((row, content)).encode())
            if audio:
                digest.update(file_name(audio).encode())
    return digest.hexdigest()


def _describe_content(path: str) -> int | tuple[int, int] | None:
    """Return the size of a file, None if it is missing; of a member also its checksum."""
    if member := parse_member(path):
        return member.size, member.checksum
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):
        return None
