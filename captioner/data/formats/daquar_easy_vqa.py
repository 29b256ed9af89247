"""Readers of question answering sets with one file of rows per split: DAQUAR and easy-VQA.

Each question is an Example whose single reference is its answer. Sources of the layouts: Malinowski
and Fritz, NIPS 2014, as repacked in `data_train.csv`; Zhou's easy-VQA (`questions.json`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.example import SPLIT_NAMES, Example, normalize_split
from captioner.data.formats.cells import is_whole_column, whole_text
from captioner.data.formats.csv_jsonl_rows import IMAGE_KEYS, parse_texts
from captioner.data.formats.image_folders import FolderIndex, choose_image_folder, find_image_folder
from captioner.data.formats.io import (
    Source,
    list_files,
    read_csv,
    read_head,
    read_header,
    read_json,
)
from captioner.data.report import BAD_LIST, BAD_ROW, Report

_DAQUAR_NAMES = re.compile(rf"^data_({'|'.join(sorted(SPLIT_NAMES))})\.csv$", re.IGNORECASE)
_DAQUAR_COLUMNS = frozenset(("question", "answer", "image_id"))
_SUFFIXES = (".jpg", ".png", ".jpeg")
# A line inside a quoted field that is a row itself: three cells, the last one an image's number.
_DAQUAR_ROW = re.compile(r",[^,]*,\s*\"?[\w-]*\d\"?\s*$")


def find_daquar(root: Path) -> tuple[Path, ...]:
    """Return a given `.csv` with question, answer and image_id, or `data_{train,...}.csv`."""
    if root.is_file():
        columns = {name.strip().strip('"') for name in read_header(root).split(",")}
        # With a column of image paths it is custom data, where image_id is only a label.
        is_daquar = columns.isdisjoint(IMAGE_KEYS) and columns >= _DAQUAR_COLUMNS
        return (root,) if root.suffix.lower() == ".csv" and is_daquar else ()
    files = {}
    for path in list_files(root):
        match = _DAQUAR_NAMES.match(path.name)
        if match and find_daquar(path):
            files[path] = ("train", "val", "test").index(normalize_split(match[1]))
    return tuple(sorted(files, key=lambda path: files[path]))


def read_daquar(source: Source) -> Iterator[Example]:
    """Read `question,answer,image_id` rows; image_id is the image's file name without suffix.

    An answer is one text, commas included ("lamp, picture"), unless it is a list. The split is
    that of the file name (`data_eval.csv` is val) or of the column `split` if there is one. The
    question id is file and line ("train:17").
    """
    for path in source.files:
        label = re.sub("^data_", "", path.stem, flags=re.IGNORECASE)
        split = normalize_split(label)
        split = split if split in SPLIT_NAMES else "train"
        rows = list(_read_daquar_rows(path, source.report))
        names = list(dict.fromkeys(row["image_id"] for _, row in rows))
        images = _find_image_paths(names, replace(source, files=(path,)))
        whole = is_whole_column(row["answer"] for _, row in rows)
        for line, row in rows:
            answer = whole_text(row["answer"]) if whole else row["answer"]
            answers = parse_texts(answer, numbers=True)
            if answers is None:
                source.report.add(BAD_LIST, f"{path.name}:{line}", rows=1)
                continue
            name = normalize_split(row["split"]) if row.get("split") else split
            image, question = images[row["image_id"]], (row["question"], f"{label}:{line}")
            yield Example(image, row["image_id"], tuple(answers), name, *question)


def _read_daquar_rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the line number and the cells of each row that names an image."""
    rows = read_csv(path, report, delimiter=",", row=_DAQUAR_ROW)
    _, header = next(rows, ("", []))
    columns = [name.strip().lower() for name in header]
    for where, row in rows:
        cells = dict(zip(columns, map(str.strip, row), strict=False))
        is_complete = len(row) == len(columns) and cells.keys() >= _DAQUAR_COLUMNS
        if not is_complete or not cells["image_id"]:
            report.add(BAD_ROW, where, rows=1)
        else:
            yield where.rpartition(":")[2], cells


def _find_image_paths(names: Sequence[str], source: Source) -> dict[str, str]:
    """Return the paths of images whose names lack the suffix, by name."""
    index, paths = FolderIndex(), {}
    files = ([name + suffix for name in names] for suffix in _SUFFIXES)
    folders = (find_image_folder(source, with_suffix) for with_suffix in files)
    folder = next(filter(None, folders), None) or choose_image_folder(source, names)
    for name in names:
        choices = [str(folder / f"{name}{suffix}") for suffix in _SUFFIXES]
        paths[name] = next((path for path in choices if index.contains(path)), choices[0])
    return paths


def find_easy_vqa(root: Path) -> tuple[Path, ...]:
    """Return the `questions.json`, a list of lists, given or in `root` or `train/`, `test/`."""
    if root.is_file():
        is_json = root.suffix.lower() == ".json"
        head = "".join(read_head(root).split()) if is_json else ""
        return (root,) if re.match(r'\[\["', head) else ()
    for base in (root, root / "data"):
        folders = [base / name for name in ("train", "val", "dev", "eval", "test")]
        files = tuple(path for folder in folders for path in _find_questions(folder))
        if files:
            return files
    return _find_questions(root)


def _find_questions(folder: Path) -> tuple[Path, ...]:
    path = folder / "questions.json"
    return find_easy_vqa(path) if path.is_file() else ()


def read_easy_vqa(source: Source) -> Iterator[Example]:
    """Read `[question, answer, image number]` rows; the folder's name gives the split.

    Each split numbers its images from 0, so the ids contain the split: image "train/0", and
    question "train:1" for the first row.
    """
    for path in source.files:
        folder = path.parent.name
        split = normalize_split(folder) if folder.lower() in SPLIT_NAMES else "train"
        rows = list(_read_easy_vqa_rows(path, source.report))
        images = _find_easy_vqa_images([number for *_, number in rows], path, source)
        for line, question, answer, number in rows:
            image, image_id = str(images / f"{number}.png"), f"{split}/{number}"
            yield Example(image, image_id, (answer,), split, question, f"{split}:{line}")


def _read_easy_vqa_rows(path: Path, report: Report) -> Iterator[tuple[int, str, str, int]]:
    for line, row in enumerate(read_json(path, kind=list), 1):
        match row:
            case [str(question), str(answer), int(number)] if not isinstance(number, bool):
                yield line, question, answer, number
            case _:
                report.add(BAD_ROW, f"{path.name}: row {line}", rows=1)


def _find_easy_vqa_images(numbers: Sequence[int], path: Path, source: Source) -> Path:
    """Return the folder of a split's images, such as `train/images`."""
    names = [f"{number}.png" for number in numbers]
    inner = f"{path.parent.name}/images"
    folder = find_image_folder(source, [f"{inner}/{name}" for name in names])
    if folder is not None:
        return folder / inner
    if source.images is None or len(source.files) == 1:
        return choose_image_folder(replace(source, root=path.parent, files=(path,)), names)
    # Another folder may hold the images of the other split, which have the same numbers.
    return source.images / inner
