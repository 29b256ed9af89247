"""Questions in custom data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from data_files import json_lines, list_problems, pictures, write, write_lines
from question_sets import content, make_mixed

from captioner.data import Example
from captioner.errors import DataError


def test_captions_and_questions_in_one_file(tmp_path, read):
    rows = [
        {"image": "a.jpg", "question": "Dog?", "answers": ["yes", 3, 2.5], "question_id": "b.jpg"},
        {"image": "a.jpg", "caption": "a dog"},
        {"image": "b.jpg", "caption": "a cat", "question": None},
        {"image": "a.jpg", "captions": ["a wet dog"], "question_type": "presence"},
        {"image": "b.jpg", "question": "Dog?", "answer": 0, "id": "B"},
    ]
    write(tmp_path / "x.jsonl", json_lines(*rows))
    pictures(tmp_path, "a.jpg", "b.jpg")
    found, report = read(tmp_path)
    assert [replace(row, image="") for row in found] == [
        Example("", "a.jpg", ("yes", "3", "2.5"), "train", "Dog?", "b.jpg"),
        Example("", "B", ("0",), "train", "Dog?", "x.jsonl:5"),
        Example("", "a.jpg", ("a dog", "a wet dog"), "train"),
        Example("", "b.jpg", ("a cat",), "train"),
    ]
    assert not report


def test_csv_with_columns_for_captions_and_questions(tmp_path, read):
    text = "image,caption,question,answer,question_type\na.jpg,a dog,,,\na.jpg,,dog?,yes,presence\n"
    write(tmp_path / "x.csv", text + "a.jpg,so wet,,,\nb.jpg,a cat,dog?,no,\nb.jpg,,,no,\n")
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows, report = read(tmp_path)
    assert [(row.question, row.references, row.question_type) for row in rows] == [
        ("dog?", ("yes",), "presence"),
        ("dog?", ("no",), ""),
        ("", ("a dog", "so wet"), ""),
    ]
    (left, names), empty = list_problems(report).items()
    assert "caption" in left
    assert names == ["x.csv:5"]
    assert empty == ("empty question", ["x.csv:6"])


def test_written_examples_are_read_again(tmp_path, read):
    make_mixed(tmp_path)
    rows, _ = read(tmp_path, splits=None)
    assert {bool(row.question) for row in rows} == {True, False}
    again, report = read(write(tmp_path / "y.jsonl", json_lines(*map(vars, rows))), splits=None)
    assert again == rows
    assert not report


def test_custom_question_problems(tmp_path, read):
    ask = {"image": "a.jpg", "question": "what?", "answer": "a"}
    rows = [
        ask,
        {"image": "a.jpg", "question": "what?"},
        {**ask, "answer": ""},
        {**ask, "answer": None, "answers": []},
        {**ask, "question": "  "},
        {**ask, "question": 5},
        {**ask, "answer": True},
        {**ask, "answer": ["x", None]},
        {**ask, "answers": {"a": 1}},
        {"question": "what?", "answer": "a"},
        {**ask, "question_id": ["x"]},
        {**ask, "question_id": "same"},
        {**ask, "question_id": "same", "split": "val"},
        {**ask, "question": "half \ud800"},
        {**ask, "split": "val"},
        {**ask, "answers": ["b", " "]},
        {"image": "a.jpg"},
    ]
    write(tmp_path / "x.jsonl", "\n".join(json.dumps(row) for row in rows))
    pictures(tmp_path, "a.jpg")
    found, report = read(tmp_path, splits=None)
    assert content(found) == {
        "x.jsonl:1": ("train", "what?", "a"),
        "same": ("train", "what?", "a"),
        # Questions about the same image in train and val are allowed.
        "x.jsonl:15": ("val", "what?", "a"),
        "x.jsonl:16": ("train", "what?", "b"),
    }
    bad = [f"x.jsonl:{n}" for n in (6, 7, 8, 9, 10)]
    assert list_problems(report) == {
        "question without answers": [f"x.jsonl:{n}" for n in (2, 3, 4)],
        "empty question": ["x.jsonl:5"],
        "row that cannot be parsed": bad,
        "duplicate": ["same (again in val)"],
        "text that is not UTF-8": ["x.jsonl:14"],
        "empty answer": ["x.jsonl:16"],
        "column left unread": ["answer beside answers (first in x.jsonl:16)"],
    }
    assert report.problems["row that cannot be parsed"].count == 7
    found, _ = read(tmp_path, require_answers=False)
    assert [row.question_id for row in found if not row.references] == [
        f"x.jsonl:{n}" for n in (2, 3, 4)
    ]


def test_captions_are_required_even_if_answers_are_not(tmp_path, read):
    write(tmp_path / "x.jsonl", json_lines({"image": "a.jpg", "captions": []}))
    pictures(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="image without captions: 1"):
        read(tmp_path, require_answers=False)


def test_csv_of_questions_without_answers(tmp_path, read):
    write(tmp_path / "x.csv", "image,question\na.jpg,what?\n")
    pictures(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="question without answers: 1"):
        read(tmp_path)
    rows, report = read(tmp_path, require_answers=False)
    assert content(rows) == {"x.csv:2": ("train", "what?")}
    assert not report


def test_rows_of_a_question_id_are_joined(tmp_path, read):
    ask = {"image": "a.jpg", "question": "what color?", "question_id": 5}
    rows = [ask | {"answer": answer} for answer in ("blue", "red", "red")]
    rows[1]["answer_type"] = "other"
    rows.append(ask | {"image": "b.jpg", "answer": "green"})
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    for name in "ab":
        (tmp_path / f"{name}.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("blue", "red", "red")
    assert (example.answer_type, example.rows) == ("other", 3)
    assert report.problems["duplicate"].rows == 1  # the same id for another image
