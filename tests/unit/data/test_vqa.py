"""Reader of VQAv2: layouts, versions, subsets and problems."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_files import list_problems, pictures, write
from question_sets import (
    TEN,
    VQAV2,
    annotation,
    coco_name,
    content,
    make_vqav2,
    questions_of,
)

from captioner.data import Example, detect_format
from captioner.errors import DataError


def test_vqav2_types_ids_and_order_of_answers(tmp_path, read):
    make_vqav2(tmp_path)
    rows, _ = read(tmp_path)
    first, second, _ = rows
    assert first == Example(
        image=str(tmp_path / "train2014" / coco_name("train2014", 1)),
        image_id="1",
        references=TEN,
        split="train",
        question="Is the dog wet?",
        question_id="10",
        question_type="is the",
        answer_type="yes/no",
    )
    assert (second.image, second.question_type, second.answer_type) == (
        first.image,
        "what",
        "other",
    )


@pytest.mark.parametrize("version", ["v2_", ""])
@pytest.mark.parametrize("texts", ["", "annotations", "Questions"])
@pytest.mark.parametrize("images", ["", "images", "mscoco"])
def test_vqav2_layouts(version, texts, images, tmp_path, read):
    make_vqav2(tmp_path, version=version, texts=texts, images=images)
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == VQAV2
    assert not report


def test_vqav2_annotations_in_separate_folder(tmp_path, read):
    make_vqav2(tmp_path)
    for path in tmp_path.glob("*.json"):
        folder = "Annotations" if "annotations" in path.name else "Questions"
        write(tmp_path / folder / path.name, path.read_bytes())
        path.unlink()
    for root in (tmp_path, tmp_path / "Questions" / "v2_OpenEnded_mscoco_train2014_questions.json"):
        rows, report = read(root)
        assert content(rows) == {k: v for k, v in VQAV2.items() if v[0] == "train"}
        assert not report


def make_test_set(root: Path) -> None:
    name = "v2_OpenEnded_mscoco_{}_questions.json"
    rows = [(1, 5, "What?"), (2, 5, "Who?")]
    write(root / name.format("test2015"), questions_of("test2015", *rows))
    write(root / name.format("test-dev2015"), questions_of("test-dev2015", *rows[:1]))
    pictures(root / "test2015", coco_name("test2015", 5))


def test_questions_without_answers_are_read_if_answers_are_optional(tmp_path, read):
    make_test_set(tmp_path)
    with pytest.raises(DataError, match=r"question without answers: 2 \(1, 2\)"):
        read(tmp_path, splits="test")
    rows, report = read(tmp_path, splits="test", require_answers=False)
    assert content(rows) == {"1": ("test", "What?"), "2": ("test", "Who?")}
    (kind,) = list_problems(report)
    assert "v2_OpenEnded_mscoco_test-dev2015_questions.json" in list_problems(report)[kind]
    alone = tmp_path / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    rows, report = read(alone, splits="test", require_answers=False)
    assert content(rows) == {"1": ("test", "What?")}
    assert rows[0].image == str(tmp_path / "test2015" / coco_name("test2015", 5))
    assert not report


def test_vqa_version_2_is_preferred_and_version_1_reported(tmp_path, read):
    make_vqav2(tmp_path)
    make_vqav2(tmp_path, version="")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == VQAV2
    (names,) = list_problems(report).values()
    assert names == [f"OpenEnded_mscoco_{s}2014_questions.json" for s in ("train", "val")]


def test_vqav2_file_of_another_name_states_data_subtype(tmp_path, read):
    document = questions_of("val2014", (1, 3, "Why?"))
    path = write(tmp_path / "mini_questions.json", document)
    write(tmp_path / "mini_annotations.json", {"annotations": [annotation(1)]})
    pictures(tmp_path / "val2014", coco_name("val2014", 3))
    rows, _ = read(path, splits="val")
    assert content(rows) == {"1": ("val", "Why?", *TEN)}
    write(path, {**document, "data_subtype": "abstract"})
    with pytest.raises(DataError, match=r"data_subtype \(found 'abstract'\)"):
        read(path, splits="val")


def test_vqav2_problems(tmp_path, read):
    document = questions_of("train2014", *((i, i, f"What is {i}?") for i in range(1, 8)))
    odd = [7, {"question_id": 50}, {"question_id": 51, "image_id": "x", "question": "y"}]
    odd += [{"question_id": 52, "image_id": 1e999, "question": "y"}]
    odd += [{"question_id": [53], "image_id": 1, "question": "y"}]
    again = [{"question_id": 1, "image_id": 2, "question": "again"}]
    blank = [{"question_id": 8, "image_id": 1, "question": " \n"}]
    document["questions"] += odd + again + blank
    name = "v2_{}mscoco_train2014_{}.json"
    questions = write(tmp_path / name.format("OpenEnded_", "questions"), document)
    answers = [
        annotation(1),
        annotation(1, ("second",)),
        annotation(99),
        annotation(2, ("", "fine", " \t")),
        annotation(3, ("half \ud800", "whole")),
        annotation(4, (3, "three")),
        {**annotation(5), "answers": None},
        {**annotation(6), "answer_type": 1},
        annotation(8),
        "row",
    ]
    annotations = name.format("", "annotations")
    write(tmp_path / annotations, {"annotations": answers})
    pictures(tmp_path / "train2014", *(coco_name("train2014", i) for i in range(1, 7)))
    rows, report = read(tmp_path)
    assert {row.question_id: row.references for row in rows} == {
        "1": TEN,
        "2": ("fine",),
        "3": ("whole",),
    }
    found = list_problems(report)
    rows_of_questions = [f"{questions.name}:questions[{i}]" for i in range(7, 12)]
    assert (
        found.pop("row that cannot be parsed")
        == [f"{annotations}:annotations[{i}]" for i in (5, 6, 7, 9)] + rows_of_questions[:1]
    )
    assert report.problems["row that cannot be parsed"].count == 9
    assert found == {
        "duplicate": [f"answers to 1 ({annotations}:annotations[1])", "1 (again in train)"],
        "empty answer": ["2", "2"],
        "text that is not UTF-8": ["3: half \\ud800"],
        "question without answers": ["4", "5", "6", "7"],
        "empty question": ["8"],
        "answers to a question that is not in the file": [f"99 ({questions.name})"],
    }
    rows, report = read(tmp_path, require_answers=False)
    assert {row.question_id for row in rows} == set("123456")
    assert report.problems["missing image"].count == 1


@pytest.mark.parametrize("which", ["questions", "annotations"])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b'{"questions": [{"question_id": 1', "not complete JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"questions": {}, "annotations": 3}', 'has no list "{which}"'),
        ("{}".encode("utf-16"), "UTF-16"),
    ],
)
def test_broken_vqa_file_is_named(which, broken, message, tmp_path, read):
    make_vqav2(tmp_path)
    (path,) = tmp_path.glob(f"*train2014_{which}.json")
    write(path, broken)
    with pytest.raises(DataError, match=message.format(which=which)) as caught:
        read(tmp_path)
    assert str(path) in str(caught.value)


def test_coco_captions_are_detected_before_questions(tmp_path, read):
    make_vqav2(tmp_path, texts="annotations")
    document = {
        "images": [{"id": 1, "file_name": coco_name("train2014", 1)}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a dog"}],
    }
    write(tmp_path / "annotations" / "captions_train2014.json", document)
    assert detect_format(tmp_path) == "coco"
    rows, _ = read(tmp_path)
    assert [row.references for row in rows] == [("a dog",)]
    rows, _ = read(tmp_path, format="vqav2", splits=None)
    assert content(rows) == VQAV2
