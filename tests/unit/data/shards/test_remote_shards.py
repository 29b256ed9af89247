"""Shards on a server (a file system in memory), and the bound of the local cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from shard_files import write_parquet, write_tar

from captioner.data import read_dataset
from captioner.data.report import UNREAD_FILE
from captioner.data.shards import shard_cache
from captioner.data.shards.shard_files import find_shard_files
from captioner.data.shards.urls import expand_braces
from captioner.errors import DataError
from captioner.sources import parse_member, read_member

ROOT = Path(__file__).parents[4]
CONTENT = [bytes([n]) * 4000 for n in range(6)]


@pytest.fixture
def server(tmp_path):
    """Upload three tar files with two images each; return the URL of their folder."""
    memory = fsspec.filesystem("memory")
    for number in range(3):
        members = []
        for n in (2 * number, 2 * number + 1):
            members += [(f"{n}.jpg", CONTENT[n]), (f"{n}.txt", f"number {n}")]
        path = write_tar(tmp_path / "local" / f"train-{number:03d}.tar", members)
        memory.put(str(path), f"/bucket/train-{number:03d}.tar")
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)
    for file in shard_cache._held.values():
        file.close()
    shard_cache._held.clear()


def read(root, cache, gigabytes=1.0):
    table, _ = read_dataset(root, cache_dir=cache, cache_gb=gigabytes)
    return [parse_member(row["image"]) for row in table]


def size_of(cache: Path) -> int:
    return sum(p.stat().st_size for p in (cache / "shards").rglob("*.tar"))


@pytest.mark.parametrize("name", ["", "/train-{000..002}.tar", "/train-*.tar"])
def test_shards_are_copied_and_read_in_order(server, tmp_path, name):
    members = read(server + name, tmp_path / "cache")
    assert [member.name for member in members] == [f"{n}.jpg" for n in range(6)]
    assert [read_member(member) for member in members] == CONTENT
    assert all(Path(member.container).is_file() for member in members)


def test_shards_beyond_the_bound_are_read_by_range_requests(server, tmp_path):
    limit = 1.5 * (tmp_path / "local" / "train-000.tar").stat().st_size
    members = read(server, tmp_path / "cache", limit / 1e9)
    local = [Path(member.container).is_file() for member in members]
    assert local == [True, True, False, False, False, False]
    assert members[-1].container == "memory://bucket/train-002.tar"
    assert [read_member(member) for member in members] == CONTENT
    assert size_of(tmp_path / "cache") <= limit


def test_unused_shards_are_deleted_for_others_and_used_ones_are_not(server, tmp_path):
    size = (tmp_path / "local" / "train-000.tar").stat().st_size
    cache, limit = tmp_path / "cache", 1.9 * size / 1e9
    fsspec.filesystem("memory").copy("/bucket/train-000.tar", "/bucket/other/a.tar")
    (first, _) = read(f"{server}/train-000.tar", cache, limit)
    (other, _) = read(f"{server}/other/a.tar", cache, limit)
    assert (Path(first.container).exists(), Path(other.container).exists()) == (True, False)
    shard_cache._held.popitem()[1].close()  # as if the processes had ended
    shard_cache._held.popitem()[1].close()
    (other, _) = read(f"{server}/other/a.tar", cache, limit)
    assert (Path(first.container).exists(), Path(other.container).exists()) == (False, True)


def test_interrupted_copy_leaves_nothing(server, tmp_path, monkeypatch):
    cache = tmp_path / "cache"

    def fail(self, length=-1):
        raise ConnectionError("the line is down\nsecond line")

    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.memory.MemoryFile.read", fail)
        with pytest.raises(DataError, match=r"train-00\d\.tar: cannot be read .*line is down\)"):
            read(server, cache)
    assert {p.suffix for p in (cache / "shards").rglob("*.*")} == {".lock"}
    assert len(read(server, cache)) == 6


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("memory://bucket/none-{0..1}.tar", "no such file"),
        ("memory://nothing", "no such file|no shards"),
        ("nosuch://bucket/a.tar", "(?i)protocol not known"),
        ("missing-*.tar", "no such file"),
        ("memory://bucket/train-000.tar.gz", "is compressed"),
    ],
)
def test_problems_are_one_line(server, tmp_path, root, message):
    with pytest.raises(DataError, match=message) as caught:
        read(root, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_format_must_match_the_shards(server, tmp_path):
    with pytest.raises(DataError, match="is in the format 'webdataset', not 'jsonl'"):
        read_dataset(server, format="jsonl", cache_dir=tmp_path)


def test_parquet_beyond_the_bound_is_an_error(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [{"image": CONTENT[0], "caption": "one"}])
    with pytest.raises(DataError, match=r"exceed the cache.*raise data\.cache_gb"):
        read(str(path), tmp_path / "cache", 1e-9)
    assert read_member(read(str(path), tmp_path / "cache")[0]) == CONTENT[0]


def test_remote_parquet(server, tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [{"image": c, "caption": "x"} for c in CONTENT])
    fsspec.filesystem("memory").put(str(path), "/bucket/tables/a.parquet")
    members = read(f"{server}/tables/*.parquet", tmp_path / "cache")
    assert [read_member(member) for member in members] == CONTENT


@pytest.mark.parametrize("kind", ["local", "remote", "url"])
def test_parquet_files_beside_tar_files_are_reported(kind, server, tmp_path):
    folder, memory = tmp_path / "local", fsspec.filesystem("memory")
    for name in ("more.parquet", "sub/x.parquet", "train-000.parquet"):  # the last describes a tar
        path = write_parquet(folder / name, [{"image": CONTENT[0], "caption": "one"}])
        memory.put(str(path), f"/bucket/{name}")
    root = {"local": folder, "remote": server, "url": f"file://{folder}"}[kind]
    rows, report = read_dataset(root, cache_dir=tmp_path / "cache")
    assert len(rows) == 6
    assert {kind: set(problem.names) for kind, problem in report} == {
        UNREAD_FILE: {"more.parquet (parquet)", "x.parquet (parquet)"}
    }


def test_local_patterns(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "local"
    assert find_shard_files("local/train-{001,000}.tar").shards == [
        str(folder / "train-001.tar"),
        str(folder / "train-000.tar"),
    ]
    assert len(find_shard_files(f"file://{folder}/train-00[01].tar").shards) == 2
    assert len(read(folder / "train-*.tar", tmp_path / "cache")) == 6
    assert expand_braces("{a,b}-{8..10}") == ["a-8", "a-9", "a-10", "b-8", "b-9", "b-10"]
    assert expand_braces("x{08..11}.tar") == ["x08.tar", "x09.tar", "x10.tar", "x11.tar"]


def test_two_processes_index_the_same_shards(server, tmp_path):
    code = (
        "import sys; from captioner.data.example_rows import collect_rows, select_examples\n"
        "s = select_examples(sys.argv[1], format='auto', splits=None, images=None,"
        " check_images=True, require_answers=True, cache_dir=sys.argv[2])\n"
        "print(*[row.image for row in collect_rows(sys.argv[1], s)[0]])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "local"), str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == 6
    assert {p.suffix for p in (tmp_path / "cache").rglob("*.*")} == {".lock", ".json"}
