"""Readers of a user's own data: JSONL, CSV, a folder with `metadata.jsonl`, and texts by images.

A row names an image and one caption or several; rows of the same image are joined. A row with a
question is that question's own example; rows with the same `question_id` are joined, one answer of
each annotator. Both kinds may stand in one file. Image paths are relative to the file that names
them. The folder layout is the `imagefolder` convention of Hugging Face `datasets`: `metadata.jsonl`
or `metadata.csv` with `file_name`, in the folder and in those below it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from captioner.data.example import Example
from captioner.data.formats.cells import is_whole_column, whole_text
from captioner.data.formats.custom_rows import (
    CAPTION_KEYS,
    EITHER,
    IMAGE_KEYS,
    NUMBER_COLUMNS,
    Row,
    first_value,
    is_numbered,
    parse_row,
    says,
)
from captioner.data.formats.io import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    Source,
    canonical_split,
    list_files,
    read_csv,
    read_head,
    read_lines,
    split_of_file,
    walk_files,
)
from captioner.data.report import (
    BAD_ROW,
    DUPLICATE,
    EMPTY_CAPTION,
    NO_ANSWER,
    UNREAD_COLUMN,
    UNREAD_FILE,
    Report,
)
from captioner.errors import DataError
from captioner.text import normalize_question

_DELIMITERS = (",", ";", "\t")
_JSONL = (".jsonl", ".ndjson")
_METADATA = ("metadata.jsonl", "metadata.csv")

CAPTION_LEFT = "caption beside a question left unread (give it a row of its own)"
SHARED_TEXT = "text file of several images (name it after the whole name of one, as photo.jpg.txt)"

Rows = Callable[[Path, Report], Iterator[tuple[str, dict[str, Any]]]]


def find_jsonl(root: Path) -> tuple[Path, ...]:
    """A `.jsonl` given; in a folder the only one, or `train.jsonl`, `val.jsonl`, `test.jsonl`."""
    return _find(root, is_jsonl)


def is_jsonl(path: Path) -> bool:
    """Return whether a file is JSONL by its suffix."""
    return path.suffix.lower() in _JSONL


def read_jsonl(source: Source) -> Iterator[Example]:
    """Reads rows `{"image": ..., "caption": "..." or "captions": [...], "split"?, "id"?}`.

    A row with `question` has `answer` or `answers` in the place of captions, and maybe
    `question_id` (else it is the file and line), `question_type` and `answer_type`. An empty value
    counts as missing, and the next key is used.
    """
    return _read(source, _jsonl_rows)


def find_csv(root: Path) -> tuple[Path, ...]:
    """A `.csv` with columns image and caption or question; in a folder as for `find_jsonl`."""
    return _find(root, is_custom_csv)


def is_custom_csv(path: Path) -> bool:
    """Return whether a file is a CSV or TSV whose header names images and texts."""
    return path.suffix.lower() in (".csv", ".tsv") and _delimiter(path) is not None


def read_custom_csv(source: Source) -> Iterator[Example]:
    """Reads a CSV (comma, semicolon or tab) with the columns image, caption[, split][, id].

    Or with question and answer, as `read_jsonl`; a cell holds one answer, commas included, or a
    list as Python, JSON or NumPy writes it.
    """
    return _read(source, _csv_rows)


def find_folder(root: Path) -> tuple[Path, ...]:
    """`metadata.jsonl` or `metadata.csv` given, in the folder or in those below it.

    Raises DataError where both kinds are there, as `datasets` does.
    """
    if root.is_file():
        return (root,) if root.name in _METADATA else ()
    found = [path for path in walk_files(root) if path.name in _METADATA]
    if len({path.suffix for path in found}) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in found[:4])
        raise DataError(
            f"{root}: holds both metadata.jsonl and metadata.csv ({names}); keep one kind, or give"
            " the path of one file"
        )
    return tuple(sorted(found, key=lambda path: (_split_of_folder(path, root) or "", path)))


def read_folder(source: Source) -> Iterator[Example]:
    """Reads every metadata file; one in `train/`, `val/` or `test/` belongs to that split."""

    def rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
        return (_jsonl_rows if path.suffix == ".jsonl" else _csv_rows)(path, report)

    return _read(source, rows)


def find_texts(root: Path) -> tuple[Path, ...]:
    """`photo.txt` beside `photo.jpg`, or `photo.jpg.txt`, in the folder or in those below it."""
    if not root.is_dir():
        return ()
    files = list(walk_files(root))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    stems = {path.with_suffix("") for path in images} | set(images)
    return tuple(path for path in files if _is_text(path) and path.with_suffix("") in stems)


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == ".txt"


def read_texts(source: Source) -> Iterator[Example]:
    """Reads one caption from each line of the text files beside the images.

    This is what `generate.py --sidecar` writes. A folder `train`, `val` or `test` is a split. An
    image without a text file is an image without captions.
    """
    files = list(walk_files(source.root))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    texts = {path.with_suffix(""): path for path in files if _is_text(path)}
    # A text file named after the whole name of an image is that image's alone.
    stems = {path: path if path in texts else path.with_suffix("") for path in images}
    users: dict[Path, list[Path]] = {}
    for path, stem in stems.items():
        users.setdefault(stem, []).append(path)
    for stem, text in texts.items():
        found = users.get(stem, [])
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            source.report.add(SHARED_TEXT, f"{text.name}: {names}", rows=_count_lines(text))
        elif not found:
            source.report.add(UNREAD_FILE, f"{text.name} (no image of its name)")
    for path, stem in stems.items():
        text = texts[stem] if stem in texts and len(users[stem]) == 1 else None
        captions = tuple(line for _, line in read_lines(text)) if text else ()
        name = path.relative_to(source.root).as_posix()
        split = _split_of_folder(path, source.root) or "train"
        yield Example(str(path), name, captions, split, rows=len(captions))


def _count_lines(path: Path) -> int:
    return sum(1 for _ in read_lines(path))


def _find(root: Path, fits: Callable[[Path], bool]) -> tuple[Path, ...]:
    if root.is_file():
        return (root,) if fits(root) else ()
    found = list_custom_files(root, fits)
    splits = [path for path in found if split_of_file(path)]
    if splits:
        return tuple(splits)
    return tuple(found) if len(found) == 1 else ()


def list_custom_files(root: Path, fits: Callable[[Path], bool]) -> list[Path]:
    """Return the files of a folder in a format, `metadata` files left out."""
    return [path for path in list_files(root) if path.name not in _METADATA and fits(path)]


def _split_of_folder(path: Path, root: Path) -> str | None:
    """Return the split that the first of the folders below `root` names, or None.

    The name may have other words beside it, as `test_set` and `val-images` do.
    """
    folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    words = (word for name in folders for word in re.split(r"[^a-z]+", name.lower()))
    return next((canonical_split(word) for word in words if word in SPLIT_NAMES), None)


def _default_split(file: Path, source: Source) -> str:
    """Return the split of a file's rows that name none.

    Beside folders that are splits, another folder is not training data: it is a split of its own.
    """
    split = _split_of_folder(file, source.root)
    if split is not None or file.name not in _METADATA:
        return split or "train"
    folders = file.parent.relative_to(source.root).parts
    beside = any(_split_of_folder(other, source.root) for other in source.files)
    return folders[0].lower() if folders and beside else "train"


@dataclass
class _Captions:
    """The captions of one image, from all of its rows."""

    image_id: str
    split: str
    texts: list[str] = field(default_factory=list)
    rows: int = 0
    blank: list[str] = field(default_factory=list)
    """Captions of the rows that have only blank ones."""
    blank_rows: list[str] = field(default_factory=list)
    """Where these rows are."""


def _read(source: Source, rows: Rows) -> Iterator[Example]:
    """Yields the questions; then joins the captions of each image, in the order of the images."""
    captioned: dict[str, _Captions] = {}
    joined: dict[tuple[str, ...], Example] = {}
    for file in source.files:
        base = source.images or file.parent
        folder = file.parent.relative_to(source.root) if file.name in _METADATA else Path()
        default = split_of_file(file) or _default_split(file, source)
        # In two folders the same file name may occur: keep the folder in the id.
        prefix = "" if folder == Path() else f"{folder.as_posix()}/"
        for where, fields in rows(file, source.report):
            row = parse_row(fields, where, source.report)
            if row is None:
                continue
            image, split = os.path.normpath(base / row.name), row.split or default
            image_id = row.image_id or f"{prefix}{row.name}"
            if row.question is not None:
                if says(first_value(fields, CAPTION_KEYS)):
                    source.report.add(CAPTION_LEFT, where)
                question = _question(row, image, image_id, split, f"{prefix}{where}")
                _join(question, joined, source.report)
                continue
            _collect(row, image, image_id, split, where, captioned, source.report)
    yield from joined.values()
    for image, found in captioned.items():
        for where in found.blank_rows if found.texts else ():
            source.report.add(EMPTY_CAPTION, where, rows=1)
        texts, rows = found.texts or found.blank, found.rows or len(found.blank_rows)
        yield Example(image, found.image_id, tuple(texts), found.split, rows=rows)


def _collect(
    row: Row,
    image: str,
    image_id: str,
    split: str,
    where: str,
    captioned: dict[str, _Captions],
    report: Report,
) -> None:
    """Add a row of captions to those of its image."""
    found = captioned.setdefault(image, _Captions(image_id, split))
    if found.split != split:
        # The same image in train and val would make the scores meaningless.
        report.add(DUPLICATE, f"{row.name} is in {found.split} and in {split} ({where})", rows=1)
        return
    if says(row.texts):
        found.texts.extend(row.texts)
        found.rows += 1
    else:
        found.blank.extend(row.texts)
        found.blank_rows.append(where)


def _join(question: Example, joined: dict[tuple[str, ...], Example], report: Report) -> None:
    """Add a question; several annotators' rows of one question become one example.

    Beside rows with an answer, one without is reported.
    """
    text = normalize_question(question.question)
    key = (question.question_id, question.image, text, question.split)
    first = joined.get(key)
    if first is not None and bool(first.references) != bool(question.references):
        full, empty = (first, question) if first.references else (question, first)
        report.add(NO_ANSWER, f"{question.question_id}, of one annotator", rows=empty.rows)
        question = full
    elif first is not None:
        answers = first.references + question.references
        types = {
            name: getattr(first, name) or getattr(question, name)
            for name in ("question_type", "answer_type")
        }
        question = replace(first, references=answers, rows=first.rows + 1, **types)
    joined[key] = question


def _question(row: Row, image: str, image_id: str, split: str, default_id: str) -> Example:
    texts = {"question": row.question or "", "question_id": row.question_id or default_id}
    types = {"question_type": row.question_type, "answer_type": row.answer_type}
    return Example(image, image_id, tuple(row.texts), split, **texts, **types)


def _jsonl_rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in read_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield where, row
        else:
            report.add(BAD_ROW, where, rows=1)


def _csv_rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    delimiter = _delimiter(path) or ","
    whole = _whole_columns(path, delimiter)
    for where, row in _table(path, report, delimiter):
        yield where, {k: whole_text(v) if k in whole else v for k, v in row.items()}


def _whole_columns(path: Path, delimiter: str) -> set[str]:
    """Return the columns that hold whole numbers, some of them written as 3.0."""
    rows = read_csv(path, Report(), delimiter=delimiter)
    _, header = next(rows, ("", []))
    numbers = NUMBER_COLUMNS.intersection(name.strip().lower() for name in header)
    return {
        name
        for name in numbers
        if is_whole_column(row[name] for _, row in _table(path, Report(), delimiter))
    }


def _table(path: Path, report: Report, delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a CSV by column; those of another length are reported."""
    rows = read_csv(path, report, delimiter=delimiter)
    _, header = next(rows, ("", []))
    columns = [name.strip().lower() for name in header]
    for name in {name for name in columns if columns.count(name) > 1 and name}:
        report.add(UNREAD_COLUMN, f"{name}, all but the first of this name in {path.name}")
    for where, row in rows:
        if len(row) == len(columns):
            cells: dict[str, str] = {}
            for name, cell in zip(columns, row, strict=True):
                cells.setdefault(name, cell)  # of equal names the first counts
            yield where, cells
        else:
            report.add(BAD_ROW, where, rows=1)


def _delimiter(path: Path) -> str | None:
    """Return the delimiter by which the header names an image and a caption or question."""
    header = read_head(path).split("\n", 1)[0].strip().lower()
    for delimiter in _DELIMITERS:
        columns = {name.strip().strip('"') for name in header.split(delimiter)}
        texts = columns & {*CAPTION_KEYS, EITHER, "question"}
        if columns & set(IMAGE_KEYS) and (
            texts or any(is_numbered(c, CAPTION_KEYS) for c in columns)
        ):
            return delimiter
    return None
