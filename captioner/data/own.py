"""Readers of a user's own data: JSONL, CSV, and a folder with `metadata.jsonl`.

A row names an image and one caption or several; rows of the same image are joined. A row with a
question is that question's own example, and both kinds may stand in one file. Image paths are
relative to the file that names them. The folder layout is the `imagefolder` convention of Hugging
Face `datasets`: `metadata.jsonl` (or `.csv`) with `file_name`, in the folder or in its `train/`,
`val/`, `test/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
_CAPTION_KEYS = ("captions", "caption", "text")
_ANSWER_KEYS = ("answers", "answer")
_EITHER = "references"  # what a table of Examples calls captions and answers alike
_ID_KEYS = ("id", "image_id")
_DELIMITERS = (",", ";", "\t")
_JSONL = (".jsonl", ".ndjson")

CAPTION_LEFT = "caption beside a question left unread (give it a row of its own)"

Rows = Callable[[Path, Report], Iterator[tuple[str, dict[str, Any]]]]


def find_jsonl(root: Path) -> tuple[Path, ...]:
    """A `.jsonl` given; in a folder the only one, or `train.jsonl`, `val.jsonl`, `test.jsonl`."""
    return _find(root, lambda path: path.suffix.lower() in _JSONL)


def read_jsonl(source: Source) -> Iterator[Example]:
    """Reads rows `{"image": ..., "caption": "..." or "captions": [...], "split"?, "id"?}`.

    A row with `question` has `answer` or `answers` in the place of captions, and maybe
    `question_id` (else it is the file and line), `question_type` and `answer_type`.
    """
    return _read(source, _jsonl_rows)


def find_csv(root: Path) -> tuple[Path, ...]:
    """A `.csv` with columns image and caption or question; in a folder as for `find_jsonl`."""
    return _find(root, lambda path: path.suffix.lower() in (".csv", ".tsv") and _delimiter(path))


def read_own_csv(source: Source) -> Iterator[Example]:
    """Reads a CSV (comma, semicolon or tab) with the columns image, caption[, split][, id].

    Or with question and answer, as `read_jsonl`; a cell holds one answer, commas included.
    """
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


@dataclass(frozen=True)
class _Row:
    """What a row says; a text is "" where the row leaves it out."""

    name: str
    texts: list[str]
    """Captions, or a question's answers."""
    split: str
    image_id: str
    question: str | None
    """None in a row of captions."""
    question_id: str
    question_type: str
    answer_type: str


def _read(source: Source, rows: Rows) -> Iterator[Example]:
    """Yields the questions; then joins the captions of each image, in the order of the images."""
    captioned: dict[str, tuple[str, str, list[str]]] = {}  # path -> id, split, captions
    for file in source.files:
        base = source.images or file.parent
        in_split_folder = file.parent != source.root and file.stem == "metadata"
        default = split_of_file(file) or (
            canonical_split(file.parent.name) if in_split_folder else "train"
        )
        # Below a split folder the same file name may come twice: keep the folder in the id.
        prefix = f"{file.parent.name}/" if in_split_folder else ""
        for where, fields in rows(file, source.report):
            row = _parse(fields)
            if row is None:
                source.report.add(BAD_ROW, where)
                continue
            image, split = os.path.normpath(base / row.name), row.split or default
            image_id = row.image_id or f"{prefix}{row.name}"
            if row.question is not None:
                if _says(_first(fields, _CAPTION_KEYS)):
                    source.report.add(CAPTION_LEFT, where)
                question_id = row.question_id or f"{prefix}{where}"
                yield _question(row, image, image_id, split, question_id)
                continue
            first = captioned.setdefault(image, (image_id, split, []))
            if first[1] == split:
                first[2].extend(row.texts)
            else:  # the same picture in train and val would make the scores a lie
                kept = f"{row.name} is in {first[1]} and in {split} ({where})"
                source.report.add(DUPLICATE, kept)
    for image, (image_id, split, captions) in captioned.items():
        yield Example(image, image_id, tuple(captions), split)


def _question(row: _Row, image: str, image_id: str, split: str, question_id: str) -> Example:
    texts = {"question": row.question or "", "question_id": question_id}
    types = {"question_type": row.question_type, "answer_type": row.answer_type}
    return Example(image, image_id, tuple(row.texts), split, **texts, **types)


def _parse(row: dict[str, Any]) -> _Row | None:
    """Takes from a row what it says; None where it has no image or a value of the wrong type."""
    name = next((row[key] for key in _IMAGE_KEYS if row.get(key)), None)
    captions = _first(row, (*_CAPTION_KEYS, _EITHER))
    answers, question = _first(row, _ANSWER_KEYS), row.get("question")
    if _says(captions) and not _says(question) and not _says(answers):
        question = None  # in a table of both kinds, the cells of the other kind are empty
    if question is not None:
        answers = _first(row, (*_ANSWER_KEYS, _EITHER))
    texts = captions if question is None else answers if _says(answers) else []
    texts = texts if isinstance(texts, list) else [texts]
    if question is not None:  # a count may well be written as a number
        texts = [str(text) if _is_number(text) else text for text in texts]
    others = [row.get(key) or "" for key in ("split", "question_type", "answer_type")]
    ids = [_first(row, keys, default="") for keys in (_ID_KEYS, ("question_id",))]
    of_text = (name, *texts, *others, "" if question is None else question)
    well_formed = all(isinstance(text, str) for text in of_text)
    well_formed = well_formed and all(isinstance(value, str | int) for value in ids)
    if not well_formed or not name.strip():
        return None
    split = others[0] and canonical_split(others[0])
    return _Row(name.strip(), texts, split, str(ids[0]), question, str(ids[1]), *others[1:])


def _first(row: dict[str, Any], keys: Iterable[str], *, default: Any = None) -> Any:
    """The value of the first of the keys that the row has."""
    return next((row[key] for key in keys if row.get(key) is not None), default)


def _says(value: Any) -> bool:
    """Whether a value is there and not blank; a zero is."""
    return bool(value.strip()) if isinstance(value, str) else value not in (None, [])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
    """The delimiter by which the header holds an image and a caption or question, else None."""
    header = read_head(path).split("\n", 1)[0].strip().lower()
    for delimiter in _DELIMITERS:
        columns = {name.strip().strip('"') for name in header.split(delimiter)}
        if columns & set(_IMAGE_KEYS) and columns & {*_CAPTION_KEYS, _EITHER, "question"}:
            return delimiter
    return None
