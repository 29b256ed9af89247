"""Indexing of local tar files in several processes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from shard_files import write_tar

from captioner.data.shards import preparation
from captioner.data.shards.shard_cache import ShardCache


def prepare(folder: Path, cache: str) -> list[bytes]:
    """Return the indexes of the shards of a folder, from a new cache."""
    urls = sorted(map(str, folder.glob("*.tar")))
    shards = preparation.prepare_shards(urls, ShardCache(folder / cache, 1e9))
    return [shard.index.to_json() for shard in shards]


@pytest.fixture
def expected(tmp_path, monkeypatch) -> list[bytes]:
    """Write three tar files, the last one damaged; return the indexes that one process writes.

    From then on, several processes index however small the files are.
    """
    for shard in range(3):
        members = [(f"{row}.{kind}", f"{shard} {row}") for row in "ab" for kind in ("jpg", "txt")]
        path = write_tar(tmp_path / f"{shard}.tar", members)
    path.write_bytes(path.read_bytes()[:3000])
    indexes = prepare(tmp_path, "one process")
    assert [index.count(b".jpg") for index in indexes] == [2, 2, 2]
    assert [b"damaged" in index for index in indexes] == [False, False, True]
    monkeypatch.setattr(preparation, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(preparation.os, "cpu_count", lambda: 2)
    return indexes


def test_several_processes_write_the_indexes_of_one(tmp_path, expected, monkeypatch):
    def fail(job):
        raise AssertionError(f"{job.url} is indexed in this process")

    monkeypatch.setattr(preparation, "_index_shard", fail)
    assert prepare(tmp_path, "several") == expected


def test_shards_are_indexed_in_one_process_if_no_other_starts(
    tmp_path, expected, monkeypatch, caplog
):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with caplog.at_level(logging.WARNING):
        assert prepare(tmp_path, "none") == expected
    assert "indexed in one process" in caplog.text
