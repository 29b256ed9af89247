"""Each row of a data set is used, belongs to another split, or is reported."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from data_files import write_lines
from hypothesis import given, settings
from row_sets import FORMATS, WANTED, images, missing_images, rows_of_captions, splits_of_images

from captioner.data import Report
from captioner.data.example_checks import Selection, read_examples
from captioner.data.formats.registry import resolve_format
from captioner.errors import DataError


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=30)
@given(rows_of_captions, splits_of_images, missing_images)
def test_all_written_rows_are_read_or_reported(name, rows, splits, missing):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written = FORMATS[name](root, rows, splits)
        kind = name.partition(" ")[0]
        if kind == "texts":
            missing = set()  # in this format, a text file without an image has no rows
        images(kind, root, splits, missing)
        try:
            resolve_format(root, kind)
        except DataError:
            assert kind == "texts"
            assert written == 0
            return
        report = Report()
        selection = Selection(root, kind, splits=WANTED)
        found = list(read_examples(selection, report, Counter()))
    assert report.rows == written
    assert report.used.total() == sum(example.rows for example in found)
    assert set(report.used) <= set(WANTED)
    # An independent count: each text contains the number of its row.
    markers = [text for example in found for text in example.references]
    if kind != "easy_vqa":
        assert len(set(markers)) == len(markers)
        assert len(markers) == report.used.total()
    assert report.dropped == sum(problem.rows for _, problem in report)
    assert all(count > 0 for count in report.unused.values())


def test_list_in_a_row_counts_as_one_row(tmp_path, read):
    rows = [{"image": "a.jpg", "captions": ["a dog", " ", "a cat"]}, {"image": "a.jpg"}]
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a cat")
    assert (report.rows, report.used, report.dropped) == (2, {"train": 1}, 1)
    assert report.problems["empty caption"].count == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"),
        ("eval", "val"),
        ("Evaluation", "val"),
        ("dev", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("testing", "test"),
        ("test", "test"),
        ("holdout", "holdout"),
    ],
)
def test_split_names_are_normalized(name, expected, tmp_path, read):
    write_lines(
        tmp_path / "own.jsonl", [json.dumps({"image": "a.jpg", "text": "x", "split": name})]
    )
    (tmp_path / "a.jpg").touch()
    (example,), _ = read(tmp_path, splits=None)
    assert example.split == expected


def test_rows_of_other_splits_are_counted(tmp_path, read):
    splits = ["train"] * 6 + ["eval"] * 3 + ["holdout"] * 2 + ["fold 3"]
    rows = [
        {"image": f"{i}.jpg", "text": f"row {i}", "split": name} for i, name in enumerate(splits)
    ]
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    for i in range(len(splits)):
        (tmp_path / f"{i}.jpg").touch()
    found, report = read(tmp_path, splits=WANTED)
    assert len(found) == 9
    assert report.used == {"train": 6, "val": 3}
    assert report.unused == {"holdout": 2, "fold 3": 1}
    assert report.rows == 12


def test_unread_files_are_reported(tmp_path, read):
    for name in ("train.jsonl", "val.jsonl", "more.jsonl", "old.csv"):
        line = "image,caption" if name.endswith("csv") else '{"image": "a.jpg", "text": "a dog"}'
        write_lines(tmp_path / name, [line])
    write_lines(tmp_path / "notes.csv", ["day,weather"])
    (tmp_path / "a.jpg").touch()
    _, report = read(tmp_path)
    (problem,) = (problem for kind, problem in report if "left unread" in kind)
    assert problem.names == ["more.jsonl (jsonl)", "old.csv (csv)"]
    _, report = read(tmp_path / "train.jsonl")  # an explicit path: no other file can be meant
    assert not report


def test_rows_with_id_but_no_image_are_references(tmp_path, read):
    rows = [{"id": 1, "caption": "a dog"}, {"image_id": "x", "caption": "a cat"}, {"caption": "?"}]
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    found, report = read(tmp_path, check_images=False)
    assert [(e.image_id, e.references) for e in found] == [("1", ("a dog",)), ("x", ("a cat",))]
    assert report.problems["row that cannot be parsed"].names == ["own.jsonl:3"]
    with pytest.raises(DataError, match="missing image: 2"):
        read(tmp_path)
