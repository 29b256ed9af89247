"""Files of candidates: CSV and TSV of any origin, and errors with their position."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from captioner.errors import DataError
from captioner.evaluation.candidate_files import read_candidates


def write_csv(path: Path, header: list[str], *rows: list[object], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows])
    return path


def read(path: Path) -> list[dict]:
    return [row for _, row in read_candidates(str(path))]


@pytest.mark.parametrize("name", ["c.csv", "c.tsv", "c.txt", "-"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_other_programs_is_read(tmp_path, monkeypatch, name, delimiter):
    path = write_csv(
        tmp_path / "c.csv",
        ["Image", " Caption ", "model", ""],
        ["a.jpg", "a dog, running; fast", "x", ""],
        [],
        ["b.jpg", "two\u2028girls", "", ""],
        delimiter=delimiter,
    )
    data = b"\xef\xbb\xbf" + path.read_bytes()
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    rows = read(Path(name) if name == "-" else tmp_path / name)
    assert [(row["image"], row["caption"]) for row in rows] == [
        ("a.jpg", "a dog, running; fast"),
        ("b.jpg", "two\u2028girls"),
    ]


def test_quotes_are_syntax_in_csv_and_text_in_tsv(tmp_path):
    path = write_csv(tmp_path / "a.csv", ["id", "caption"], [1, 'a "dog",\nrunning'])
    assert read(path) == [{"id": "1", "caption": 'a "dog",\nrunning'}]
    (tmp_path / "a.tsv").write_text('id\tcaption\n1\ta "dog\n2\ttwo girls\n')
    assert [row["caption"] for row in read(tmp_path / "a.tsv")] == ['a "dog', "two girls"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,text\na.jpg,a dog\n", "c.csv: the header is 'image,text'; expected the columns"),
        ("question,answer\nwhat?,a dog\n", "c.csv: the header is"),
        ("", "c.csv: the header is 'nothing'"),
        ("id,caption,id\n1,a,1\n", "c.csv: the header has id more than once"),
        ("id,caption\n1,a\n2,b,c\n", "c.csv:3: 3 cells; the header has 2 columns"),
        ('id,caption\n1,"a\n2,b\n3,c\n', "c.csv:2-4: not a valid CSV row"),
        ("id,caption,error\n1,,is torn\n", "c.csv:2: 1 has an error, no caption: is torn"),
        ("id,image,caption\n,,a\n", "c.csv:2: expected an object with one of"),
    ],
)
def test_invalid_csv_is_an_error(tmp_path, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read(tmp_path / "c.csv")
    assert message in str(error.value)


def test_first_row_decides_between_captions_and_answers(tmp_path):
    header = ["question_id", "image", "question", "caption", "answer"]
    path = write_csv(tmp_path / "c.csv", header, ["", "a.jpg", "", "a dog", ""])
    assert read(path) == [{"image": "a.jpg", "caption": "a dog", "answer": ""}]
    path = write_csv(tmp_path / "c.csv", header, [1, "a.jpg", "what?", "", "a dog"])
    assert read(path)[0]["answer"] == "a dog"
