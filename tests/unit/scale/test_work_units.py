"""Input shards: folders, patterns, keys of images, and stamps."""

from __future__ import annotations

import os

import pytest
from scale_inputs import make_tars, png

from captioner.errors import DataError
from captioner.scale.work_units import InputOptionsError, WorkUnit, check_output, find_units

pytest.importorskip("fsspec")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "b.c.png", "sub/d.png", ".hidden.png", "notes.txt"):
        (folder / name).write_bytes(png(0))
    return folder


def test_images_are_cut_into_chunks_in_the_order_of_their_names(images):
    units = list(find_units(str(images), chunk=2))
    assert [[name for name, _ in unit.members] for unit in units] == [
        ["a.jpg", "a.png"],
        ["b.c.png"],
    ]
    assert [unit.kind for unit in units] == ["images", "images"]
    (unit,) = find_units(str(images), chunk=9, recursive=True)
    assert unit.members[-1] == ("sub/d.png", "sub/d")
    assert "a.jpg to sub/d.png" in unit.label


def test_keys_have_no_dots_and_differ(images):
    (unit,) = find_units(str(images), chunk=9)
    assert dict(unit.members) == {"a.jpg": "a", "a.png": "a_png", "b.c.png": "b_c"}


def test_a_shard_survives_json(images):
    (unit,) = find_units(str(images), chunk=9)
    assert WorkUnit.from_json(unit.to_json()) == unit


@pytest.mark.parametrize("change", ["content", "time"])
def test_the_stamp_changes_with_the_image(images, change):
    (before,) = find_units(str(images), chunk=9)
    if change == "content":
        (images / "a.png").write_bytes(b"other")
    else:
        os.utime(images / "a.png", (1, 1))
    (after,) = find_units(str(images), chunk=9)
    assert before.members == after.members
    assert before.stamp != after.stamp


def test_tars_are_shards(tmp_path):
    folder = make_tars(tmp_path / "tars", 3, 1)
    urls = [unit.url for unit in find_units(str(folder), chunk=9)]
    assert urls == [str(folder / f"0{i}.tar") for i in range(3)]
    assert [unit.url for unit in find_units(str(folder / "{01..02}.tar"), chunk=9)] == urls[1:]
    assert [unit.url for unit in find_units(str(folder / "*[12].tar"), chunk=9)] == urls[1:]
    assert [unit.url for unit in find_units(urls[0], chunk=9)] == urls[:1]


def test_remote_folders(tmp_path):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/inputs/one.tar", b"x")
    try:
        (unit,) = find_units("memory://inputs/*.tar", chunk=9)
        (same,) = find_units("memory://inputs", chunk=9)
        (chained,) = find_units("simplecache::memory://inputs", chunk=9)
    finally:
        fs.rm("/inputs", recursive=True)
    assert unit.url.startswith("memory://")
    assert unit.url.endswith("inputs/one.tar")
    assert same.url.endswith("inputs/one.tar")
    assert chained.url == "simplecache::memory://inputs/one.tar"


@pytest.mark.parametrize(
    ("source", "output"),
    [("a", "a"), ("a", "a/b/c"), ("a", "link/b"), ("/", "a"), ("s3://b/a/", "s3://b/a/out")],
)
def test_an_output_in_the_inputs_is_rejected(source, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(InputOptionsError, match="is in the input folder"):
        check_output(source, output)
    check_output("a", "ab")
    check_output("s3://b/a", "a")
    check_output("a", "s3://b/a")


def test_inputs_that_cannot_be_used_are_rejected(images, tmp_path):
    with pytest.raises(DataError, match="no input; expected images"):
        list(find_units(str(images / "notes.txt"), chunk=9))
    with pytest.raises(DataError, match="cannot be read"):
        list(find_units(str(images / "nothing.tar"), chunk=9))
    with pytest.raises(DataError, match="matches no file"):
        list(find_units(str(images / "*.parquet"), chunk=9))
    (images / "x.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"has 3 images and 1 tar file; select one kind"):
        list(find_units(str(images), chunk=9))
    with pytest.raises(DataError, match="cannot be opened"):
        list(find_units("nothing://a/b", chunk=9))
