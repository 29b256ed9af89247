"""Readers of shards: tar files in the layout of WebDataset, and Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.data.example import Example
from captioner.data.formats.csv_jsonl_rows import AUDIO_KEYS, IMAGE_KEYS, Row, parse_row
from captioner.data.formats.io import Source, walk_files
from captioner.data.formats.row_joiner import RowJoiner
from captioner.data.shards.preparation import Shard, prepare_shards
from captioner.data.shards.shard_cache import DEFAULT_GB, ShardCache
from captioner.data.shards.shard_files import (
    COMPRESSED,
    PARQUET,
    TAR,
    check_suffixes,
    common_folder,
    relative_name,
    split_of_shard,
)
from captioner.data.shards.tar_index import IndexRow, Place
from captioner.sources import Member, is_url

_INPUT_KEYS = frozenset((*IMAGE_KEYS, *AUDIO_KEYS))


def find_webdataset(root: Path) -> tuple[Path, ...]:
    """Return a given tar file, or those in a folder and below it.

    Raises:
        DataError: The file is compressed.
    """
    if root.is_file():
        if root.name.lower().endswith(COMPRESSED):
            check_suffixes(str(root), [str(root)])
        return (root,) if root.suffix.lower() == TAR else ()
    return tuple(path for path in walk_files(root) if path.suffix.lower() == TAR)


def read_webdataset(source: Source) -> Iterator[Example]:
    """Read rows whose members have a key in common: image, `.txt` and `.json`.

    Each line of the text file is a caption. The JSON file has the keys of a JSONL row; the captions
    of the text file take the place of its own. The rows of a shard, or of a folder, with the name
    of a split belong to it.
    """
    return _read(source)


def find_parquet(root: Path) -> tuple[Path, ...]:
    """Return a given Parquet file, or those in a folder and below it.

    Files beside a tar file of the same name are left out: they list what the tar file holds.
    """
    if root.is_file():
        return (root,) if root.suffix.lower() == PARQUET else ()
    files = [path for path in walk_files(root) if path.suffix.lower() == PARQUET]
    return tuple(path for path in files if not path.with_suffix(TAR).exists())


def read_parquet_files(source: Source) -> Iterator[Example]:
    """Read rows with an image, as bytes or a path, and the columns of `read_jsonl`."""
    return _read(source)


def _read(source: Source) -> Iterator[Example]:
    urls = source.shards or tuple(map(str, source.files))
    base = common_folder(urls) if source.shards else str(source.root)
    cache = source.cache or ShardCache(None, DEFAULT_GB * 1e9)
    for shard in prepare_shards(urls, cache):
        source.report.merge(shard.index.report)
        yield from _ShardReader(source, shard, relative_name(shard.url, base)).read()


class _ShardReader:
    """Turns the rows of one shard into examples."""

    def __init__(self, source: Source, shard: Shard, relative: str) -> None:
        self._source, self._shard, self._relative = source, shard, relative
        self._prefix = os.path.splitext(relative)[0]
        self._split = split_of_shard(relative) or "train"

    def read(self) -> Iterator[Example]:
        """Yield the rows with a text file only, then the others, joined by question or image."""
        joiner = RowJoiner(self._source)
        for row in self._shard.index.rows:
            image = self._address(row.image) if row.image else ""
            audio = self._address(row.audio) if row.audio else ""
            image, image_id = image or audio, f"{self._prefix}/{row.key}"
            if row.fields is None:
                texts = tuple(row.captions or ())
                yield Example(image, image_id, texts, self._split, rows=len(texts), audio=audio)
            elif parsed := self._parse(row, row.fields):
                split, name = parsed.split or self._split, parsed.image_id or image_id
                where = self._where(row)
                example = Example(image, name, (), split, audio=audio)
                joiner.join(parsed, example, where, question_id=where)
        yield from joiner.examples()

    def _where(self, row: IndexRow) -> str:
        return f"{self._relative}:{row.key}"

    def _parse(self, row: IndexRow, fields: dict[str, Any]) -> Row | None:
        values = {key: value for key, value in fields.items() if key not in _INPUT_KEYS}
        values["image"] = (row.image or row.audio or Place(row.key, 0, 0, 0)).name or row.key
        if row.captions:
            values["captions"] = row.captions
        where, source = self._where(row), self._source
        return parse_row(values, where, source.report, phrases=source.phrases)

    def _address(self, place: Place) -> str:
        """Return the address of a member, or the path of a file beside the shard."""
        if place.offset >= 0:
            return Member(self._shard.container, *place[1:], place.name).address
        if is_url(self._shard.url):
            return f"{self._shard.url.rpartition('/')[0]}/{place.name}"
        folder = self._source.images or os.path.dirname(self._shard.url)
        return os.path.normpath(os.path.join(folder, place.name))
