"""Readers of custom data: JSONL, CSV, and folders with `metadata.jsonl` or `metadata.csv`.

A row names an image, a recording or both, and one caption or several, or tags; the rows of an image
are joined. A label becomes captions by `data.phrases`. A row with a question is a separate example;
rows with the same `question_id`, one for each annotator, are joined. A file may hold all kinds.
Paths are relative to the file that names them. The folder layout is the `imagefolder` convention of
Hugging Face `datasets`: metadata files with the column `file_name`, in the folder and in its
subfolders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from captioner.data.example import SPLIT_NAMES, Example, normalize_split, split_in_file_name
from captioner.data.formats.cells import is_whole_column, whole_text
from captioner.data.formats.csv_jsonl_rows import (
    AUDIO_KEYS,
    CAPTION_KEYS,
    IMAGE_KEYS,
    NUMBER_COLUMNS,
    REFERENCE_KEY,
    TAG_KEYS,
    is_numbered,
)
from captioner.data.formats.io import (
    Source,
    list_files,
    read_csv,
    read_header,
    read_lines,
    walk_files,
)
from captioner.data.formats.row_joiner import Fields, RowDefaults, RowJoiner
from captioner.data.report import BAD_ROW, UNREAD_COLUMN, Report
from captioner.errors import DataError

_DELIMITERS = (",", ";", "\t")
_JSONL = (".jsonl", ".ndjson")
_METADATA = ("metadata.jsonl", "metadata.csv")


def find_jsonl(root: Path) -> tuple[Path, ...]:
    """Return a given `.jsonl`; of a folder, `train.jsonl`, `val.jsonl`, ..., or the only one."""
    return _find(root, is_jsonl)


def is_jsonl(path: Path) -> bool:
    """Return whether a file is JSONL by its suffix."""
    return path.suffix.lower() in _JSONL


def read_jsonl(source: Source) -> Iterator[Example]:
    """Read rows `{"image": ..., "caption": "..." or "captions": [...], "split"?, "id"?}`.

    A row with `question` has `answer` or `answers` instead of captions, and optionally
    `question_id` (default: file and line), `question_type` (or `type`) and `answer_type`. An empty
    value counts as missing, and the next key is used. A row without captions and question may have
    `tags`; an empty list means that none of the tags in the file applies.
    """
    return _read(source, _read_jsonl_rows)


def find_csv(root: Path) -> tuple[Path, ...]:
    """Return a `.csv` or `.tsv` with columns for image and text; of a folder as `find_jsonl`."""
    return _find(root, is_custom_csv)


def is_custom_csv(path: Path) -> bool:
    """Return whether a file is a CSV or TSV whose header names images and texts."""
    return path.suffix.lower() in (".csv", ".tsv") and _detect_delimiter(path) is not None


def read_custom_csv(source: Source) -> Iterator[Example]:
    """Read a CSV (comma, semicolon or tab) with the columns image, caption[, split][, id].

    Columns for questions and tags are those of `read_jsonl`. A cell holds one answer, commas
    included, or a list as written by Python, JSON or NumPy; tags may also be separated by commas
    or semicolons.
    """
    return _read(source, _read_csv_rows)


def find_folder(root: Path) -> tuple[Path, ...]:
    """Return `metadata.jsonl` or `metadata.csv`, given or in `root` and its subfolders.

    Raises:
        DataError: Both kinds are there, which `datasets` rejects, too.
    """
    if root.is_file():
        return (root,) if root.name in _METADATA else ()
    files = [path for path in walk_files(root) if path.name in _METADATA]
    if len({path.suffix for path in files}) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in files[:4])
        raise DataError(
            f"{root}: holds both metadata.jsonl and metadata.csv ({names}); keep one kind, or give"
            " the path of one file"
        )
    return tuple(sorted(files, key=lambda path: (split_in_folders(path, root) or "", path)))


def read_folder(source: Source) -> Iterator[Example]:
    """Read all metadata files; one in `train/`, `val/` or `test/` belongs to that split."""
    return _read(source, _read_jsonl_rows if is_jsonl(source.files[0]) else _read_csv_rows)


def _find(root: Path, accepts: Callable[[Path], bool]) -> tuple[Path, ...]:
    if root.is_file():
        return (root,) if accepts(root) else ()
    files = list_custom_files(root, accepts)
    splits = [path for path in files if split_in_file_name(path)]
    return tuple(splits or (files if len(files) == 1 else ()))


def list_custom_files(root: Path, accepts: Callable[[Path], bool]) -> list[Path]:
    """Return the files of a folder that `accepts` is true of, except `metadata` files."""
    return [path for path in list_files(root) if path.name not in _METADATA and accepts(path)]


def split_in_folders(path: Path, root: Path) -> str | None:
    """Return the split that a folder between `root` and the file is named after, or None.

    The folder's name may contain other words, as `test_set` and `val-images` do.
    """
    folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    words = (word for name in folders for word in re.split(r"[^a-z]+", name.lower()))
    return next((normalize_split(word) for word in words if word in SPLIT_NAMES), None)


def _default_split(file: Path, source: Source) -> str:
    """Return the split of the rows of a file that name none.

    A metadata file in a folder with another name is not training data if other folders are named
    after splits: its rows get a split of the folder's name.
    """
    split = split_in_file_name(file) or split_in_folders(file, source.root)
    if split is not None or file.name not in _METADATA:
        return split or "train"
    folders = file.parent.relative_to(source.root).parts
    if folders and any(split_in_folders(other, source.root) for other in source.files):
        return folders[0].lower()
    return "train"


def _read(
    source: Source, read_rows: Callable[[Path, Report], Iterator[tuple[str, Fields]]]
) -> Iterator[Example]:
    """Yield questions, tagged and captioned images, each in the order of their first rows."""
    rows = RowJoiner(source)
    for file in source.files:
        folder = file.parent.relative_to(source.root) if file.name in _METADATA else Path()
        defaults = RowDefaults(
            base=source.images or file.parent,
            split=_default_split(file, source),
            # Subfolders may use the same file names: the ids contain the folder.
            prefix="" if folder == Path() else f"{folder.as_posix()}/",
        )
        for where, fields in read_rows(file, source.report):
            rows.add(fields, where, defaults)
    yield from rows.examples()


def _read_jsonl_rows(path: Path, report: Report) -> Iterator[tuple[str, Fields]]:
    for where, line in read_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield where, row
        else:
            report.add(BAD_ROW, where, rows=1)


def _read_csv_rows(path: Path, report: Report) -> Iterator[tuple[str, Fields]]:
    delimiter = _detect_delimiter(path) or ","
    whole = _find_whole_columns(path, delimiter)
    for where, row in _read_table(path, report, delimiter):
        yield where, {k: whole_text(v) if k in whole else v for k, v in row.items()}


def _find_whole_columns(path: Path, delimiter: str) -> set[str]:
    """Return the columns that hold whole numbers, some of them written as 3.0."""
    rows = read_csv(path, Report(), delimiter=delimiter)
    _, header = next(rows, ("", []))
    numbers = NUMBER_COLUMNS.intersection(name.strip().lower() for name in header)
    return {
        name
        for name in numbers
        if is_whole_column(row[name] for _, row in _read_table(path, Report(), delimiter))
    }


def _read_table(path: Path, report: Report, delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a CSV by column; rows of another length are reported."""
    rows = read_csv(path, report, delimiter=delimiter)
    _, header = next(rows, ("", []))
    columns = [name.strip().lower() for name in header]
    for name in {name for name in columns if columns.count(name) > 1 and name}:
        report.add(UNREAD_COLUMN, f"{name}, all but the first of this name in {path.name}")
    for where, row in rows:
        if len(row) == len(columns):
            cells: dict[str, str] = {}
            for name, cell in zip(columns, row, strict=True):
                cells.setdefault(name, cell)  # the first of several columns with the same name
            yield where, cells
        else:
            report.add(BAD_ROW, where, rows=1)


def _detect_delimiter(path: Path) -> str | None:
    """Return the delimiter with which the header has columns for an image and a text, or None."""
    header = read_header(path)
    for delimiter in _DELIMITERS:
        columns = {name.strip().strip('"') for name in header.split(delimiter)}
        has_texts = not columns.isdisjoint((*CAPTION_KEYS, REFERENCE_KEY, *TAG_KEYS, "question"))
        has_texts = has_texts or any(is_numbered(column, CAPTION_KEYS) for column in columns)
        if has_texts and not columns.isdisjoint((*IMAGE_KEYS, *AUDIO_KEYS)):
            return delimiter
    return None
