"""Parts: columns, WebDataset members, equal bytes, and parts that are published once."""

from __future__ import annotations

import json
import tarfile

import pytest
from scale_inputs import png

from captioner.errors import DataError
from captioner.scale.output_folder import AppendedFile, OutputFolder, is_temporary
from captioner.scale.part_files import COLUMNS, count_rows, open_part
from captioner.scale.shard_rows import ShardRow

ROWS = [
    {"key": "a", "image": "a.png", "caption": "a dog", "score": -1.5, "low_confidence": False,
     "captions": [{"caption": "a dog", "score": -1.5, "confidence": 0.2}]},
    {"key": "b", "image": "b.png", "error": "b.png: is empty"},
]  # fmt: skip
SOURCES = [
    ShardRow("a", png(0), name="a.png", members={"png": png(0), "json": b"{}", "cls": b"1"}),
    ShardRow("b", None, name="b.png", error="b.png: is empty"),
]


def write(path, form, *, images=True):
    part = open_part(str(path), form, images=images)
    for row, source in zip(ROWS, SOURCES, strict=True):
        part.add(row, source)
    part.close()
    return path


def test_parquet_has_all_columns(tmp_path):
    import pyarrow.parquet as pq

    table = pq.read_table(write(tmp_path / "x", "parquet"))
    assert tuple(table.column_names) == COLUMNS
    first, second = table.to_pylist()
    assert {name: first[name] for name in ROWS[0]} == ROWS[0]
    assert second["caption"] is None
    assert second["error"] == "b.png: is empty"


def test_a_webdataset_has_the_files_of_the_input_and_the_texts(tmp_path):
    with tarfile.open(write(tmp_path / "x", "webdataset")) as tar:
        names = tar.getnames()
        row = json.load(tar.extractfile("a.json"))
        assert tar.extractfile("a.txt").read() == b"a dog"
    assert names == ["a.png", "a.input.json", "a.cls", "a.json", "a.txt", "b.json"]
    assert row["caption"] == "a dog"
    with tarfile.open(write(tmp_path / "y", "webdataset", images=False)) as tar:
        assert tar.getnames() == ["a.json", "a.txt", "b.json"]


def test_an_image_without_file_name_gets_the_suffix_of_its_format(tmp_path):
    part = open_part(str(tmp_path / "x"), "webdataset", images=True)
    part.add({"key": "a.b", "caption": "a dog"}, ShardRow("a.b", png(0)))
    part.close()
    with tarfile.open(tmp_path / "x") as tar:
        assert tar.getnames() == ["a_b.png", "a_b.json", "a_b.txt"]


def test_names_in_a_webdataset_are_safe_and_unique_and_rows_keep_their_keys(tmp_path):
    keys = ["a.b", "a_b", "a_b_2", "a.b", "/abs/k", "../up", "d/../e", ".h/.x", "__m__/y", "", ".."]
    part = open_part(str(tmp_path / "x"), "webdataset", images=False)
    for key in keys:
        part.add({"key": key, "error": "is empty"}, ShardRow(key, None))
    part.close()
    with tarfile.open(tmp_path / "x") as tar:
        rows = {name: json.load(tar.extractfile(name))["key"] for name in tar.getnames()}
    stems = ["a_b", "a_b_2", "a_b_2_2", "a_b_3", "abs/k", "up", "d/e", "h/x", "m__/y", "row"]
    assert rows == dict(zip([f"{s}.json" for s in [*stems, "row_2"]], keys, strict=True))
    assert count_rows(str(tmp_path / "x"), "webdataset") == (len(keys), len(keys))


def test_files_of_a_row_have_different_extensions(tmp_path):
    members = {"png": png(0), "PNG": b"1", "input.json": b"2", "json": b"3", "a\\b": b"4"}
    part = open_part(str(tmp_path / "x"), "webdataset", images=True)
    part.add({"key": "k", "error": "is empty"}, ShardRow("k", png(0), members=members))
    part.close()
    with tarfile.open(tmp_path / "x") as tar:
        names = tar.getnames()
    expected = ["k.png", "k.input.PNG", "k.input.json", "k.input.input.json", "k.a_b", "k.json"]
    assert names == expected


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_equal_rows_are_equal_bytes_and_are_counted(tmp_path, form):
    first, second = (write(tmp_path / name, form) for name in "xy")
    assert first.read_bytes() == second.read_bytes()
    assert count_rows(str(first), form) == (2, 1)
    with first.open("rb") as file:
        assert count_rows(file, form) == (2, 1)


@pytest.fixture(params=["local", "memory", "store"])
def output(request, tmp_path, monkeypatch):
    if request.param == "local":
        folder = OutputFolder(str(tmp_path / "out"))
        folder.create()
        yield folder
        return
    import fsspec

    if request.param == "store":
        monkeypatch.setattr("captioner.scale.output_folder.OBJECT_STORES", ("memory",))
    folder = OutputFolder("memory://out")
    folder.create()
    yield folder
    fsspec.filesystem("memory").rm("/out", recursive=True)


def test_of_two_attempts_the_first_part_is_kept(output):
    with output.new_part("p") as slow:
        with output.new_part("p") as fast, open(fast, "wb") as file:
            file.write(b"first")
        with open(slow, "wb") as file:
            file.write(b"second, longer")
    assert output.list_parts() == ["p"]
    assert output.size("p") == 5
    assert output.digest("p")[0].startswith("a7937b64b8ca")


def test_a_failed_attempt_leaves_nothing(output):
    attempt = output.new_part("p")
    path = attempt.__enter__()
    assert output.count_attempts("p") == 1
    assert all(map(is_temporary, output.list_parts()))
    with open(path, "wb") as file:
        file.write(b"half")
    error = ValueError("stop")
    assert not attempt.__exit__(type(error), error, None)
    assert output.list_parts() == []
    assert output.size("p") is None


def test_appended_lines_survive_and_a_partial_one_is_removed(output):
    output.write("m.jsonl", b"one\nhal")
    file = AppendedFile(output, "m.jsonl")
    file.append("two")
    file.close()
    assert output.read("m.jsonl") == b"one\ntwo\n"


def test_files_in_the_place_of_folders_are_rejected(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(DataError, match="is a file; give a folder"):
        OutputFolder(str(tmp_path / "out")).is_empty()
