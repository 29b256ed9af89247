"""Write small annotation files and images for the tests of the data package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from captioner.data import Report


def write(path: Path, content: str | bytes | dict[str, Any] | list[Any]) -> Path:
    """Write a text, bytes or a JSON document; create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict | list):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def write_lines(path: Path, lines: list[str]) -> None:
    """Write lines of text; create the folder."""
    write(path, "".join(f"{line}\n" for line in lines))


def json_lines(*rows: dict[str, Any]) -> str:
    """Return rows as the text of a JSONL file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def pictures(folder: Path, *names: str) -> None:
    """Write files in place of images, which the readers do not open."""
    for name in names:
        write(folder / name, b"not an image")


def list_problems(report: Report) -> dict[str, list[str]]:
    """Return the names of the problems by kind."""
    return {kind: problem.names for kind, problem in report}
