"""Image tags in custom data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from data_files import json_lines, list_problems, pictures, write

from captioner.data import Example

NAMES = ("a.jpg", "b.jpg", "c.jpg")


def tags_of(rows: list[Example]) -> dict[str, tuple[str, ...] | None]:
    return {row.image_id: row.tags for row in rows}


def test_tags_of_an_image_are_joined_over_its_rows(tmp_path, read):
    rows = [
        {"image": "a.jpg", "tags": ["Dog", "traffic  light "]},
        {"image": "b.jpg", "tags": []},
        {"image": "a.jpg", "tags": ["dog", "cat", " "]},
        {"image": "c.jpg", "tags": "dog, 3; wine glass", "split": "dev", "id": 7},
    ]
    write(tmp_path / "x.jsonl", json_lines(*rows))
    pictures(tmp_path, *NAMES)
    found, report = read(tmp_path, splits=None)
    assert [replace(row, image="") for row in found] == [
        Example("", "a.jpg", (), "train", tags=("dog", "traffic light", "cat"), rows=2),
        Example("", "b.jpg", (), "train", tags=()),
        Example("", "7", (), "val", tags=("dog", "3", "wine glass")),
    ]
    assert [row.rows for row in found] == [2, 1, 1]
    assert [row.kind for row in found] == ["tags"] * 3
    assert not report
    assert report.rows == 4


@pytest.mark.parametrize(
    "cell", ['"dog, cat"', "dog;cat", "\"['dog', 'cat']\"", '"[""dog"", ""cat""]"']
)
def test_a_csv_cell_holds_separated_tags_or_a_list(tmp_path, read, cell):
    write(tmp_path / "x.csv", f"image,tags\na.jpg,{cell}\nb.jpg,\nc.jpg,bird\n")
    pictures(tmp_path, *NAMES)
    rows, report = read(tmp_path)
    assert tags_of(rows) == {"a.jpg": ("dog", "cat"), "b.jpg": (), "c.jpg": ("bird",)}
    assert not report


def test_captions_questions_and_tags_of_an_image_are_separate_examples(tmp_path, read):
    rows = [
        {"image": "a.jpg", "tags": ["dog"]},
        {"image": "a.jpg", "caption": "a dog"},
        {"image": "a.jpg", "question": "dog?", "answer": "yes", "type": "presence"},
    ]
    write(tmp_path / "x.jsonl", json_lines(*rows))
    pictures(tmp_path, "a.jpg")
    found, report = read(tmp_path)
    assert [row.kind for row in found] == ["questions", "tags", "captions"]
    assert found[0].question_type == "presence"
    assert not report


def test_tags_beside_a_caption_are_reported_and_not_read(tmp_path, read):
    rows = [
        {"image": "a.jpg", "caption": "a dog", "tags": ["dog"]},
        {"image": "b.jpg", "caption": "", "tags": ["cat"]},
    ]
    write(tmp_path / "x.jsonl", json_lines(*rows))
    pictures(tmp_path, *NAMES)
    found, report = read(tmp_path)
    assert tags_of(found) == {"a.jpg": None}
    assert list_problems(report) == {
        "column left unread": ["tags beside caption (first in x.jsonl:1)"],
        "empty caption": ["b.jpg"],
    }


def test_tags_that_cannot_be_used_are_reported(tmp_path, read):
    lines = [
        '{"image": "a.jpg", "tags": "[\'dog\', "}',
        '{"image": "a.jpg", "tags": [{"name": "dog"}]}',
        '{"image": "a.jpg", "tags": ["\\ud800"]}',
        '{"image": "b.jpg", "tags": ["dog"]}',
        '{"image": "b.jpg", "tags": ["cat"], "split": "val"}',
    ]
    write(tmp_path / "x.jsonl", "\n".join(lines))
    pictures(tmp_path, *NAMES)
    found, report = read(tmp_path)
    assert tags_of(found) == {"b.jpg": ("dog",)}
    assert list_problems(report) == {
        "list that cannot be parsed": ["x.jsonl:1"],
        "row that cannot be parsed": ["x.jsonl:2"],
        "duplicate": ["b.jpg is in train and in val (x.jsonl:5)"],
        "text that is not UTF-8": ["a.jpg"],
    }
    assert report.rows == 5


def test_written_tags_are_read_again(tmp_path, read):
    write(tmp_path / "x.csv", "image,tags\na.jpg,dog;cat\nb.jpg,\n")
    pictures(tmp_path, *NAMES)
    rows, _ = read(tmp_path)
    again, report = read(write(tmp_path / "y.jsonl", json_lines(*map(vars, rows))))
    assert again == rows
    assert not report
