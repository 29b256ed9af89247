"""Find the file and the line of the rows that findings are about."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from captioner.data.example import normalize_split, split_in_file_name
from captioner.data.formats.io import read_lines
from captioner.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from captioner.quality.findings import Finding
from captioner.sources import is_member, short_name

_SUFFIXES = "|".join(re.escape(suffix) for suffix in (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES))
_NAME = re.compile(rf"[^\"',;|#/\\\t]+?(?:{_SUFFIXES})(?![a-z0-9])", re.IGNORECASE)
_JSON = {".jsonl", ".ndjson"}
_LINES = {".txt", ".csv", ".tsv", ".token", *_JSON}
"""Suffixes of files with one row in a line."""


@dataclass(frozen=True)
class _Row:
    """A line of an annotation file."""

    place: str
    split: str
    """The split that the line or the name of its file states, or ""."""
    texts: tuple[str, ...]
    """Values of its columns, or the line itself."""


def add_places(findings: Iterable[Finding], files: Sequence[Path]) -> list[Finding]:
    """Return the findings with the line of their row, `FILE:LINE`, where it can be found.

    A row is found by the file name of its image, and among several by its text and its split.
    Findings that have a place already keep it. Others get the name of the only file, or of the
    image; those of a shard, the names of the shard and of its member.
    """
    findings = list(findings)
    wanted = {os.path.basename(finding.image) for finding in findings if not finding.place}
    rows = _index_rows(wanted - {""}, files)
    return [f if f.place else replace(f, place=_place(f, rows, files)) for f in findings]


def _index_rows(wanted: set[str], files: Sequence[Path]) -> dict[str, list[_Row]]:
    """Return the lines that name a wanted file, by its name."""
    index: dict[str, list[_Row]] = {}
    for path in files if wanted else ():
        suffix = path.suffix.lower()
        if suffix not in _LINES:
            continue
        for place, line in read_lines(path):
            texts = _split_line(line, suffix)
            names = {os.path.basename(text) for text in texts} & wanted
            if (match := _NAME.search(line)) and match[0].strip() in wanted:
                names.add(match[0].strip())
            for name in names:
                split = _find_split(texts, path)
                index.setdefault(name, []).append(_Row(place, split, (*texts, line)))
    return index


def _split_line(line: str, suffix: str) -> tuple[str, ...]:
    """Return the values of a line of JSON or CSV; () if it has another form."""
    if suffix in _JSON:
        try:
            return tuple(_list_texts(json.loads(line)))
        except (ValueError, RecursionError):
            return ()
    try:
        cells = next(csv.reader([line], delimiter="\t" if suffix == ".tsv" else ","), [])
    except csv.Error:
        return ()
    return tuple(map(str.strip, cells))


def _list_texts(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _list_texts(item)


def _find_split(texts: Sequence[str], path: Path) -> str:
    splits = (normalize_split(text) for text in texts if 0 < len(text) < 16)
    known = (split for split in splits if split in ("train", "val", "test"))
    return next(known, split_in_file_name(path) or "")


def _place(finding: Finding, index: dict[str, list[_Row]], files: Sequence[Path]) -> str:
    rows = index.get(os.path.basename(finding.image), [])
    if finding.text:
        quoted = finding.text.replace('"', '""')
        same = [row for row in rows if any(_holds(t, finding.text, quoted) for t in row.texts)]
        rows = same or rows
    rows = [row for row in rows if row.split == finding.split] or rows
    if rows:
        return rows[-1 if finding.kind == "duplicate-row" else 0].place
    if len(files) == 1 and not is_member(finding.image):
        return files[0].name
    return short_name(finding.image)


def _holds(value: str, text: str, quoted: str) -> bool:
    return text in value or quoted in value
