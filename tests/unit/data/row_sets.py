"""Random data sets in each format, with a known number of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_files import write_lines
from hypothesis import strategies as st

SPLITS = ("train", "dev", "eval", "test", "holdout")


WANTED = ("train", "val")


@dataclass(frozen=True)
class Row:
    """One row of a random data set: a caption, or an answer to a question."""

    image: int
    fault: str = ""
    """`blank` (text), `broken` (row) or `twice` (repeated row); "" for none."""


rows_of_captions = st.lists(
    st.builds(Row, st.integers(0, 5), st.sampled_from(["", "", "", "blank", "broken", "twice"])),
    min_size=1,
    max_size=12,
)


splits_of_images = st.lists(st.sampled_from(SPLITS), min_size=6, max_size=6)


missing_images = st.sets(st.integers(0, 5), max_size=2)


def text_of(number: int, row: Row) -> str:
    return "  " if row.fault == "blank" else f'row {number}, "quoted" and more'


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def flickr8k(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"{row.image}.jpg#{number}\t{text_of(number, row)}"
        line = f"no image here {number}" if row.fault == "broken" else line
        lines += [line] * (2 if row.fault == "twice" else 1)
    write_lines(root / "Flickr8k.token.txt", lines)
    lists(root, splits)
    return len(lines)


def kaggle(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"{row.image}.jpg,{number},{quoted(text_of(number, row))}"
        lines.append(f",{number},no image" if row.fault == "broken" else line)
    write_lines(root / "captions.txt", ["image_name,comment_number,comment", *lines])
    lists(root, splits)
    return len(lines)


def flickr30k(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"{row.image}.jpg| {number}| {text_of(number, row)}"
        line = f"{row.image}.jpg {number}" if row.fault == "broken" else line
        lines += [line] * (2 if row.fault == "twice" else 1)
    write_lines(root / "results.csv", ["image_name| comment_number| comment", *lines])
    lists(root, splits)
    return len(lines)


def karpathy(root: Path, rows: list[Row], splits: list[str]) -> int:
    images = []
    for number, row in enumerate(rows):
        sentence = {"raw": text_of(number, row)}
        image = {"filename": f"{row.image}.jpg", "split": splits[row.image], "cocoid": number}
        image["sentences"] = "none" if row.fault == "broken" else [sentence]
        images += [image] * (2 if row.fault == "twice" else 1)
    document(root / "dataset_x.json", {"images": images})
    return len(images)


def coco(root: Path, rows: list[Row], splits: list[str]) -> int:
    count = 0
    for split in ("train", "val"):
        kept = [i for i, name in enumerate(splits) if (name == "train") == (split == "train")]
        annotations = []
        for number, row in enumerate(rows):
            if row.image not in kept:
                continue
            annotation: dict[str, Any] = {"id": number, "image_id": row.image}
            annotation["caption"] = 5 if row.fault == "broken" else text_of(number, row)
            annotations += [annotation] * (2 if row.fault == "twice" else 1)
        images = [{"id": i, "file_name": f"{i}.jpg"} for i in kept]
        document(
            root / f"captions_{split}2017.json", {"images": images, "annotations": annotations}
        )
        count += len(annotations)
    return count


def jsonl(root: Path, rows: list[Row], splits: list[str]) -> int:
    return own_rows(root / "own.jsonl", rows, splits)


def folder(root: Path, rows: list[Row], splits: list[str]) -> int:
    return own_rows(root / "metadata.jsonl", rows, splits)


def own_rows(path: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        value = {"file_name": f"{row.image}.jpg", "split": splits[row.image]}
        value["caption"] = text_of(number, row)
        lines.append("{" if row.fault == "broken" else json.dumps(value))
    write_lines(path, lines)
    return len(lines)


def table(delimiter: str, suffix: str) -> Callable[[Path, list[Row], list[str]], int]:
    def make(root: Path, rows: list[Row], splits: list[str]) -> int:
        lines = []
        for number, row in enumerate(rows):
            text = text_of(number, row)
            cells = [f"{row.image}.jpg", splits[row.image]]
            cells.append(text if delimiter == "\t" else quoted(text))
            line = delimiter.join(cells)
            lines.append(f"{row.image}.jpg" if row.fault == "broken" else line)
        write_lines(root / f"own.{suffix}", [delimiter.join(("image", "split", "caption")), *lines])
        return len(lines)

    return make


def questions(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        value = {"image": f"{row.image}.jpg", "split": splits[row.image]}
        value |= {"question": "what is it?", "answer": text_of(number, row)}
        value["question_id"] = f"of image {row.image}"  # answers of several annotators
        value = value | {"question": 7} if row.fault == "broken" else value
        lines.append(json.dumps(value))
    write_lines(root / "own.jsonl", lines)
    return len(lines)


def daquar(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"what is it {number},{quoted(text_of(number, row))},{row.image}"
        lines.append("one cell" if row.fault == "broken" else line)
    write_lines(root / "data_eval.csv", ["question,answer,image_id", *lines])
    return len(lines)


def easy_vqa(root: Path, rows: list[Row], splits: list[str]) -> int:
    found: list[Any] = [["is it first?", "yes", 0]]
    for number, row in enumerate(rows):
        value = ["what is it?", text_of(number, row), row.image]
        found.append([1, 2] if row.fault == "broken" else value)
    (root / "train").mkdir()
    (root / "train" / "questions.json").write_text(json.dumps(found))
    return len(found)


def vqav2(root: Path, rows: list[Row], splits: list[str]) -> int:
    asked, annotations = [], []
    for number, row in enumerate(rows):
        question = {"question_id": number, "image_id": row.image, "question": f"what is {number}?"}
        question = {"question_id": number} if row.fault == "broken" else question
        asked += [question] * (2 if row.fault == "twice" else 1)
        answers = [{"answer": text_of(number, row)}]
        annotations.append({"question_id": number, "answers": answers})
    name = "v2_{}mscoco_train2014_{}.json"
    document(root / name.format("OpenEnded_", "questions"), {"questions": asked})
    document(root / name.format("", "annotations"), {"annotations": annotations})
    return len(asked)


def texts(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines: dict[int, list[str]] = {}
    for number, row in enumerate(rows):
        if row.fault != "blank":  # blank lines of a text file are not counted
            lines.setdefault(row.image, []).append(text_of(number, row))
    for image, found in lines.items():
        write_lines(root / splits[image] / f"{image}.txt", found)
    return sum(map(len, lines.values()))


FORMATS = {
    "flickr8k": flickr8k,
    "flickr8k_csv": kaggle,
    "flickr30k": flickr30k,
    "karpathy": karpathy,
    "coco": coco,
    "jsonl": jsonl,
    "folder": folder,
    "csv": table(",", "csv"),
    "csv with semicolons": table(";", "csv"),
    "csv with tabs": table("\t", "tsv"),
    "jsonl of questions": questions,
    "daquar": daquar,
    "easy_vqa": easy_vqa,
    "vqav2": vqav2,
    "texts": texts,
}


def document(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def lists(root: Path, splits: list[str]) -> None:
    """Write the split lists; images of an unknown split are in none."""
    for split in set(splits) - {"holdout"}:
        names = [f"{i}.jpg" for i, name in enumerate(splits) if name == split]
        write_lines(root / f"some_{split}.txt", names)


def images(name: str, root: Path, splits: list[str], missing: set[int]) -> None:
    for i in range(6):
        place = {
            "easy_vqa": root / "train" / "images" / f"{i}.png",
            "vqav2": root / "train2014" / f"COCO_train2014_{i:012d}.jpg",
            "texts": root / splits[i] / f"{i}.jpg",
        }.get(name, root / f"{i}.jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        if i not in missing:
            place.touch()
