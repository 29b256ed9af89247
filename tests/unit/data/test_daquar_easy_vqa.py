"""Readers of DAQUAR and easy-VQA."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_files import list_problems, pictures, write, write_lines
from question_sets import DAQUAR, EASY_VQA, content, make_daquar, make_easy_vqa

from captioner.data import detect_format
from captioner.errors import DataError

SHARED = Path(__file__).parents[4] / "shared"


needs = {
    name: pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"needs {SHARED / name}")
    for name in ("daquar", "easy_vqa")
}


def test_daquar_image_suffixes_are_found(tmp_path, read):
    make_daquar(tmp_path, ".png")
    rows, _ = read(tmp_path, splits=None)
    assert {Path(row.image).name for row in rows} == {"image8.png", "image10.png"}
    (tmp_path / "images" / "image8.png").rename(tmp_path / "images" / "image8.jpg")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == DAQUAR
    assert {Path(row.image).name for row in rows} == {"image8.jpg", "image10.png"}
    assert {row.image_id for row in rows} == {"image8", "image10"}
    assert not report


def test_daquar_file_with_any_name_and_column_order(tmp_path, read):
    path = write(tmp_path / "mine.csv", "image_id,x,Answer,question\nimage3,,chair,what\n")
    pictures(tmp_path / "images", "image3.jpg")
    assert detect_format(path) == "daquar"
    rows, _ = read(path)
    assert content(rows) == {"mine:2": ("train", "what", "chair")}
    # With a column of paths it is custom data, where image_id is only a label.
    path = write(tmp_path / "own.csv", "image,image_id,question,answer\nimages/image3.jpg,3,q,a\n")
    assert detect_format(path) == "csv"
    rows, _ = read(path)
    assert (rows[0].image_id, rows[0].question_id) == ("3", "own.csv:2")


def test_daquar_problems(tmp_path, read):
    rows = ["what,cup", "a,b,", "a,b,c,d", ",cup,image1", "what,,image1", '"a" b,c,image1']
    rows += ["where,shelf,image2", "who,\udcff,image1", "what,cup,image1"]
    text = "question,answer,image_id\n" + "\n".join(rows)
    write(tmp_path / "data_train.csv", text.encode("utf-8", "surrogateescape"))
    pictures(tmp_path, "image1.jpg")
    rows, report = read(tmp_path)
    assert content(rows) == {"train:10": ("train", "what", "cup")}
    assert list_problems(report) == {
        "row that cannot be parsed": [f"data_train.csv:{n}" for n in (2, 3, 4, 7)],
        "empty question": ["train:5"],
        "empty answer": ["train:6"],
        "missing image": [str(tmp_path / "image2.jpg")],
        "text that is not UTF-8": ["train:9: \\udcff"],
    }


def test_easy_vqa_image_ids_contain_split(tmp_path, read):
    make_easy_vqa(tmp_path)
    rows, _ = read(tmp_path, splits=None)
    folders = [(row.image_id, Path(row.image).relative_to(tmp_path).as_posix()) for row in rows]
    assert folders == [
        ("train/0", "train/images/0.png"),
        ("train/11", "train/images/11.png"),
        ("test/11", "test/images/11.png"),
        ("test/0", "test/images/0.png"),
    ]
    # The images of one split are not used for the other split.
    with pytest.raises(DataError, match="missing image: 2 "):
        read(tmp_path, splits="test", images=tmp_path / "train" / "images")
    rows, _ = read(tmp_path, splits="test", images=tmp_path)
    assert len(rows) == 2


def test_easy_vqa_layouts(tmp_path, read):
    make_easy_vqa(tmp_path / "data")  # as in the repository, below data/
    for root in (tmp_path, tmp_path / "data"):
        rows, report = read(root, splits=None)
        assert content(rows) == EASY_VQA
        assert not report
    for root in (tmp_path / "data" / "test", tmp_path / "data" / "test" / "questions.json"):
        assert detect_format(root) == "easy_vqa"
        rows, report = read(root, splits="test")
        assert content(rows) == {k: v for k, v in EASY_VQA.items() if v[0] == "test"}
        assert not report


def test_easy_vqa_problems(tmp_path, read):
    rows = [["q?", "yes", 0], ["q?", "yes"], 7, ["q?", 3, 0], ["q?", "yes", "0"], ["q?", "yes", 1]]
    rows += [["q?", "yes", True], ["", "yes", 0], ["q?", "", 0], [None, "yes", 0]]
    path = write(tmp_path / "train" / "questions.json", rows)
    pictures(tmp_path / "train" / "images", "0.png")
    found, report = read(tmp_path)
    assert content(found) == {"train:1": ("train", "q?", "yes")}
    assert list_problems(report) == {
        "row that cannot be parsed": [f"questions.json: row {n}" for n in (2, 3, 4, 5, 7)],
        "missing image": [str(tmp_path / "train" / "images" / "1.png")],
        "empty question": ["train:8"],
        "empty answer": ["train:9"],
    }
    write(path, json.dumps(rows)[:-5])
    with pytest.raises(DataError, match=r"questions\.json: is not complete JSON"):
        read(tmp_path)
    write(path, {"questions": rows})
    with pytest.raises(DataError, match="no known data set"):
        read(tmp_path)


@pytest.mark.slow
@needs["daquar"]
def test_real_daquar(read):
    assert detect_format(SHARED / "daquar") == "daquar"
    rows, report = read(SHARED / "daquar", splits=None)
    assert not report, report.summary()
    assert len(rows) == len({row.question_id for row in rows}) == 9974
    assert {(row.split, len(row.references)) for row in rows} == {("train", 1)}
    answers = {row.references[0] for row in rows}
    assert {"garbage_bin", "picture, wall_decoration"} <= answers
    assert rows[0].image_id == "image100"
    assert Path(rows[0].image).name == "image100.jpg"


@pytest.mark.slow
@needs["easy_vqa"]
def test_real_easy_vqa(read):
    root = SHARED / "easy_vqa"
    assert detect_format(root) == "easy_vqa"
    rows, report = read(root, splits="train")
    assert not report, report.summary()
    assert len(rows) == len({row.question_id for row in rows}) == 38575
    assert len({row.image_id for row in rows}) == len({row.image for row in rows}) == 4000
    known = (root / "answers.txt").read_text(encoding="utf-8").split()
    assert {row.references for row in rows} == {(answer,) for answer in known}


def test_daquar_reads_lists_splits_and_whole_numbers(tmp_path, read):
    lines = ['0,what?,"[""yes"", ""no""]",val', "1,how many?,['2'],train", '1,torn?,"[\'a",train']
    write_lines(tmp_path / "data_train.csv", ["image_id,question,answer,split", *lines])
    for name in "01":
        (tmp_path / f"{name}.jpg").touch()
    found, report = read(tmp_path, splits=None)
    assert [(e.split, e.references) for e in found] == [("val", ("yes", "no")), ("train", ("2",))]
    assert report.problems["list that cannot be parsed"].rows == 1
    numbers = ["question,answer,image_id", "how many?,3.0,0", "and now?,12,1"]
    write_lines(tmp_path / "data_train.csv", numbers)
    found, _ = read(tmp_path)
    assert [e.references for e in found] == [("3",), ("12",)]
