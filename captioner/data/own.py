"""Readers of a user's own data: JSONL, CSV, and a folder with `metadata.jsonl`.

A row names an image and one caption or several; rows of the same image are joined. Image paths are
relative to the file that names them. The folder layout is the `imagefolder` convention of Hugging
Face `datasets`: `metadata.jsonl` (or `.csv`) with `file_name`, in the folder or in its `train/`,
`val/`, `test/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from captioner.data.files import (
    SPLIT_NAMES,
    Example,
    Source,
    canonical_split,
    list_files,
    read_csv,
    read_head,
    read_lines,
    split_of_file,
)
from captioner.data.report import BAD_ROW, DUPLICATE, Report

_IMAGE_KEYS = ("image", "file_name", "filename", "image_path")
_CAPTION_KEYS = ("captions", "caption", "text", "references")
_ID_KEYS = ("id", "image_id")
_DELIMITERS = (",", ";", "\t")
_JSONL = (".jsonl", ".ndjson")

Rows = Callable[[Path, Report], Iterator[tuple[str, dict[str, Any]]]]


def find_jsonl(root: Path) -> tuple[Path, ...]:
    """A `.jsonl` given; in a folder the only one, or `train.jsonl`, `val.jsonl`, `test.jsonl`."""
    return _find(root, lambda path: path.suffix.lower() in _JSONL)


def read_jsonl(source: Source) -> Iterator[Example]:
    """Reads rows `{"image": ..., "caption": "..." or "captions": [...], "split"?, "id"?}`."""
    return _read(source, _jsonl_rows)


def find_csv(root: Path) -> tuple[Path, ...]:
    """A `.csv` with the columns image and caption; in a folder as for `find_jsonl`."""
    return _find(root, lambda path: path.suffix.lower() in (".csv", ".tsv") and _delimiter(path))


def read_own_csv(source: Source) -> Iterator[Example]:
    """Reads a CSV (comma, semicolon or tab) with the columns image, caption[, split][, id]."""
    return _read(source, _csv_rows)


def find_folder(root: Path) -> tuple[Path, ...]:
    """`metadata.jsonl` or `metadata.csv` given, in the folder or in its split folders."""
    if root.is_file():
        return (root,) if root.name in ("metadata.jsonl", "metadata.csv") else ()
    folders = [root]
    if root.is_dir():
        inner = sorted(path for path in root.iterdir() if path.name.lower() in SPLIT_NAMES)
        folders += sorted(inner, key=lambda path: canonical_split(path.name))
    found = (_metadata(folder) for folder in folders)
    return tuple(path for path in found if path)


def _metadata(folder: Path) -> Path | None:
    for name in ("metadata.jsonl", "metadata.csv"):
        if (folder / name).is_file():
            return folder / name
    return None


def read_folder(source: Source) -> Iterator[Example]:
    """Reads every metadata file; one in `train/`, `val/` or `test/` belongs to that split."""

    def rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
        return (_jsonl_rows if path.suffix == ".jsonl" else _csv_rows)(path, report)

    return _read(source, rows)


def _find(root: Path, fits: Callable[[Path], Any]) -> tuple[Path, ...]:
    if root.is_file():
        return (root,) if fits(root) else ()
    found = [path for path in list_files(root) if path.stem != "metadata" and fits(path)]
    splits = [path for path in found if split_of_file(path)]
    if splits:
        return tuple(splits)
    return tuple(found) if len(found) == 1 else ()


def _read(source: Source, rows: Rows) -> Iterator[Example]:
    """Joins the rows of each image, in the order in which the images first appear."""
    examples: dict[str, tuple[str, str, list[str]]] = {}  # path -> id, split, captions
    for file in source.files:
        base = source.images or file.parent
        in_split_folder = file.parent != source.root and file.stem == "metadata"
        default = split_of_file(file) or (
            canonical_split(file.parent.name) if in_split_folder else "train"
        )
        for where, row in rows(file, source.report):
            parsed = _parse(row)
            if parsed is None:
                source.report.add(BAD_ROW, where)
                continue
            name, captions, split, image_id = parsed
            image = os.path.normpath(base / name)
            # Below a split folder the same file name may come twice: keep the folder in the id.
            label = f"{file.parent.name}/{name}" if in_split_folder else name
            first = examples.setdefault(image, (image_id or label, split or default, []))
            if first[1] == (split or default):
                first[2].extend(captions)
            else:  # the same picture in train and val would make the scores a lie
                kept = f"{name} is in {first[1]} and in {split or default} ({where})"
                source.report.add(DUPLICATE, kept)
    for image, (image_id, split, captions) in examples.items():
        yield Example(image, image_id, tuple(captions), split)


def _parse(row: dict[str, Any]) -> tuple[str, list[str], str, str] | None:
    """Takes image, captions, split ("" if unstated) and id ("" if unstated) from a row."""
    name = next((row[key] for key in _IMAGE_KEYS if row.get(key)), None)
    texts = next((row[key] for key in _CAPTION_KEYS if row.get(key) is not None), None)
    split = row.get("split") or ""
    image_id = next((row[key] for key in _ID_KEYS if row.get(key) is not None), "")
    captions = [texts] if isinstance(texts, str) else texts
    well_formed = (
        isinstance(name, str)
        and isinstance(captions, list)
        and all(isinstance(text, str) for text in captions)
        and isinstance(split, str)
        and isinstance(image_id, str | int)
    )
    if not well_formed or not name.strip():
        return None
    return name.strip(), captions, split and canonical_split(split), str(image_id)


def _jsonl_rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in read_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield where, row
        else:
            report.add(BAD_ROW, where)


def _csv_rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = read_csv(path, report, delimiter=_delimiter(path) or ",")
    _, header = next(rows, ("", []))
    columns = [name.strip().lower() for name in header]
    for where, row in rows:
        if len(row) == len(columns):
            yield where, dict(zip(columns, row, strict=True))
        else:
            report.add(BAD_ROW, where)


def _delimiter(path: Path) -> str | None:
    """The delimiter by which the header holds an image and a caption column, else None."""
    header = read_head(path).split("\n", 1)[0].strip().lower()
    for delimiter in _DELIMITERS:
        columns = {name.strip().strip('"') for name in header.split(delimiter)}
        if columns & set(_IMAGE_KEYS) and columns & set(_CAPTION_KEYS):
            return delimiter
    return None
