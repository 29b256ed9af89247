"""CSV input: quotation marks and whole numbers."""

from __future__ import annotations

import json

import pytest
from data_files import write_lines


class TestWholeNumbers:
    def test_whole_numbers_in_column(self, tmp_path, read):
        lines = ["a.jpg,how many?,3.0,7.0", "a.jpg,how many dogs?,,8.0", "a.jpg,and cats?,12,9"]
        write_lines(tmp_path / "own.csv", ["image,question,answer,question_id", *lines])
        (tmp_path / "a.jpg").touch()
        found, _ = read(tmp_path)
        assert [(e.references, e.question_id) for e in found] == [(("3",), "7"), (("12",), "9")]

    @pytest.mark.parametrize("other", ["2.5", "yes"])
    def test_numbers_in_columns_with_fractions_or_words_are_unchanged(self, other, tmp_path, read):
        lines = ["a.jpg,how many?,3.0", f"a.jpg,how much?,{other}"]
        write_lines(tmp_path / "own.csv", ["image,question,answer", *lines])
        (tmp_path / "a.jpg").touch()
        found, _ = read(tmp_path)
        assert [example.references for example in found] == [("3.0",), (other,)]

    def test_whole_numbers_in_json(self, tmp_path, read):
        row = {"image": "a.jpg", "question": "how many?", "answers": [3.0, 2.5, 4], "id": 5.0}
        write_lines(tmp_path / "own.jsonl", [json.dumps(row)])
        (tmp_path / "a.jpg").touch()
        (example,), _ = read(tmp_path)
        assert (example.references, example.image_id) == (("3", "2.5", "4"), "5")


class TestQuotationMarks:
    def test_quotation_marks_are_ordinary_in_tsv(self, tmp_path, read):
        lines = [f"{i}.jpg\tcaption {i}" for i in range(5)]
        lines[2] = '2.jpg\t"Stop" sign at a corner'
        lines[3] = '3.jpg\t"an open quote'
        write_lines(tmp_path / "own.tsv", ["image\tcaption", *lines])
        for i in range(5):
            (tmp_path / f"{i}.jpg").touch()
        found, report = read(tmp_path)
        assert [e.references[0] for e in found] == [line.split("\t")[1] for line in lines]
        assert not report

    @pytest.mark.parametrize("end", ["", '9.jpg,a "late" one', '9.jpg,late"'])
    def test_unclosed_quotation_mark_is_reported_with_its_rows(self, end, tmp_path, read):
        lines = ["0.jpg,a dog", '1.jpg,"Stop sign', *(f"{i}.jpg,caption {i}" for i in range(2, 9))]
        write_lines(tmp_path / "own.csv", ["image,caption", *lines, *filter(None, [end])])
        for i in range(10):
            (tmp_path / f"{i}.jpg").touch()
        found, report = read(tmp_path)
        consumed = 8 + bool(end)
        assert [example.references for example in found] == [("a dog",)]
        problem = report.problems["unclosed quotation mark"]
        assert problem.names == [f"own.csv:3-{2 + consumed}, {consumed} rows"]
        assert (problem.rows, report.rows) == (consumed, consumed + 1)

    def test_caption_of_several_lines_is_read(self, tmp_path, read):
        write_lines(tmp_path / "own.csv", ["image,caption", '0.jpg,"a dog,', 'which runs"'])
        (tmp_path / "0.jpg").touch()
        (example,), report = read(tmp_path)
        assert example.references == ("a dog,\nwhich runs",)
        assert not report

    def test_unclosed_quotation_mark_before_any_image_suffix(self, tmp_path, read):
        lines = ["0.avif,a dog", '1.avif,"I love you', "2.avif,a cat", '3.avif,he said hello"']
        write_lines(tmp_path / "own.csv", ["image,caption", *lines])
        (tmp_path / "0.avif").touch()
        (example,), report = read(tmp_path)
        assert example.references == ("a dog",)
        assert report.problems["unclosed quotation mark"].rows == 3

    def test_unclosed_quotation_mark_without_image_suffix(self, tmp_path, read):
        lines = ["who?,a dog,1", 'what?,"open,2', "where?,here,3", 'when?,now,4"']
        write_lines(tmp_path / "data_train.csv", ["question,answer,image_id", *lines])
        (tmp_path / "1.jpg").touch()
        (example,), report = read(tmp_path)
        assert example.references == ("a dog",)
        assert (report.rows, report.problems["unclosed quotation mark"].rows) == (4, 3)
