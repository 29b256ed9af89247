"""The rows of an input shard: images with their keys and fields, in constant memory."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from captioner.data.shards.parquet_rows import parse_image
from captioner.data.shards.tar_index import member_kind, split_key
from captioner.data.shards.urls import describe_failure, join_url, open_url
from captioner.errors import DataError
from captioner.extras import explain_missing
from captioner.scale.work_units import WorkUnit

MAX_BYTES = 2**28
"""The largest file of an image or member that is read."""
_BATCH = 32
"""Rows of a Parquet file that are read together."""


class ShardError(DataError):
    """A shard cannot be read."""


@dataclass(frozen=True)
class ShardRow:
    """One image of a shard."""

    key: str
    """The name of the row: that of WebDataset, the column `key`, or the path without suffix."""
    image: bytes | None
    """The file of the image; None if there is an `error`."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The JSON object of a WebDataset row, or the columns of a Parquet row that are read."""
    name: str = ""
    """The path of the image, as the input gives it."""
    members: Mapping[str, bytes] = field(default_factory=dict)
    """The other files of a WebDataset row, by extension."""
    error: str = ""
    """Why there is no image."""


@dataclass(frozen=True)
class Columns:
    """The columns of a Parquet file that are read."""

    image: str = "image"
    key: str = "key"
    question: str | None = None


def iterate_rows(unit: WorkUnit, columns: Columns) -> Iterator[ShardRow]:
    """Yield the rows of a shard in order.

    An image that cannot be read is a row with an `error`.

    Raises:
        ShardError: The shard cannot be read, or ends in the middle of a row.
    """
    try:
        if unit.kind == "tar":
            yield from _read_tar(unit.url)
        elif unit.kind == "parquet":
            yield from _read_parquet(unit.url, columns)
        else:
            for name, key in unit.members:
                image, error = _read_image(join_url(unit.url, name), name)
                yield ShardRow(key, image, name=name, error=error)
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise ShardError(f"{unit.url}: cannot be read ({describe_failure(error)})") from None


@dataclass(frozen=True, eq=False)
class _Member:
    """A file of a WebDataset row."""

    name: str
    extension: str
    content: bytes | None
    """None if the file is larger than MAX_BYTES."""


def _read_tar(url: str) -> Iterator[ShardRow]:
    """Yield the rows of a WebDataset: adjacent members whose names agree up to the first dot."""
    key = ""
    members: list[_Member] = []
    with open_url(url) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # otherwise all are kept
            name = member.name.removeprefix("./")
            stem, extension = split_key(name)
            if not member.isreg() or not os.path.basename(stem):  # a hidden file
                continue
            if members and stem != key:
                yield from _make_rows(key, members)
                members = []
            key = stem
            content = None
            if member.size <= MAX_BYTES:
                data = archive.extractfile(member)
                assert data is not None  # a regular file
                content = data.read()
            members.append(_Member(name, extension, content))
    if members:
        yield from _make_rows(key, members)


def _make_rows(key: str, members: Sequence[_Member]) -> Iterator[ShardRow]:
    """Yield a row for each image of a key; the first one has the other files of the key."""
    images = [m for m in members if member_kind(key, m.extension) == "image"]
    others = [m for m in members if m not in images]
    fields = _parse_fields(others)
    if not images:
        names = ", ".join(m.extension for m in members)
        error = f"{key}: has no image among {names}"
        yield ShardRow(key, None, fields, key, _collect(others), error)
    for number, image in enumerate(images):
        error = "" if image.content is not None else _describe_size(image.name)
        files = [m for m in members if m is image or (number == 0 and m in others)]
        yield ShardRow(key, image.content, fields, image.name, _collect(files), error)


def _collect(members: Iterable[_Member]) -> dict[str, bytes]:
    """Return the contents of members by extension, with a number for each repeated one."""
    contents: dict[str, bytes] = {}
    for member in members:
        extension, number = member.extension, 1
        while extension in contents:
            number += 1
            extension = f"{member.extension}.{number}"
        if member.content is not None:
            contents[extension] = member.content
    return contents


def _parse_fields(members: Sequence[_Member]) -> dict[str, Any]:
    """Return the JSON object of a row, with the text of `question.txt` as its question."""
    contents = _collect(members)
    try:
        fields = dict(json.loads(contents.get("json", b"{}")))
    except (ValueError, TypeError, RecursionError):
        fields = {}
    if "question.txt" in contents:
        fields["question"] = contents["question.txt"].decode("utf-8", "replace").strip()
    return fields


def _read_parquet(url: str, columns: Columns) -> Iterator[ShardRow]:
    with explain_missing("captioner scale"):
        import pyarrow
        import pyarrow.parquet as pq
    folder, number = os.path.dirname(url), 0
    stem = os.path.splitext(os.path.basename(url))[0]
    try:
        with open_url(url) as file, pq.ParquetFile(file, buffer_size=2**20) as table:
            names = table.schema_arrow.names
            for name in filter(None, (columns.image, columns.question)):
                if name not in names:
                    has = ", ".join(names)
                    raise ShardError(f"{url}: has no column {name!r}; its columns are {has}")
            wanted = (columns.image, columns.question, columns.key)
            chosen = [name for name in names if name in wanted]
            for batch in table.iter_batches(batch_size=_BATCH, columns=chosen):
                for row in batch.to_pylist():
                    value = row.pop(columns.image)
                    key = row.get(columns.key)
                    key = f"{stem}-{number:08}" if key in (None, "") else str(key)
                    yield _make_parquet_row(key, value, row, folder)
                    number += 1
    except pyarrow.ArrowException as error:
        raise ShardError(f"{url}: cannot be read ({describe_failure(error)})") from None


def _make_parquet_row(key: str, value: Any, row: Mapping[str, Any], folder: str) -> ShardRow:
    """Return a row; the value of its image is bytes, a path, or an object with one of them."""
    image, path = parse_image(value)
    name = path or key
    if image is not None:
        error = _describe_size(name) if len(image) > MAX_BYTES else ""
        return ShardRow(key, None if error else image, row, name, error=error)
    if not path:
        kind = type(value).__name__
        problem = f"{key}: the image is {kind}; expected bytes, a path or both in a struct"
        return ShardRow(key, None, row, name, error=problem)
    image, error = _read_image(join_url(folder, path), path)
    return ShardRow(key, image, row, name, error=error)


def _read_image(url: str, name: str) -> tuple[bytes | None, str]:
    """Return the content of a file and no error, or None and the reason."""
    try:
        if os.path.lexists(url) and not os.path.isfile(url):  # opening a pipe would block
            return None, f"{name}: is no regular file"
        with open_url(url) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, DataError) as error:
        return None, f"{name}: cannot be read ({describe_failure(error)})"
    if len(content) > MAX_BYTES:
        return None, _describe_size(name)
    return content, ""


def _describe_size(name: str) -> str:
    return f"{name}: is larger than {MAX_BYTES >> 20} MiB, which is too large for one image"
