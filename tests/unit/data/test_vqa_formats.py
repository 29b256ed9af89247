"""The readers of question answering data, and questions among the rows of `read_dataset`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from captioner.data import READERS, Example, Report, detect_format, read_dataset
from captioner.errors import DataError, SplitError

SHARED = Path(__file__).parents[4] / "shared"
needs = {
    name: pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"needs {SHARED / name}")
    for name in ("daquar", "easy_vqa")
}


def write(path: Path, content: str | bytes | dict | list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict | list):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, b"only its presence is looked at")


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def content(rows: list[Example]) -> dict[str, tuple[str, ...]]:
    return {row.question_id: (row.split, row.question, *row.references) for row in rows}


def names_of(report: Report) -> dict[str, list[str]]:
    return {kind: problem.names for kind, problem in report}


# --- one tiny data set per format -----------------------------------------------------------------

TEN = ("yes", "yes", "no", "yes", "yes", "Yes.", "yes", "no", "yes", "yes")


def coco_name(subset: str, image: int) -> str:
    return f"COCO_{subset}_{image:012d}.jpg"


def questions_of(subset: str, *rows: tuple[int, int, str]) -> dict:
    keys = ("question_id", "image_id", "question")
    questions = [dict(zip(keys, row, strict=True)) for row in rows]
    return {"info": {}, "data_subtype": subset, "questions": questions}


def annotation(question_id: int, answers=TEN, **others) -> dict:
    texts = [
        {"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers)
    ]
    row = {"question_id": question_id, "image_id": 1, "answers": texts, "answer_type": "yes/no"}
    return {**row, "question_type": "is the", "multiple_choice_answer": answers[0], **others}


def make_vqav2(root: Path, *, version: str = "v2_", texts: str = "", images: str = "") -> None:
    for subset, first in (("train2014", 10), ("val2014", 20)):
        rows = [(first, 1, "Is the dog wet?"), (first + 1, 1, "What 🐕?"), (first + 2, 2, "Why?")]
        name = f"{version}OpenEnded_mscoco_{subset}_questions.json"
        write(root / texts / name, questions_of(subset, *rows))
        kinds = {"question_type": "what", "answer_type": "other"}
        document = [
            annotation(first + 2, ("a", "b"), **kinds),
            annotation(first),
            annotation(first + 1, ("poodle",) * 10, **kinds),
        ]
        name = f"{version}mscoco_{subset}_annotations.json"
        write(root / texts / name, {"annotations": document, "license": {}})
        pictures(root / images / subset, *(coco_name(subset, image) for image in (1, 2)))


VQAV2 = {
    str(first + i): (split, *row)
    for split, first in (("train", 10), ("val", 20))
    for i, row in enumerate(
        [("Is the dog wet?", *TEN), ("What 🐕?", *("poodle",) * 10), ("Why?", "a", "b")]
    )
}


def make_daquar(root: Path, ending: str = ".jpg") -> None:
    header = "question,answer,image_id\n"
    rows = 'how many chairs are there,6,image8\nwhat is there,"lamp, wall_decoration",image10\n'
    write(root / "data_train.csv", "\ufeff" + header + rows)
    write(root / "data_eval.csv", header.upper() + "what is it,garbage_bin,image8\r\n")
    pictures(root / "images", f"image8{ending}", f"image10{ending}")


DAQUAR = {
    "train:2": ("train", "how many chairs are there", "6"),
    "train:3": ("train", "what is there", "lamp, wall_decoration"),
    "eval:2": ("val", "what is it", "garbage_bin"),
}


def make_easy_vqa(root: Path) -> None:
    rows = [["what is the blue shape?", "rectangle", 0], ["is there a circle?", "no", 11]]
    write(root / "train" / "questions.json", rows)
    write(root / "test" / "questions.json", "\ufeff" + json.dumps(rows[1:] + rows[:1], indent=1))
    write(root / "answers.txt", "rectangle\nno\n")
    for split in ("train", "test"):
        pictures(root / split / "images", "0.png", "11.png")


EASY_VQA = {
    "train:1": ("train", "what is the blue shape?", "rectangle"),
    "train:2": ("train", "is there a circle?", "no"),
    "test:1": ("test", "is there a circle?", "no"),
    "test:2": ("test", "what is the blue shape?", "rectangle"),
}


def make_jsonl(root: Path) -> None:
    rows = [
        {"image": "p/a.jpg", "question": "how many?", "answers": ["2", "two"], "split": "train"},
        {"image": "p/a.jpg", "question": "dog?", "answer": "yes", "split": "dev"},
        {"image": "p/b.jpg", "question": "dog?", "answer": "no", "split": "train"},
    ]
    ids = ({"question_id": 7, "question_type": "count", "answer_type": "number"}, {}, {})
    write(
        root / "own.jsonl", lines(*({**row, **more} for row, more in zip(rows, ids, strict=True)))
    )
    pictures(root / "p", "a.jpg", "b.jpg")


JSONL = {
    "7": ("train", "how many?", "2", "two"),
    "own.jsonl:2": ("val", "dog?", "yes"),
    "own.jsonl:3": ("train", "dog?", "no"),
}


def make_csv(root: Path) -> None:
    rows = ['a.jpg;what?;"a ""b""; c"', "b.jpg;where?;here, there"]
    write(root / "train.csv", "\ufeffimage;question;answer\r\n" + "\r\n".join(rows))
    write(root / "val.csv", "Image;Question;Answer;question_id\na.jpg;who?;me;v1\n")
    pictures(root, "a.jpg", "b.jpg")


CSV = {
    "train.csv:2": ("train", "what?", 'a "b"; c'),
    "train.csv:3": ("train", "where?", "here, there"),
    "v1": ("val", "who?", "me"),
}


def make_folder(root: Path) -> None:
    row = {"file_name": "1.png", "question": "which?", "answer": "this"}
    for split in ("train", "val"):
        write(root / split / "metadata.jsonl", lines(row, {**row, "question": "where?"}))
        pictures(root / split, "1.png")


FOLDER = {
    f"{split}/metadata.jsonl:{n}": (split, question, "this")
    for split in ("train", "val")
    for n, question in ((1, "which?"), (2, "where?"))
}

MAKERS: dict[str, tuple[Callable[[Path], None], dict[str, tuple[str, ...]]]] = {
    "vqav2": (make_vqav2, VQAV2),
    "daquar": (make_daquar, DAQUAR),
    "easy_vqa": (make_easy_vqa, EASY_VQA),
    "jsonl": (make_jsonl, JSONL),
    "csv": (make_csv, CSV),
    "folder": (make_folder, FOLDER),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_is_told_and_read(name, tmp_path, read):
    make, wanted = MAKERS[name]
    make(tmp_path)
    assert [n for n, reader in READERS.items() if reader.find(tmp_path)] == [name]
    assert detect_format(tmp_path) == name
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == wanted
    assert list(content(rows)) == list(wanted), "in the order of the files"
    assert all(Path(row.image).is_file() for row in rows)
    assert not report, report.summary()


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_by_split_and_without_images(name, tmp_path, read):
    make, wanted = MAKERS[name]
    make(tmp_path)
    for split in {value[0] for value in wanted.values()}:
        rows, _ = read(tmp_path, format=name, splits=split)
        assert content(rows) == {k: v for k, v in wanted.items() if v[0] == split}
    with pytest.raises(SplitError, match=r"no split other; it has .*train \("):
        read(tmp_path, splits=("train", "other"))
    gone = [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png")]
    for picture in gone:
        picture.unlink()
    # Each missing image counts once, however many are its questions.
    with pytest.raises(DataError, match=rf"no usable example.*missing image: {len(gone)} "):
        read(tmp_path, splits=None)
    rows, report = read(tmp_path, splits=None, check_images=False)
    assert content(rows) == wanted
    assert not report


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_alone_and_its_images_elsewhere(name, tmp_path, read):
    make, wanted = MAKERS[name]
    make(tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    file = READERS[name].find(tmp_path / "data")[0]
    split = next(iter(wanted.values()))[0]
    with_images = file.parent if name in ("easy_vqa", "folder") else tmp_path / "data"
    for picture in [p for p in with_images.rglob("*") if p.suffix in (".jpg", ".png")]:
        tail = f"p/{picture.name}" if name == "jsonl" else picture.name
        write(elsewhere / tail, picture.read_bytes())
        picture.unlink()
    assert detect_format(file) == name
    rows, report = read(file, images=elsewhere, splits=split)
    assert [row.question for row in rows] == [v[1] for v in wanted.values() if v[0] == split]
    assert all(Path(row.image).is_relative_to(elsewhere) for row in rows)
    assert not report


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_give_rows_or_one_error(name, tmp_path, read):
    make, _ = MAKERS[name]
    make(tmp_path)
    files = [p for p in tmp_path.rglob("*") if p.suffix in (".json", ".jsonl", ".csv")]
    whole = {path: path.read_bytes() for path in files}
    rng = random.Random(name)
    outcomes = Counter()
    for _ in range(30):
        path = rng.choice(files)
        data = bytearray(whole[path])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            junk = [b"", b'"', b"\0", b"\xff", b"\n", b",", b"{", b"null", b"[]", b"\r", b"1e999"]
            data[at : at + rng.randrange(3)] = rng.choice(junk)
        write(path, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]))
        with contextlib.suppress(DataError):
            rows, _ = read(tmp_path, format=name, splits=None)
            assert all(row.references and Path(row.image).is_file() for row in rows)
            assert len({row.question_id for row in rows if row.question}) == len(rows)
            outcomes["read"] += 1
        write(path, whole[path])
    assert outcomes["read"]


# --- VQAv2 ----------------------------------------------------------------------------------------


def test_vqav2_types_ids_and_the_order_of_answers(tmp_path, read):
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


def test_vqav2_annotations_in_a_folder_of_their_own(tmp_path, read):
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


def test_questions_of_a_test_set_are_read_where_no_answers_are_required(tmp_path, read):
    make_test_set(tmp_path)
    with pytest.raises(DataError, match=r"question without answers: 2 \(1, 2\)"):
        read(tmp_path, splits="test")
    rows, report = read(tmp_path, splits="test", require_answers=False)
    assert content(rows) == {"1": ("test", "What?"), "2": ("test", "Who?")}
    (kind,) = names_of(report)
    assert "v2_OpenEnded_mscoco_test-dev2015_questions.json" in names_of(report)[kind]
    alone = tmp_path / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    rows, report = read(alone, splits="test", require_answers=False)
    assert content(rows) == {"1": ("test", "What?")}
    assert rows[0].image == str(tmp_path / "test2015" / coco_name("test2015", 5))
    assert not report


def test_of_both_versions_the_second_is_read_and_the_other_reported(tmp_path, read):
    make_vqav2(tmp_path)
    make_vqav2(tmp_path, version="")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == VQAV2
    (names,) = names_of(report).values()
    assert names == [f"OpenEnded_mscoco_{s}2014_questions.json" for s in ("train", "val")]


def test_vqav2_of_another_name_says_its_images_within(tmp_path, read):
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
    found = names_of(report)
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
def test_a_broken_file_is_named(which, broken, message, tmp_path, read):
    make_vqav2(tmp_path)
    (path,) = tmp_path.glob(f"*train2014_{which}.json")
    write(path, broken)
    with pytest.raises(DataError, match=message.format(which=which)) as caught:
        read(tmp_path)
    assert str(path) in str(caught.value)


# --- DAQUAR and easy-VQA --------------------------------------------------------------------------


def test_daquar_finds_the_ending_of_each_image(tmp_path, read):
    make_daquar(tmp_path, ".png")
    rows, _ = read(tmp_path, splits=None)
    assert {Path(row.image).name for row in rows} == {"image8.png", "image10.png"}
    (tmp_path / "images" / "image8.png").rename(tmp_path / "images" / "image8.jpg")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == DAQUAR
    assert {Path(row.image).name for row in rows} == {"image8.jpg", "image10.png"}
    assert {row.image_id for row in rows} == {"image8", "image10"}
    assert not report


def test_daquar_in_a_file_of_any_name_and_order_of_columns(tmp_path, read):
    path = write(tmp_path / "mine.csv", "image_id,x,Answer,question\nimage3,,chair,what\n")
    pictures(tmp_path / "images", "image3.jpg")
    assert detect_format(path) == "daquar"
    rows, _ = read(path)
    assert content(rows) == {"mine:2": ("train", "what", "chair")}
    # With a column of paths, image_id is a label in the user's own CSV.
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
    assert names_of(report) == {
        "row that cannot be parsed": [f"data_train.csv:{n}" for n in (2, 3, 4, 7)],
        "empty question": ["train:5"],
        "empty answer": ["train:6"],
        "missing image": [str(tmp_path / "image2.jpg")],
        "text that is not UTF-8": ["train:9: \\udcff"],
    }


def test_easy_vqa_keeps_images_of_the_same_number_apart(tmp_path, read):
    make_easy_vqa(tmp_path)
    rows, _ = read(tmp_path, splits=None)
    folders = [(row.image_id, Path(row.image).relative_to(tmp_path).as_posix()) for row in rows]
    assert folders == [
        ("train/0", "train/images/0.png"),
        ("train/11", "train/images/11.png"),
        ("test/11", "test/images/11.png"),
        ("test/0", "test/images/0.png"),
    ]
    # A folder of one split's images does not serve for the other split.
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
    assert names_of(report) == {
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


# --- own rows -------------------------------------------------------------------------------------


def test_captions_and_questions_may_share_a_file(tmp_path, read):
    rows = [
        {"image": "a.jpg", "question": "Dog?", "answers": ["yes", 3, 2.5], "question_id": "b.jpg"},
        {"image": "a.jpg", "caption": "a dog"},
        {"image": "b.jpg", "caption": "a cat", "question": None},
        {"image": "a.jpg", "captions": ["a wet dog"], "question_type": "presence"},
        {"image": "b.jpg", "question": "Dog?", "answer": 0, "id": "B"},
    ]
    write(tmp_path / "x.jsonl", lines(*rows))
    pictures(tmp_path, "a.jpg", "b.jpg")
    found, report = read(tmp_path)
    assert [replace(row, image="") for row in found] == [
        Example("", "a.jpg", ("yes", "3", "2.5"), "train", "Dog?", "b.jpg"),
        Example("", "B", ("0",), "train", "Dog?", "x.jsonl:5"),
        Example("", "a.jpg", ("a dog", "a wet dog"), "train"),
        Example("", "b.jpg", ("a cat",), "train"),
    ]
    assert not report


def test_a_table_may_have_columns_for_both(tmp_path, read):
    text = "image,caption,question,answer,question_type\na.jpg,a dog,,,\na.jpg,,dog?,yes,presence\n"
    write(tmp_path / "x.csv", text + "a.jpg,so wet,,,\nb.jpg,a cat,dog?,no,\nb.jpg,,,no,\n")
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows, report = read(tmp_path)
    assert [(row.question, row.references, row.question_type) for row in rows] == [
        ("dog?", ("yes",), "presence"),
        ("dog?", ("no",), ""),
        ("", ("a dog", "so wet"), ""),
    ]
    (left, names), empty = names_of(report).items()
    assert "caption" in left
    assert names == ["x.csv:5"]
    assert empty == ("empty question", ["x.csv:6"])


def test_a_table_that_was_read_can_be_written_and_read_again(tmp_path, read):
    make_mixed(tmp_path)
    rows, _ = read(tmp_path, splits=None)
    assert {bool(row.question) for row in rows} == {True, False}
    again, report = read(write(tmp_path / "y.jsonl", lines(*map(vars, rows))), splits=None)
    assert again == rows
    assert not report


def test_own_problems(tmp_path, read):
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
        # The same picture asked about in train and in val is no fault.
        "x.jsonl:15": ("val", "what?", "a"),
        "x.jsonl:16": ("train", "what?", "b"),
    }
    bad = [f"x.jsonl:{n}" for n in (6, 7, 8, 9, 10)]
    assert names_of(report) == {
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


def test_captions_keep_needing_texts_where_no_answers_are_required(tmp_path, read):
    write(tmp_path / "x.jsonl", lines({"image": "a.jpg", "captions": []}))
    pictures(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="image without captions: 1"):
        read(tmp_path, require_answers=False)


def test_a_table_of_questions_without_answers(tmp_path, read):
    write(tmp_path / "x.csv", "image,question\na.jpg,what?\n")
    pictures(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="question without answers: 1"):
        read(tmp_path)
    rows, report = read(tmp_path, require_answers=False)
    assert content(rows) == {"x.csv:2": ("train", "what?")}
    assert not report


# --- questions made from captions -----------------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    """A generator in the place of `captioner.data.caption_questions`; lists its calls."""
    calls = []

    def questions_from_captions(examples, *, seed=0):
        examples = list(examples)
        calls.append((examples, seed))
        return [
            replace(e, references=(text,), question=f"{seed}?", question_id=f"{e.image_id}#{i}")
            for e in examples
            for i, text in enumerate(e.references)
        ]

    module = ModuleType("captioner.data.caption_questions")
    module.questions_from_captions = questions_from_captions
    monkeypatch.setitem(sys.modules, "captioner.data.caption_questions", module)
    monkeypatch.setattr("captioner.data.caption_questions", module, raising=False)
    return calls


def make_mixed(root: Path) -> None:
    rows = [
        {"image": "a.jpg", "captions": ["one", " two "]},
        {"image": "b.jpg", "caption": "three", "split": "val"},
        {"image": "a.jpg", "question": "kept?", "answer": "yes", "question_type": "mine"},
        {"image": "c.jpg", "caption": "of no image"},
    ]
    write(root / "x.jsonl", lines(*rows))
    pictures(root, "a.jpg", "b.jpg")


def test_captions_become_questions_and_questions_stay(tmp_path, read, made):
    make_mixed(tmp_path)
    rows, report = read(tmp_path, splits=None, questions=True, seed=5)
    assert content(rows) == {
        "x.jsonl:3": ("train", "kept?", "yes"),
        "a.jpg#0": ("train", "5?", "one"),
        "a.jpg#1": ("train", "5?", "two"),
        "b.jpg#0": ("val", "5?", "three"),
    }
    assert rows[0].question_type == "mine"
    with pytest.raises(SplitError):
        read(tmp_path, splits="test", questions=True)
    ((given, seed),) = made  # once, for the checked captions of all wanted splits together
    assert ([e.image_id for e in given], seed) == (["a.jpg", "b.jpg"], 5)
    assert names_of(report) == {"missing image": [str(tmp_path / "c.jpg")]}
    rows, _ = read(tmp_path, splits="val", questions=True)
    assert content(rows) == {"b.jpg#0": ("val", "0?", "three")}
    assert not any(row.question for row in read(tmp_path, splits="val")[0]), "off unless asked for"


def test_the_cache_of_made_questions_is_used_until_they_change(tmp_path, made):
    make_mixed(tmp_path)

    def table_file(**options):
        table, _ = read_dataset(tmp_path, cache_dir=tmp_path / "cache", **options)
        return table.cache_files[0]["filename"], table["question"][-1]

    captions, _ = table_file()
    first, _ = table_file(questions=True)
    written = os.stat(first).st_mtime_ns
    assert table_file(questions=True)[0] == first
    assert os.stat(first).st_mtime_ns == written
    other, question = table_file(questions=True, seed=1)
    assert question == "1?"
    assert len({captions, first, other}) == 3
    assert table_file()[0] == captions


def test_a_data_set_that_gives_no_question_is_one_error(tmp_path, read, made):
    write(tmp_path / "x.jsonl", lines({"image": "a.jpg", "captions": ["a"]}))
    with pytest.raises(DataError, match=r"no usable example.*missing image: 1"):
        read(tmp_path, questions=True)
    assert made == [([], 0)]
    pictures(tmp_path, "a.jpg")
    sys.modules["captioner.data.caption_questions"].questions_from_captions = (
        lambda examples, *, seed: []
    )
    with pytest.raises(DataError, match="its captions give no question"):
        read(tmp_path, questions=True)


# --- the formats of captions are still told -------------------------------------------------------


def test_captions_of_coco_come_before_its_questions(tmp_path, read):
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


# --- real data ------------------------------------------------------------------------------------


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
