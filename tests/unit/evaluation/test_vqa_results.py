"""Result files of the VQA server: writing, reading, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import DataError
from captioner.evaluation.vqa_results import read_vqa_results, write_vqa_results


def test_rows_have_the_official_format(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_vqa_results(path, {"262148000": "down", "q7": "", "0": "caf\u00e9", "007": "2"})
    assert json.loads(path.read_bytes().decode("ascii")) == [
        {"question_id": 262148000, "answer": "down"},
        {"question_id": "q7", "answer": ""},
        {"question_id": 0, "answer": "caf\u00e9"},
        {"question_id": "007", "answer": "2"},
    ]
    write_vqa_results(path, {})
    assert json.loads(path.read_text()) == []


@given(st.dictionaries(st.one_of(st.integers().map(str), st.text()), st.text()))
def test_written_results_are_read_back(tmp_path_factory, answers: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("results") / "results.json"
    write_vqa_results(path, answers)
    read = read_vqa_results(path)
    assert read == answers
    assert list(read) == list(answers)


def test_files_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = [{"answer": "Yes", "question_id": 3, "image_id": 1}, {"question_id": "3b", "answer": ""}]
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8-sig")
    assert read_vqa_results(path) == {"3": "Yes", "3b": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "JSON"),
        ('{"1": "yes"}', "dict"),
        ('["yes"]', "row 1"),
        ('[{"question_id": 1, "answer": "a"}, {"answer": "a"}]', "row 2"),
        ('[{"question_id": true, "answer": "a"}]', "row 1"),
        ('[{"question_id": 1.5, "answer": "a"}]', "row 1"),
        ('[{"question_id": 1}]', "question 1 has no text"),
        ('[{"question_id": 1, "answer": 2}]', "question 1 has no text"),
        ('[{"question_id": 1, "answer": "a"}, {"question_id": "1", "answer": "b"}]', "twice"),
    ],
)
def test_invalid_files_are_errors_with_a_position(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_vqa_results(path)
    assert "results.json" in str(error.value)


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_vqa_results(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be written"):
        write_vqa_results(tmp_path / "none" / "results.json", {"1": "yes"})


def test_answer_that_is_not_text_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'1'"):
        write_vqa_results(tmp_path / "results.json", {"1": None})
    assert not (tmp_path / "results.json").exists()
