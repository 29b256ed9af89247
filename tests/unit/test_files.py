"""Atomic writes of files and folders, and lines of CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from captioner import files
from captioner.files import csv_line, format_json, replace_file, write_file


def test_numbers_that_are_not_finite_are_null_in_json():
    value = {"é": [1.5, float("-inf"), {"a": (float("nan"), None, True)}]}
    text = format_json(value)
    assert text == '{"é": [1.5, null, {"a": [null, null, true]}]}'
    assert json.loads(format_json(value, ensure_ascii=True)) == json.loads(text)
    assert format_json({"é": 1}) == '{"é": 1}'


@pytest.mark.parametrize("moment", ["sealed", "moved away"])
def test_interruption_between_two_renames_is_repaired(tmp_path, monkeypatch, moment):
    folder, content = tmp_path / "best", "file"

    def write(text: str) -> None:
        with files.replace_folder(folder, 10) as partial:
            (partial / content).write_text(text)

    write("old")
    rename, done = Path.rename, []

    def stop(self, target):
        done.append(1)
        if len(done) == ("sealed", "moved away").index(moment) + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        write("new")
    monkeypatch.undo()
    assert folder.exists() == (moment == "sealed")
    files.restore_folder(folder)
    assert (folder / content).read_text() == {"sealed": "old", "moved away": "new"}[moment]
    assert not files.find_damage(folder)
    write("newest")
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_csv_is_read_by_the_standard_library(tmp_path):
    values = ["a,b", 'c"d', "e\nf", ""]
    (row,) = csv.reader([csv_line(values)])
    assert row == ["a,b", 'c"d', "e f", ""]


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a"
    replace_file(str(path), b"old")
    monkeypatch.setattr("os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        replace_file(str(path), b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    assert write_file(str(path), b"old", overwrite=False)
    assert not write_file(str(path), b"new", overwrite=False)
    assert path.read_bytes() == b"old"
    assert write_file(str(path), b"new", overwrite=True)
    assert path.read_bytes() == b"new"
