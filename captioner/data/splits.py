"""Data sets on disk to the rows of a run: training rows, validation rows and their account."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.config import Config, SourceConfig
from captioner.data import Report, normalize_question, read_dataset
from captioner.data.duplicates import group_equal_files
from captioner.data.example import normalize_split
from captioner.data.table import hide_progress_bars
from captioner.errors import ConfigError, DataError, SplitError

if TYPE_CHECKING:
    from datasets import Dataset

LEAKED = "validation image with the bytes of a training image (its score is not of a new image)"
ASKED_BEFORE = "held-out question that training asks of the same image, too: left out"


@dataclass(frozen=True)
class Task:
    """What is learnt from one data set: to caption its images, or to answer its questions."""

    name: str
    source: SourceConfig
    has_questions: bool


def read_rows(config: Config) -> tuple[list[Task], Dataset, Dataset, Report]:
    """The tasks, training rows, validation rows, and what was wrong with the files.

    The column `source` is a row's place among the tasks. A data set with both captions and
    questions makes two of them.
    """
    from datasets import concatenate_datasets

    report, tasks, train, val = Report(), [], [], []
    for source in config.data.all_sources:
        both = _read_source(source, config, report)
        kinds = [[bool(question) for question in rows["question"]] for rows in both]
        for asks in sorted({kind for found in kinds for kind in found}):
            for rows, found, parts in zip(both, kinds, (train, val), strict=True):
                chosen = rows.select([i for i, kind in enumerate(found) if kind == asks])
                with hide_progress_bars():
                    parts.append(chosen.add_column("source", [len(tasks)] * len(chosen)))
            tasks.append(Task(_name(source, asks, tasks), source, asks))
    both = concatenate_datasets(train), concatenate_datasets(val)
    _report_leaks(*both, report)
    return tasks, *both, report


def _report_leaks(train: Dataset, val: Dataset, report: Report) -> None:
    """Report validation images that are training images under another name."""
    learned, held = set(train["image"]), set(val["image"])
    for group in group_equal_files([*learned, *held]):
        sides = [[p for p in group if p in side] for side in (learned, held)]
        for path in sides[1] if sides[0] else ():
            if path not in learned:
                report.add(LEAKED, f"{Path(path).name} = {Path(sides[0][0]).name}")


def _name(source: SourceConfig, asks: bool, others: list[Task]) -> str:
    """What results call a task: the data set's folder, and its place where that was there."""
    base = Path(source.root).stem + (" questions" if asks and source.questions else "")
    taken = {task.name for task in others}
    names = (f"{base} {number}" if number > 1 else base for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def _read_source(source: SourceConfig, config: Config, report: Report) -> tuple[Dataset, Dataset]:
    """Training and validation rows of one data set."""
    if source.root is None:
        raise ConfigError("data.root is not set; add data.root=PATH to the command")
    seed = config.data.seed
    where = {"format": source.format, "images": source.images}
    where |= {"questions": source.questions, "seed": seed}
    try:
        # Both at once: the files are parsed, and what is wrong with them is counted, one time.
        both = (*source.train_splits, *source.val_splits)
        rows, problems = read_dataset(source.root, splits=both, **where)
        train, val = (_of_splits(rows, names) for names in (source.train_splits, source.val_splits))
    except SplitError as error:
        if source.val_splits != SourceConfig().val_splits:
            raise  # asked for by name
        rows, problems = read_dataset(source.root, splits=source.train_splits, **where)
        try:
            train, val = hold_out(rows, source, seed, error, problems)
        except SplitError:
            raise _too_few(source, rows) or error from None
        kind = f"held out for validation, which {source.root} has no split for"
        key = "question_id" if source.hold_out == "question" else "image_id"
        for name in dict.fromkeys(val[key]):
            problems.add(kind, name)
    train = _limited(train, source.limit, "data.limit", "train", problems)
    val = _limited(val, source.limit, "data.limit", "val", problems)
    val = _limited(val, config.train.eval_images, "train.eval_images", "val", problems)
    report.merge(problems)
    report.parts[source.root] = problems
    return train, val


def _too_few(source: SourceConfig, rows: Dataset) -> DataError | None:
    """Return what is wrong with a data set too small to hold anything out of it."""
    images = list(dict.fromkeys(rows["image"]))
    if source.hold_out == "question" and len(rows) > 1:
        return None
    equal = len(images) > 1 and any(
        len(group) == len(images) for group in group_equal_files(images)
    )
    if len(images) > 1 and not equal:
        return None
    what = f"{len(images)} images of equal bytes" if equal else "a single image"
    return DataError(
        f"{source.root}: holds {what} ({Path(images[0]).name}); training needs at least two"
        " different ones, one of them for validation; add images, or validate on the same with"
        f" data.val_splits=[{source.train_splits[0]}]"
    )


def _limited(rows: Dataset, limit: int | None, setting: str, split: str, report: Report) -> Dataset:
    """Return the rows of the first so many images, and report the others."""
    found = first_images(rows, limit)
    images = len(set(rows["image"])) - len(set(found["image"]))
    if images:
        report.add(f"rows beyond {setting}={limit}", f"{images} images of {split}")
    return found


def first_images(rows: Dataset, limit: int | None) -> Dataset:
    """The rows of the first so many images."""
    if limit is None:
        return rows
    wanted = set(list(dict.fromkeys(rows["image"]))[:limit])
    return rows.select([i for i, image in enumerate(rows["image"]) if image in wanted])


def _of_splits(rows: Dataset, names: tuple[str, ...]) -> Dataset:
    wanted = {normalize_split(name) for name in names}
    return rows.select([i for i, split in enumerate(rows["split"]) if split in wanted])


def hold_out(
    rows: Dataset,
    source: SourceConfig,
    seed: int,
    error: DataError,
    report: Report | None = None,
) -> tuple[Dataset, Dataset]:
    """Split the rows in two; raise `error` where either part would be empty.

    Rows of one image stay together, and so do images whose files have equal bytes, unless single
    questions are to be held out; of these, those that training asks of the same image as well are
    left out and reported. Each id is held out or not whatever the others are, so data sets over the
    same images are split alike, and `val_share` is met on average.
    """
    single = source.hold_out == "question"
    pairs = zip(rows["image_id"], rows["question_id"], strict=True)
    keys = [(single and question_id) or image_id for image_id, question_id in pairs]
    if not single:
        keys = _join_equal_images(rows, keys)
    drawn = {key: _uniform(f"{seed} {key}") for key in keys}
    # Of a few rows, too, each side has one.
    lowest, highest = min(drawn, key=drawn.get), max(drawn, key=drawn.get)
    held = [key == lowest or (drawn[key] < source.val_share and key != highest) for key in keys]
    train, val = (
        rows.select([i for i, is_held in enumerate(held) if is_held == wanted])
        for wanted in (False, True)
    )
    # A data set may ask the same of a picture twice; what training has asked is no test.
    asked = set(_asked(train))
    new = [not q or (image, q) not in asked for image, q in _asked(val)]
    if report is not None:
        for name, is_new in zip(val["question_id"], new, strict=True):
            if not is_new:
                report.add(ASKED_BEFORE, name)
    val = val.select([i for i, is_new in enumerate(new) if is_new])
    if not len(train) or not len(val):
        raise error
    return train, val


def _join_equal_images(rows: Dataset, keys: list[str]) -> list[str]:
    """Return the keys, with one key for all images whose files have equal bytes."""
    key_of = dict(zip(rows["image"], keys, strict=True))
    same = {
        path: min(map(key_of.get, group)) for group in group_equal_files(key_of) for path in group
    }
    return [same.get(path, key) for path, key in zip(rows["image"], keys, strict=True)]


def _uniform(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _asked(rows: Dataset) -> Iterator[tuple[str, str]]:
    """Image and question of each row."""
    return zip(rows["image"], map(normalize_question, rows["question"]), strict=True)


def digest(*tables: Dataset) -> str:
    """Of all rows, and of the sizes of their images' files, wherever those lie."""
    found = hashlib.sha256()
    for rows in tables:
        for row in rows:
            path = Path(row["image"])
            size = path.stat().st_size if path.exists() else None
            known = {key: value for key, value in row.items() if key != "rows"}
            found.update(repr((known | {"image": path.name}, size)).encode())
    return found.hexdigest()
