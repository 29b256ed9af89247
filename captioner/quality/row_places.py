"""Find the file and the line of the rows that findings are about."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.formats.io import read_lines
from captioner.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from captioner.quality.findings import Finding
from captioner.sources import is_member, short_name

_SUFFIXES = "|".join(re.escape(suffix) for suffix in (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES))
_NAME = re.compile(rf"[^\"',;|#/\\\t]+?(?:{_SUFFIXES})(?![a-z0-9])", re.IGNORECASE)
_LINES = {".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".token"}
"""Suffixes of files with one row in a line."""


def add_places(findings: Iterable[Finding], files: Sequence[Path]) -> list[Finding]:
    """Return the findings with the line of their row, `FILE:LINE`, where it can be found.

    A row is found by the file name of its image, and among several by its text. Findings that
    have a place already keep it. Others get the name of the only file, or of the image; those of a
    shard, the names of the shard and of its member.
    """
    findings = list(findings)
    wanted = {os.path.basename(finding.image) for finding in findings if not finding.place}
    lines = _index_lines(wanted - {""}, files)
    return [f if f.place else replace(f, place=_place(f, lines, files)) for f in findings]


def _index_lines(wanted: set[str], files: Sequence[Path]) -> dict[str, list[tuple[str, str]]]:
    """Return `(file:line, text)` of the lines that name a wanted file, by its name."""
    index: dict[str, list[tuple[str, str]]] = {}
    for path in files if wanted else ():
        if path.suffix.lower() not in _LINES:
            continue
        for place, line in read_lines(path):
            match = _NAME.search(line)
            if match and (name := match[0].strip()) in wanted:
                index.setdefault(name, []).append((place, line))
    return index


def _place(finding: Finding, lines: dict[str, list[tuple[str, str]]], files: Sequence[Path]) -> str:
    rows = lines.get(os.path.basename(finding.image), [])
    if finding.text:
        spellings = {finding.text, json.dumps(finding.text)[1:-1]}
        spellings |= {text.replace('"', '""') for text in spellings}
        rows = [row for row in rows if any(text in row[1] for text in spellings)] or rows
    if rows:
        return rows[0][0]
    if len(files) == 1 and not is_member(finding.image):
        return files[0].name
    return short_name(finding.image)
