"""Read candidate captions and answers from JSON, JSONL, CSV and TSV files."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from captioner.errors import DataError

ID_KEYS = ("image_id", "id", "image")
"""Keys by which a caption names its image."""
_TEXT_KEYS = ("caption", "answer")
_DELIMITERS = (",", ";", "\t")

Row = dict[str, Any]
Rows = Iterable[tuple[str, Row]]
"""Pairs of a position (file and line) and the row at it."""


def read_candidates(path: str) -> Iterator[tuple[str, Row]]:
    """Yield the position and the content of each row of a file, or of stdin if `path` is `-`.

    Raises:
        DataError: The file cannot be read, or a row has no text or names no image or question.
    """
    name = "stdin" if path == "-" else path
    text = _read_text(path, name)
    rows = list(_csv_rows(text, path, name) if _is_csv(text, path) else _json_rows(text, path))
    key = "answer" if are_answers(rows) else "caption"
    for where, row in rows:
        _check_row(where, row, key)
        yield where, row


def are_answers(rows: Rows) -> bool:
    """Return whether the first row is an answer and not a caption."""
    _, first = next(iter(rows), ("", None))
    if not isinstance(first, dict):
        return False
    has_caption, has_answer = (first.get(key) is not None for key in _TEXT_KEYS)
    if has_caption != has_answer:
        return has_answer
    return any(id_text(first, key) for key in ("question_id", "question"))


def id_text(row: Mapping[str, Any], key: str) -> str:
    """Return an identifier as text; empty unless it is text or a number.

    A float such as 7.0 becomes "7", and NaN counts as a missing value.
    """
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def question_label(row: Mapping[str, Any]) -> str:
    """Return the name of the question of a row in messages."""
    number, image, question = (id_text(row, key) for key in ("question_id", "image", "question"))
    return f"question {number}" if number else f"{image}: {question}"


def _read_text(path: str, name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: cannot be read as UTF-8 text: {error}") from None


def _json_rows(text: str, path: str) -> Iterator[tuple[str, Any]]:
    name = "stdin" if path == "-" else path
    by_line = path.lower().endswith((".jsonl", ".ndjson"))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, list):
        for number, row in enumerate(document, 1):
            yield f"{name}: row {number}", row
    elif isinstance(document, dict) and not (
        by_line or document.keys() & {*ID_KEYS, "question_id"}
    ):
        for key, value in document.items():
            yield f"{name}: {key}", {"image_id": key, "caption": value}
    else:
        # Not str.splitlines, which would also split at U+2028 inside a JSON text.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"{name}:{number}", _json_line(line)


def _json_line(line: str) -> Any:
    """Return the value on a line, or None if it is not JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def _is_csv(text: str, path: str) -> bool:
    """Return whether a text does not look like JSON and has the suffix or the header of a CSV."""
    if text.lstrip().startswith(("{", "[")):
        return False
    return path.lower().endswith((".csv", ".tsv")) or _delimiter(text) is not None


def _csv_rows(text: str, path: str, name: str) -> Iterator[tuple[str, Row]]:
    delimiter = _delimiter(text)
    if delimiter is None:
        header = " ".join(text.lstrip("\r\n").partition("\n")[0].split()) or "nothing"
        raise DataError(
            f"{name}: the header is {header[:200]!r}; expected the columns caption and one of"
            f" {', '.join(ID_KEYS)}, or answer and question_id, or answer, image and question"
        )
    rows = _reader(text, delimiter)
    columns = _columns(next(row for row in rows if any(row)))
    repeated = sorted({column for column in columns if columns.count(column) > 1} - {""})
    if repeated:
        raise DataError(f"{name}: the header has {', '.join(repeated)} more than once")
    while True:
        where = f"{name}:{rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            where = where if rows.line_num == 1 else f"{where}-{rows.line_num}"
            raise DataError(f"{where}: not a valid CSV row ({error}); check its quotes") from None
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise DataError(f"{where}: {len(row)} cells; the header has {len(columns)} columns")
        # An empty caption or answer is a text; any other empty cell is a missing value.
        yield where, {k: v for k, v in zip(columns, row, strict=True) if v or k in _TEXT_KEYS}


def _delimiter(text: str) -> str | None:
    """Return the delimiter with which the header has the columns of candidates, if any."""
    return next((d for d in _DELIMITERS if _is_usable(_header(text, d))), None)


def _header(text: str, delimiter: str) -> list[str]:
    head = text.lstrip("\r\n")[:65536]
    with contextlib.suppress(csv.Error):
        return _columns(next(_reader(head.splitlines()[0] if head else "", delimiter), []))
    return []


def _columns(header: list[str]) -> list[str]:
    return [column.strip().lower() for column in header]


def _is_usable(columns: list[str]) -> bool:
    names = set(columns)
    answers = "answer" in names and ("question_id" in names or {"image", "question"} <= names)
    return answers or ("caption" in names and bool(names & set(ID_KEYS)))


def _reader(text: str, delimiter: str) -> Any:
    lines = io.StringIO(text, newline="")
    if delimiter == "\t":  # In a tab-separated file, a quotation mark is an ordinary character.
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _check_row(where: str, row: Any, key: str) -> None:
    """Raise DataError unless a row names an image or question, and has a text under `key`."""
    label, expected = "", f"one of {', '.join(ID_KEYS)}"
    if key == "answer":
        expected = "question_id, or image and question"
        if isinstance(row, dict) and (
            id_text(row, "question_id") or (id_text(row, "image") and id_text(row, "question"))
        ):
            label = question_label(row)
    elif isinstance(row, dict):
        label = next((id_text(row, k) for k in ID_KEYS if id_text(row, k)), "")
    if not label:
        raise DataError(f"{where}: expected an object with {expected}")
    if id_text(row, "error"):
        raise DataError(f"{where}: {label} has an error, no {key}: {row['error']}")
    if not isinstance(row.get(key), str):
        raise DataError(f"{where}: {label} has no text under {key}")
