"""Questions to ask a model, on disk: a text file of them, or JSONL rows that name their images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.errors import DataError

JSONL = (".jsonl", ".ndjson")
OWN_KEYS = ("image", "question", "answer", "confidence", "answers", "error")
"""Keys of what is said of an answer, which a row cannot carry through."""


@dataclass(frozen=True)
class Asked:
    """One question, and the image that it is about where its file names one."""

    question: Any = None
    image: Any = None
    """As the row has it."""
    path: str = ""
    """Where the image is looked for."""
    where: str = ""
    """File and line."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the row."""
    error: str = ""
    """What is wrong with the row, which then cannot be asked."""


def read_asked(path: str) -> tuple[list[Asked], bool]:
    """The questions of a file in their order, and whether its rows name images.

    It is JSONL by its suffix, or if it begins with a brace; else text, a question a line. Blank
    lines are passed over. An image's path is relative to the file, or, where nothing is there, to
    the working folder. A row that cannot be used has an `error`.

    Raises DataError for a file that cannot be read, and for one without a question.
    """
    text = read_text(path)
    rows = [(f"{path}:{n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: no question in it; expected one a line")
    if not path.lower().endswith(JSONL) and not text.lstrip().startswith("{"):
        return [Asked(line.strip(), where=where) for where, line in rows], False
    return [_row(line, where, os.path.dirname(path)) for where, line in rows], True


def read_lines(path: str) -> Iterator[str]:
    """The lines of a text file that are not blank, stripped; raises DataError."""
    return filter(None, map(str.strip, read_text(path).split("\n")))


def read_text(path: str) -> str:
    """A UTF-8 file; other bytes in it become surrogates, to be told of where they stand.

    Raises DataError.
    """
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise DataError(f"{path}: {reason}; check the path and its permissions") from None


def _row(line: str, where: str, folder: str) -> Asked:
    wanted = "expected an object with image and question"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Asked(where=where, error=f"{where}: no JSON ({error}); {wanted}")
    if not isinstance(row, dict):
        return Asked(where=where, error=f"{where}: found {type(row).__name__}; {wanted}")
    carried = {key: value for key, value in row.items() if key not in OWN_KEYS}
    question, image, path, error = row.get("question"), row.get("image"), "", ""
    for key in ("image", "question"):
        if not isinstance(row.get(key), str) and not error:
            found = type(row[key]).__name__ if key in row else "nothing"
            error = f"{where}: found {found} under {key}; expected text"
    if not error:
        path = os.path.join(folder, image)
        if not os.path.exists(path) and os.path.exists(image):
            path = image
    return Asked(question, image, path, where, carried, error)
