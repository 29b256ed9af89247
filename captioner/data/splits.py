"""The training and validation rows of a run, from the data sets of its configuration."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.config import Config, SourceConfig
from captioner.data import Report, normalize_question, read_dataset
from captioner.data.duplicates import group_equal_files
from captioner.data.example import RowKind, kind_of, normalize_split
from captioner.data.table import hide_progress_bars
from captioner.errors import ConfigError, DataError, SplitError

if TYPE_CHECKING:
    from datasets import Dataset

LEAKED = "validation image that is byte-identical to a training image (not a test of new images)"
ASKED_BEFORE = "held-out question that training asks about the same image: left out"

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
        train_part, val_part, problems = _read_source(source, key, config.data.seed)
        if not all_validation_rows:
            val_part = _limit_validation(val_part, source, key, config, problems)
        report.merge(problems)
        name = str(source.root)
        report.parts[f"{name} ({key})" if name in report.parts else name] = problems
        rows = train_part, val_part
        kinds = [list(map(kind_of, part["question"], part["tags"])) for part in rows]
        for task_kind in sorted({kind for part in kinds for kind in part}):
            for part, part_kinds, parts in zip(rows, kinds, (train, val), strict=True):
                places = [i for i, kind in enumerate(part_kinds) if kind == task_kind]
                with hide_progress_bars():
                    numbers = [len(tasks)] * len(places)
                    parts.append(part.select(places).add_column("source", numbers))
            tasks.append(Task(_name_task(source, task_kind, tasks), source, task_kind))
    train_rows, val_rows = concatenate_datasets(train), concatenate_datasets(val)
    _report_leaks(set(train_rows["image"]), set(val_rows["image"]), report)
    return tasks, train_rows, val_rows, report


def _report_leaks(train: set[str], val: set[str], report: Report) -> None:
    """Report validation images that are training images under another name."""
    for group in group_equal_files([*train, *val]):
        trained = [path for path in group if path in train]
        for path in group if trained else ():
            if path in val and path not in train:
                report.add(LEAKED, f"{Path(path).name} = {Path(trained[0]).name}")


def _name_task(source: SourceConfig, kind: RowKind, others: list[Task]) -> str:
    """Return the name of a task: that of its folder or file, with a number if it is taken."""
    is_made = {"questions": source.questions, "captions": source.captions}.get(kind)
    base = Path(str(source.root)).stem + (f" {kind}" if is_made else "")
    taken = {task.name for task in others}
    names = (f"{base} {number}" if number > 1 else base for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def _read_source(source: SourceConfig, key: str, seed: int) -> tuple[Dataset, Dataset, Report]:
    """Return the training rows, the validation rows and the problems of one data set.

    `key` is that of the data set in the configuration, for messages.
    """
    if source.root is None:
        raise ConfigError(f"{key}.root is not set; add {key}.root=PATH to the command")
    train, val, problems = _split(source, seed)
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


def _split(source: SourceConfig, seed: int) -> tuple[Dataset, Dataset, Report]:
    """Return training rows, validation rows and problems; hold out rows if there is no split."""
    read = partial(
        read_dataset,
        str(source.root),
        format=source.format,
        images=source.images,
        phrases=source.phrases,
        questions=source.questions,
        captions=source.captions,
        seed=seed,
    )
    try:
        # Both splits in one pass, so that the files are parsed and their problems counted once.
        rows, problems = read(splits=(*source.train_splits, *source.val_splits))
        train = _select_splits(rows, source.train_splits)
        return train, _select_splits(rows, source.val_splits), problems
    except SplitError as error:
        if source.val_splits != SourceConfig().val_splits:
            raise  # the user has named the split
        rows, problems = read(splits=source.train_splits)
        try:
            train, val = hold_out(rows, source, seed, error, problems)
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
        f"{source.root}: holds {content} ({Path(images[0]).name}); training needs at least two"
        " different ones, one of them for validation; add images, or validate on the same with"
        f" data.val_splits=[{source.train_splits[0]}]"
    )


def _limit(rows: Dataset, limit: int | None, setting: str, split: str, report: Report) -> Dataset:
    """Return the rows of the first `limit` images, and report the others."""
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
    return rows.select([i for i, split in enumerate(rows["split"]) if split in wanted])


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
    pairs = zip(rows["image_id"], rows["question_id"], strict=True)
    keys = [(single and question_id) or image_id for image_id, question_id in pairs]
    if not single:
        keys = _join_equal_images(rows, keys)
    drawn = {key: _uniform(f"{seed} {key}") for key in keys}
    # Both parts get at least one row, even if there are only a few rows.
    lowest, highest = min(drawn, key=drawn.__getitem__), max(drawn, key=drawn.__getitem__)
    held = [key == lowest or (drawn[key] < source.val_share and key != highest) for key in keys]
    train, val = (
        rows.select([i for i, is_held in enumerate(held) if is_held == wanted])
        for wanted in (False, True)
    )
    # A data set may ask the same question about an image twice.
    trained = set(_image_questions(train))
    new = [not q or (image, q) not in trained for image, q in _image_questions(val)]
    for name, is_new in zip(val["question_id"], new, strict=True):
        if report is not None and not is_new:
            report.add(ASKED_BEFORE, name)
    val = val.select([i for i, is_new in enumerate(new) if is_new])
    if not len(train) or not len(val):
        raise error
    return train, val


def _join_equal_images(rows: Dataset, keys: list[str]) -> list[str]:
    """Return the keys, with one key for all images whose files have equal bytes."""
    key_of = dict(zip(rows["image"], keys, strict=True))
    groups = group_equal_files(key_of)
    same = {path: min(key_of[p] for p in group) for group in groups for path in group}
    return [same.get(path, key) for path, key in zip(rows["image"], keys, strict=True)]


def _uniform(key: str) -> float:
    """Return a number in [0, 1) that depends on the key only."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _image_questions(rows: Dataset) -> Iterator[tuple[str, str]]:
    """Return the image and the normalized question of each row."""
    return zip(rows["image"], map(normalize_question, rows["question"]), strict=True)


def frequent_tags(rows: Dataset) -> dict[int, list[str]]:
    """Return the tags of at least `MIN_TAG_IMAGES` images, for each source of tags."""
    counts: dict[int, Counter[str]] = {}
    for source, tags in zip(rows["source"], rows["tags"], strict=True):
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
        for row in rows:
            path = Path(row["image"])
            size = path.stat().st_size if path.exists() else None
            known = {key: value for key, value in row.items() if key not in ("rows", "audio")}
            digest.update(repr((known | {"image": path.name}, size)).encode())
            if row["audio"]:
                digest.update(Path(row["audio"]).name.encode())
    return digest.hexdigest()
