"""Read a shard from its start to its end, with constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from captioner.data.report import Report
from captioner.data.shards.parquet_rows import read_parquet
from captioner.data.shards.shard_files import PARQUET, check_suffixes, describe_shard, open_shard
from captioner.data.shards.tar_index import (
    DAMAGED_SHARD,
    IndexRow,
    add_texts,
    member_kind,
    split_key,
)
from captioner.data.shards.tar_members import TarDamageError, read_headers

_BUFFER = 2**20


class ShardRow(NamedTuple):
    """A row of a shard with its image."""

    key: str
    """Unique within the shard."""
    name: str
    """Name of the image: that of the member, or the path in a Parquet file; may be empty."""
    image: bytes
    """Content of the image file; empty if the row names a file instead, or has no image."""
    fields: dict[str, Any]
    """The values of the row by column, as in a row of JSONL. The lines of a text file are
    `captions`."""


def iterate_shard(url: str, report: Report | None = None) -> Iterator[ShardRow]:
    """Yield the rows of a shard in order; only one row is in memory.

    The members of a row must follow each other in a tar file, as WebDataset requires.

    Args:
        url: A path or URL of a tar file in the layout of WebDataset, or of a Parquet file.
        report: Receives the rows that cannot be used.

    Raises:
        DataError: The file cannot be read, or it is compressed.
    """
    report = Report() if report is None else report
    shard = describe_shard(url)
    if check_suffixes(url, [url]) == PARQUET:
        for row in read_parquet(url, report):
            yield ShardRow(row.key, row.name, row.image or b"", row.fields)
    else:
        yield from _iterate_tar(url, shard.size, shard.name, report)


def _iterate_tar(url: str, size: int, name: str, report: Report) -> Iterator[ShardRow]:
    row, image = IndexRow(""), ("", b"")
    with open_shard(url, buffer=_BUFFER) as file:
        try:
            for member in read_headers(file, size):
                key, ending = split_key(member.name)
                kind = member_kind(key, ending)
                if kind is None or not member.is_file:
                    continue
                if key != row.key:
                    yield from _finish(row, image)
                    row, image = IndexRow(key), ("", b"")
                file.seek(member.offset)
                if kind == "image":
                    image = image if image[0] else (member.name, file.read(member.size))
                elif kind != "audio":
                    where = f"{name}::{member.name}"
                    add_texts(row, kind, file.read(member.size), where, report)
        except TarDamageError as error:
            report.add(DAMAGED_SHARD, f"{name}: {error}")
    yield from _finish(row, image)


def _finish(row: IndexRow, image: tuple[str, bytes]) -> Iterator[ShardRow]:
    if image[0]:
        captions = {} if row.captions is None else {"captions": row.captions}
        yield ShardRow(row.key, *image, (row.fields or {}) | captions)
