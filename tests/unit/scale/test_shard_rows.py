"""The rows of tars, Parquet files and folders, and their errors."""

from __future__ import annotations

import pytest
from scale_inputs import make_parquet, make_tar, png

from captioner.scale import shard_rows
from captioner.scale.shard_rows import Columns, ShardError, iterate_rows
from captioner.scale.work_units import WorkUnit, find_units


def read(path, columns=None):
    (unit,) = find_units(str(path), chunk=99)
    return list(iterate_rows(unit, columns or Columns()))


def test_members_of_a_tar_are_grouped_by_key(tmp_path):
    members = {
        "a.png": png(0),
        "a.json": b'{"question": "why?"}',
        "a.cls": b"3",
        "d/b.c.jpg": png(1),
    }
    first, second = read(make_tar(tmp_path / "x.tar", members))
    assert (first.key, first.name, first.image) == ("a", "a.png", png(0))
    assert first.fields == {"question": "why?"}
    assert set(first.members) == {"png", "json", "cls"}
    assert (second.key, second.name, second.image) == ("d/b", "d/b.c.jpg", png(1))


def test_rows_of_a_tar_without_a_usable_image_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_rows, "MAX_BYTES", 2**20)
    members = {"a.txt": b"no image", "b.png": b"x" * (2**20 + 1), "c.png": png(0)}
    first, second, third = read(make_tar(tmp_path / "x.tar", members))
    assert first.error == "a: has no image among txt"
    assert second.error.startswith("b.png: is larger than 1 MiB")
    assert second.image is None
    assert not third.error


def test_each_image_of_a_key_is_a_row(tmp_path):
    members = {
        "k.a.jpg": png(0),
        "k.json": b'{"question": "why?"}',
        "k.b.jpg": png(1),
        "z.jpg": png(2),
        "./z.jpg": png(3),
        "z.png": png(4),
    }
    rows = read(make_tar(tmp_path / "x.tar", members))
    assert [row.key for row in rows] == ["k", "k", "z", "z", "z"]
    assert [row.name for row in rows] == ["k.a.jpg", "k.b.jpg", "z.jpg", "z.jpg", "z.png"]
    assert [row.image for row in rows] == [png(i) for i in range(5)]
    assert [set(row.members) for row in rows[:2]] == [{"a.jpg", "json"}, {"b.jpg"}]
    assert rows[1].fields == {"question": "why?"}


def test_repeated_files_of_a_row_are_kept(tmp_path):
    members = {"a.cls": b"1", "./a.cls": b"2", "a.cls.2": b"3", "a.png": png(0)}
    (row,) = read(make_tar(tmp_path / "x.tar", members))
    assert row.members == {"cls": b"1", "cls.2": b"2", "cls.2.2": b"3", "png": png(0)}


def test_a_truncated_tar_is_an_error_of_the_shard(tmp_path):
    path = make_tar(tmp_path / "x.tar", {f"{i}.png": png(i) for i in range(9)})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ShardError, match=r"x\.tar: cannot be read"):
        read(path)
    path.write_bytes(b"no archive" * 100)
    with pytest.raises(ShardError, match=r"x\.tar: cannot be read"):
        read(path)


def test_images_of_parquet_files(tmp_path):
    (tmp_path / "p.png").write_bytes(png(2))
    rows = [
        {"image": {"bytes": png(0), "path": "one.png"}, "question": "why?"},
        {"image": {"bytes": None, "path": "p.png"}, "question": None},
        {"image": {"bytes": None, "path": "gone.png"}, "question": None},
        {"image": {"bytes": None, "path": None}, "question": None},
    ]
    columns = Columns(question="question")
    first, second, third, fourth = read(make_parquet(tmp_path / "x.parquet", rows), columns)
    assert (first.key, first.name, first.image) == ("x-00000000", "one.png", png(0))
    assert first.fields["question"] == "why?"
    assert second.image == png(2)
    assert third.error == "gone.png: cannot be read (No such file or directory)"
    assert "expected bytes, a path" in fourth.error


@pytest.mark.parametrize("value", [png(0), "p.png"])
def test_plain_columns_of_bytes_or_paths(tmp_path, value):
    (tmp_path / "p.png").write_bytes(png(0))
    (row,) = read(make_parquet(tmp_path / "x.parquet", [{"image": value, "key": 7}]))
    assert (row.key, row.image) == ("7", png(0))
    (row,) = read(make_parquet(tmp_path / "y.parquet", [{"image": value, "key": ""}]))
    assert row.key == "y-00000000"


def test_a_missing_column_is_an_error_of_the_shard(tmp_path):
    path = make_parquet(tmp_path / "x.parquet", [{"picture": png(0)}])
    with pytest.raises(ShardError, match="no column 'image'; its columns are picture"):
        read(path)
    assert read(path, Columns(image="picture"))[0].image == png(0)
    path.write_bytes(b"no table")
    with pytest.raises(ShardError, match=r"x\.parquet: cannot be read"):
        read(path)


def test_files_of_a_folder_that_cannot_be_read_are_errors(tmp_path):
    unit = WorkUnit("images", str(tmp_path), "", (("gone.png", "gone"), ("sub", "sub")))
    (tmp_path / "sub").mkdir()
    gone, folder = iterate_rows(unit, Columns())
    assert gone.error == "gone.png: cannot be read (No such file or directory)"
    assert folder.error == "sub: is no regular file"
