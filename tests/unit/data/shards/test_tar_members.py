"""Headers of tar files, with `tarfile` as the reference."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_files import write_tar

from captioner.data.shards.tar_members import TarDamageError, read_headers

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = [
    "a.jpg",
    "d/b.jpg",
    "x" * 100 + ".jpg",
    "y/" * 40 + "z.jpg",
    "y/" * 70 + "z.jpg",
    "ü ö.jpg",
    "折.jpg",
]


def read(path):
    with open(path, "rb") as file:
        return list(read_headers(file, path.stat().st_size))


@pytest.mark.parametrize("format", FORMATS)
def test_members_are_those_of_tarfile(tmp_path, format):
    names = [name for name in NAMES if format != tarfile.USTAR_FORMAT or len(name) < 100]
    members = [("d/", b""), *((name, name.encode() * 40) for name in names), ("empty.txt", b"")]
    path = write_tar(tmp_path / "a.tar", members, format=format)
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert [tuple(member)[:3] for member in read(path)] == expected


@given(contents=st.lists(st.binary(max_size=1500), max_size=5), at=st.sampled_from(FORMATS))
def test_sizes_and_offsets(tmp_path_factory, contents, at):
    folder = tmp_path_factory.mktemp("tar")
    path = write_tar(folder / "a.tar", [(f"{i}", c) for i, c in enumerate(contents)], format=at)
    data = path.read_bytes()
    assert [data[m.offset : m.offset + m.size] for m in read(path)] == contents


def test_links_are_not_files(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("link.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "a.jpg"
        tar.addfile(info)
    assert [(m.name, m.is_file) for m in read(path)] == [("link.jpg", False)]


@pytest.mark.parametrize("format", FORMATS)
def test_every_truncation_keeps_complete_members(tmp_path, format):
    names = ["a.jpg", "n" * 120 + ".jpg"] if format != tarfile.USTAR_FORMAT else ["a.jpg", "b.jpg"]
    path = write_tar(tmp_path / "a.tar", [(n, n * 9) for n in names], format=format)
    data, whole = path.read_bytes(), read(path)
    end = whole[-1].offset + -(-whole[-1].size // 512) * 512
    for size in range(0, end + 512, 37):
        with pytest.raises(TarDamageError, match=r"ends at byte|damaged"):
            list(read_headers(io.BytesIO(data[:size]), size))
        assert _collect(data[:size]) == [m for m in whole if m.offset + m.size <= size]


def _collect(data):
    members = []
    try:
        for member in read_headers(io.BytesIO(data), len(data)):
            members.append(member)
    except TarDamageError:
        pass
    return members


def test_damaged_header_names_its_place(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("b.jpg", b"y")])
    data = bytearray(path.read_bytes())
    data[1024 + 124 : 1024 + 135] = b"99999999999"
    with pytest.raises(TarDamageError, match="header at byte 1024 is damaged"):
        list(read_headers(io.BytesIO(data), len(data)))
    assert [m.name for m in _collect(bytes(data))] == ["a.jpg"]
