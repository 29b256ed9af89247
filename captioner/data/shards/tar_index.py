"""List the rows of a tar file in the layout of WebDataset, with the places of their images.

The members of a row have a key in common: the path up to the first dot of the file name. `a/1.jpg`
is the image, `a/1.txt` has one caption per line, and `a/1.json` the keys of a JSONL row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from captioner.data.report import BAD_ROW, DUPLICATE, MISSING_IMAGE, Problem, Report
from captioner.data.shards.tar_members import TarDamageError, TarMember, read_headers
from captioner.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from captioner.sources import TAIL, tail_checksum

DAMAGED_SHARD = "damaged shard (the rows before the damage are used)"
UNREAD_MEMBER = "member left unread (expected an image, a recording, .txt or .json)"
_INPUTS = {suffix[1:]: "image" for suffix in IMAGE_SUFFIXES}
_INPUTS |= {suffix[1:]: "audio" for suffix in AUDIO_SUFFIXES}


class Place(NamedTuple):
    """Where the bytes of an image or a recording are."""

    name: str
    offset: int
    """-1 if the name is the path of a file."""
    size: int
    checksum: int


@dataclass
class IndexRow:
    """A row of a shard."""

    key: str
    image: Place | None = None
    audio: Place | None = None
    captions: list[str] | None = None
    """Lines of the text file."""
    fields: dict[str, Any] | None = None
    """Values of the row by column, as in a row of JSONL."""


@dataclass(frozen=True)
class ShardIndex:
    """The rows of a shard and the problems with its members."""

    rows: list[IndexRow]
    report: Report

    def to_json(self) -> bytes:
        """Return the index as a JSON document in ASCII."""
        rows = [[r.key, r.image, r.audio, r.captions, r.fields] for r in self.rows]
        problems = {k: [p.count, p.rows, p.names] for k, p in self.report}
        return json.dumps([rows, problems], separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ShardIndex:
        """Return the index from a JSON document; raise ValueError."""
        rows, problems = json.loads(data)
        report = Report()
        for kind, values in problems.items():
            report.problems[kind] = Problem(*values)
        return cls(
            [
                IndexRow(key, image and Place(*image), audio and Place(*audio), captions, fields)
                for key, image, audio, captions, fields in rows
            ],
            report,
        )


def split_key(name: str) -> tuple[str, str]:
    """Return the key of a member, and what follows the first dot of its file name."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}{slash}{stem}", ending


def index_tar(file: BinaryIO, size: int, name: str) -> ShardIndex:
    """Return the rows of a tar file, of which only headers, texts and ends of images are read.

    The rows are in the order of their first members, wherever the others are.

    Args:
        file: The tar file, seekable.
        size: Number of its bytes.
        name: Its name, for the report.
    """
    report, rows = Report(), dict[str, IndexRow]()
    for member in _read_members(file, size, name, report):
        key, ending = split_key(member.name)
        kind = member_kind(key, ending)
        where = f"{name}::{member.name}"
        if kind is None or not member.is_file:
            report.add(UNREAD_MEMBER, where)
            continue
        row = rows.get(key)
        if row is None:
            row = rows[key] = IndexRow(key)
        if getattr(row, kind) is not None:
            report.add(DUPLICATE, f"{where} (second {kind} of {key})", rows=int(kind == "image"))
        elif kind in ("image", "audio"):
            setattr(row, kind, _locate(file, member))
        else:
            file.seek(member.offset)
            add_texts(row, kind, file.read(member.size), where, report)
    return ShardIndex(list(_complete_rows(rows.values(), name, report)), report)


def member_kind(key: str, ending: str) -> str | None:
    """Return the attribute of `IndexRow` that a member gives, or None if it is not read."""
    if not key or key.endswith("/"):
        return None  # a hidden file
    ending = ending.lower()
    if ending in ("txt", "json"):
        return "captions" if ending == "txt" else "fields"
    return _INPUTS.get(ending.rpartition(".")[2])


def add_texts(row: IndexRow, kind: str, data: bytes, where: str, report: Report) -> None:
    """Add the content of a text file or of a JSON file to a row; report a broken one."""
    text = data.decode("utf-8-sig", "surrogateescape")
    if kind == "captions":
        row.captions = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
        return
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        row.fields = fields
    else:
        report.add(BAD_ROW, where, rows=1)


def _read_members(file: BinaryIO, size: int, name: str, report: Report) -> Iterator[TarMember]:
    try:
        yield from read_headers(file, size)
    except TarDamageError as error:
        report.add(DAMAGED_SHARD, f"{name}: {error}")


def _locate(file: BinaryIO, member: TarMember) -> Place:
    tail = min(TAIL, member.size)
    file.seek(member.offset + member.size - tail)
    return Place(member.name, member.offset, member.size, tail_checksum(file.read(tail)))


def _complete_rows(rows: Iterable[IndexRow], name: str, report: Report) -> Iterator[IndexRow]:
    """Yield the rows with an image or a recording, and report the others."""
    for row in rows:
        if row.image or row.audio:
            yield row
        else:
            texts = row.captions if row.fields is None else [row]
            if texts:
                report.add(MISSING_IMAGE, f"{name}::{row.key}", rows=len(texts))
