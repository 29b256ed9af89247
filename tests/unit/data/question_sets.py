"""Small data sets of questions, one per format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from data_files import json_lines, pictures, write

from captioner.data import Example


def content(rows: list[Example]) -> dict[str, tuple[str, ...]]:
    return {row.question_id: (row.split, row.question, *row.references) for row in rows}


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
        root / "own.jsonl",
        json_lines(*({**row, **more} for row, more in zip(rows, ids, strict=True))),
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
        write(root / split / "metadata.jsonl", json_lines(row, {**row, "question": "where?"}))
        pictures(root / split, "1.png")


FOLDER = {
    f"{split}/metadata.jsonl:{n}": (split, question, "this")
    for split in ("train", "val")
    for n, question in ((1, "which?"), (2, "where?"))
}


def make_vizwiz_vqa(root: Path) -> None:
    for split in ("train", "val"):
        names = [f"VizWiz_{split}_{i:08}.jpg" for i in (0, 1)]
        answers = (("basil", "basil leaves"), ("unanswerable",))
        rows = [
            {"image": name, "question": "What is this?", "answer_type": "other", "answerable": 1}
            | {"answers": [{"answer_confidence": "maybe", "answer": t} for t in texts]}
            for name, texts in zip(names, answers, strict=True)
        ]
        write(root / "Annotations" / f"{split}.json", rows)
        pictures(root / split, *names)


VIZWIZ_VQA = {
    f"VizWiz_{split}_{i:08}.jpg": (split, "What is this?", *answers)
    for split in ("train", "val")
    for i, answers in enumerate((("basil", "basil leaves"), ("unanswerable",)))
}


MAKERS: dict[str, tuple[Callable[[Path], None], dict[str, tuple[str, ...]]]] = {
    "vqav2": (make_vqav2, VQAV2),
    "daquar": (make_daquar, DAQUAR),
    "easy_vqa": (make_easy_vqa, EASY_VQA),
    "vizwiz_vqa": (make_vizwiz_vqa, VIZWIZ_VQA),
    "jsonl": (make_jsonl, JSONL),
    "csv": (make_csv, CSV),
    "folder": (make_folder, FOLDER),
}


def make_mixed(root: Path) -> None:
    rows = [
        {"image": "a.jpg", "captions": ["one", " two "]},
        {"image": "b.jpg", "caption": "three", "split": "val"},
        {"image": "a.jpg", "question": "kept?", "answer": "yes", "question_type": "mine"},
        {"image": "c.jpg", "caption": "of no image"},
    ]
    write(root / "x.jsonl", json_lines(*rows))
    pictures(root, "a.jpg", "b.jpg")
