"""Candidates on disk, and matching them with the examples that they are captions of.

A row has a `caption` and says which image it is about: by `image_id`, else `id`, both of which must
equal the example's, else `image`, a path that may differ from the example's in its leading folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from captioner.data.files import Example
from captioner.errors import DataError, MetricError

ID_KEYS = ("image_id", "id", "image")


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
    if isinstance(document, list):
        rows = [(f"{name}: row {i}", row) for i, row in enumerate(document, 1)]
    elif isinstance(document, dict) and not (document.keys() & set(ID_KEYS) or by_line):
        rows = [(f"{name}: {k}", {"image_id": k, "caption": v}) for k, v in document.items()]
    else:
        # JSON leaves U+2028 and its kind in a line, which str.splitlines would split.
        rows = [
            (f"{name}:{i}", _json_line(x)) for i, x in enumerate(text.split("\n"), 1) if x.strip()
        ]
    for where, row in rows:
        if not isinstance(row, dict) or not row.keys() & set(ID_KEYS):
            raise DataError(f"{where}: expected an object with one of {', '.join(ID_KEYS)}")
        label = next(row[key] for key in ID_KEYS if key in row)
        if "error" in row:
            raise DataError(f"{where}: {label} has an error, no caption: {row['error']}")
        if not isinstance(row.get("caption"), str):
            raise DataError(f"{where}: {label} has no text under caption")
        yield where, row


def _json_line(line: str) -> Any:
    """A line's value, None where it is no JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def match(
    rows: Iterable[tuple[str, dict[str, Any]]], references: Sequence[Example], *, source: str
) -> dict[str, str]:
    """Candidates by the references' ids; raises MetricError unless they are exactly those."""
    ids = {r.image_id for r in references}
    names: dict[str, str | None] = {}
    for r in references:
        for name in {r.image_id, r.image, os.path.basename(r.image)}:
            names[name] = r.image_id if names.get(name, r.image_id) == r.image_id else None
    found: dict[str, str] = {}
    unknown: list[str] = []
    for where, row in rows:
        key = next(k for k in ID_KEYS if k in row)
        label = str(row[key])
        image_id = label if label in ids else _by_path(label, names) if key == "image" else None
        if image_id is None:
            unknown.append(label)
        elif image_id in found:
            raise MetricError(f"{where}: a second caption of {label}; expected one of each image")
        else:
            found[image_id] = row["caption"]
    missing = [r.image_id for r in references if r.image_id not in found]
    sides = (("candidates without references", unknown), ("references without candidate", missing))
    if unknown or missing:
        told = "; ".join(f"{len(x)} {what} ({_first(x)})" for what, x in sides if x)
        raise MetricError(f"{source}: {told}; the ids must be exactly the data set's (see --split)")
    return found


def _by_path(image: str, names: dict[str, str | None]) -> str | None:
    """The id of the reference whose id or path ends as `image` does, the longest ending first."""
    parts = PurePath(os.path.abspath(image)).parts
    endings = (os.path.join(*parts[i:]) for i in range(len(parts)))
    return next((names[ending] for ending in endings if ending in names), None)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
