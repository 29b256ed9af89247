"""Candidates on disk, and matching them with the examples that they caption or answer.

A row with a `caption` says which image it is about: by `image_id`, else `id`, both of which must
equal the example's, else `image`, a path that may differ from the example's in its leading folders.
A row with an `answer` says which question it is to: by `question_id`, else `image` and `question`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from captioner.data.files import Example
from captioner.data.text import normalize_question
from captioner.errors import DataError, MetricError

ID_KEYS = ("image_id", "id", "image")
_ANSWER_KEYS = ("question_id", "question", "answer")
_ABOUT = {"caption": ("of", "image"), "answer": ("to", "question")}

Rows = Iterable[tuple[str, dict[str, Any]]]
"""Where each row stands, and the row."""


def read_candidates(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row stands, and the row; raises DataError."""
    name = "stdin" if path == "-" else path
    by_line = path.lower().endswith((".jsonl", ".ndjson"))
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: cannot be read as UTF-8 text: {error}") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    one_row = {*ID_KEYS, "question_id"}
    if isinstance(document, list):
        rows = [(f"{name}: row {i}", row) for i, row in enumerate(document, 1)]
    elif isinstance(document, dict) and not (document.keys() & one_row or by_line):
        rows = [(f"{name}: {k}", {"image_id": k, "caption": v}) for k, v in document.items()]
    else:
        # JSON leaves U+2028 and its kind in a line, which str.splitlines would split.
        rows = [
            (f"{name}:{i}", _json_line(x)) for i, x in enumerate(text.split("\n"), 1) if x.strip()
        ]
    check = _check_answer if are_answers(rows) else _check_caption
    for where, row in rows:
        check(where, row)
        yield where, row


def are_answers(rows: Rows) -> bool:
    """Whether rows are answers, as the first one tells, and not captions."""
    _, first = next(iter(rows), ("", None))
    return isinstance(first, dict) and not first.keys().isdisjoint(_ANSWER_KEYS)


def _json_line(line: str) -> Any:
    """A line's value, None where it is no JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def _check_caption(where: str, row: Any) -> None:
    if not isinstance(row, dict) or not row.keys() & set(ID_KEYS):
        raise DataError(f"{where}: expected an object with one of {', '.join(ID_KEYS)}")
    _check_text(where, row, str(next(row[key] for key in ID_KEYS if key in row)), "caption")


def _check_answer(where: str, row: Any) -> None:
    named = isinstance(row, dict) and ("question_id" in row or {"image", "question"} <= row.keys())
    if not named:
        raise DataError(f"{where}: expected an object with question_id, or image and question")
    _check_text(where, row, _question_of(row), "answer")


def _check_text(where: str, row: dict[str, Any], label: str, key: str) -> None:
    if "error" in row:
        raise DataError(f"{where}: {label} has an error, no {key}: {row['error']}")
    if not isinstance(row.get(key), str):
        raise DataError(f"{where}: {label} has no text under {key}")


def _question_of(row: dict[str, Any]) -> str:
    """What messages call the question that a row answers."""
    if "question_id" in row:
        return f"question {row['question_id']}"
    return f"{row['image']}: {row['question']}"


def match(rows: Rows, references: Sequence[Example], *, source: str) -> dict[str, str]:
    """Captions by the references' ids; raises MetricError unless they are exactly those."""
    ids = {r.image_id for r in references}
    names = _names((name, r.image_id) for r in references for name in _names_of(r))

    def find(row: dict[str, Any]) -> tuple[str, str | None]:
        key = next(k for k in ID_KEYS if k in row)
        label = str(row[key])
        if label in ids:
            return label, label
        return label, _by_path(label, names) if key == "image" else None

    wanted = [r.image_id for r in references]
    return _exactly(rows, find, wanted, key="caption", source=source)


def match_answers(rows: Rows, references: Sequence[Example], *, source: str) -> dict[str, str]:
    """Answers by the references' question ids; raises MetricError unless they are exactly those.

    Where a question is asked of an image more than once, rows without ids answer in turn.
    """
    ids = {r.question_id for r in references}
    names = _names((name, r.image) for r in references for name in _names_of(r))
    waiting: dict[tuple[str, str], list[str]] = {}
    for r in reversed(references):
        waiting.setdefault((r.image, normalize_question(r.question)), []).append(r.question_id)

    def find(row: dict[str, Any]) -> tuple[str, str | None]:
        if "question_id" in row:
            label = str(row["question_id"])
            return label, label if label in ids else None
        image = _by_path(str(row["image"]), names)
        same = waiting.get((image or "", normalize_question(str(row["question"]))), [])
        # The last one stays, for what comes after it to be called a second answer.
        question_id = same.pop() if len(same) > 1 else next(iter(same), None)
        return _question_of(row), question_id

    wanted = [r.question_id for r in references]
    return _exactly(rows, find, wanted, key="answer", source=source)


def _exactly(
    rows: Rows,
    find: Callable[[dict[str, Any]], tuple[str, str | None]],
    wanted: Sequence[str],
    *,
    key: str,
    source: str,
) -> dict[str, str]:
    """The texts of the rows by id; `find` says what a row is called, and its id if it has one."""
    found: dict[str, str] = {}
    unknown: list[str] = []
    for where, row in rows:
        label, name = find(row)
        if name is None:
            unknown.append(label)
        elif name in found:
            of, each = _ABOUT[key]
            raise MetricError(
                f"{where}: a second {key} {of} {label}; expected one {of} each {each}"
            )
        else:
            found[name] = row[key]
    missing = [name for name in wanted if name not in found]
    sides = (("candidates without references", unknown), ("references without candidate", missing))
    if unknown or missing:
        told = "; ".join(f"{len(x)} {what} ({_first(x)})" for what, x in sides if x)
        raise MetricError(f"{source}: {told}; the ids must be exactly the data set's (see --split)")
    return found


def _names_of(example: Example) -> set[str]:
    """What a row may call an example's image."""
    return {example.image_id, example.image, os.path.basename(example.image)}


def _names(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """What each name stands for; None where it stands for several."""
    names: dict[str, str | None] = {}
    for name, meant in pairs:
        names[name] = meant if names.get(name, meant) == meant else None
    return names


def _by_path(image: str, names: dict[str, str | None]) -> str | None:
    """What the image's path stands for, or its longest ending that is a name."""
    parts = PurePath(os.path.abspath(image)).parts
    endings = (os.path.join(*parts[i:]) for i in range(len(parts)))
    return next((names[ending] for ending in endings if ending in names), None)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
