"""Readers of the question answering sets with one file of rows per split: DAQUAR and easy-VQA.

Each question is an Example whose one reference is its answer. Sources of the layouts: Malinowski
and Fritz, NIPS 2014, as repacked in `data_train.csv`; Zhou's easy-VQA (`questions.json`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.example import Example
from captioner.data.formats.cells import is_whole_column, whole_text
from captioner.data.formats.custom_rows import parse_texts
from captioner.data.formats.io import (
    SPLIT_NAMES,
    FolderIndex,
    Source,
    canonical_split,
    find_images,
    list_files,
    locate_images,
    read_csv,
    read_head,
    read_json,
)
from captioner.data.report import BAD_LIST, BAD_ROW, Report

_DAQUAR_NAMES = re.compile(rf"^data_({'|'.join(sorted(SPLIT_NAMES))})\.csv$", re.IGNORECASE)
_DAQUAR_COLUMNS = ("question", "answer", "image_id")
_ENDINGS = (".jpg", ".png", ".jpeg")
# A row of DAQUAR inside the quotes of another: three cells, the last of which is an image's number.
_DAQUAR_ROW = re.compile(r",[^,]*,\s*\"?[\w-]*\d\"?\s*$")


def find_daquar(root: Path) -> tuple[Path, ...]:
    """A `.csv` with question, answer and image_id given; in a folder `data_{train,...}.csv`."""
    if root.is_file():
        header = read_head(root).split("\n", 1)[0].lower()
        columns = [name.strip().strip('"') for name in header.split(",")]
        # With a column of paths it is the user's own CSV, where image_id is only a label.
        known = not {"image", "file_name", "filename", "image_path"} & set(columns)
        known = known and set(_DAQUAR_COLUMNS) <= set(columns)
        return (root,) if root.suffix.lower() == ".csv" and known else ()
    found = [path for path in list_files(root) if _DAQUAR_NAMES.match(path.name)]
    order = ("train", "val", "test")
    found.sort(key=lambda path: order.index(canonical_split(_DAQUAR_NAMES.match(path.name)[1])))
    return tuple(path for path in found if find_daquar(path))


def read_daquar(source: Source) -> Iterator[Example]:
    """Reads `question,answer,image_id` rows; image_id is an image's file name without its ending.

    An answer is one text as it stands ("lamp, picture" too), unless it is a list. A column `split`
    counts where there is one. A question's id is its file and the
    line on which it begins ("train:17"). `data_eval.csv` is val.
    """
    for path in source.files:
        label = re.sub("^data_", "", path.stem, flags=re.IGNORECASE)
        split = canonical_split(label)
        split = split if split in SPLIT_NAMES else "train"
        rows = list(_daquar_rows(path, source.report))
        images = _with_endings([row["image_id"] for _, row in rows], replace(source, files=(path,)))
        whole = is_whole_column(row["answer"] for _, row in rows)
        for line, row in rows:
            answer = whole_text(row["answer"]) if whole else row["answer"]
            answers = parse_texts(answer, numbers=True)
            if answers is None:
                source.report.add(BAD_LIST, f"{path.name}:{line}", rows=1)
                continue
            name = canonical_split(row["split"]) if row.get("split") else split
            asked = (row["question"], f"{label}:{line}")
            yield Example(images[row["image_id"]], row["image_id"], tuple(answers), name, *asked)


def _daquar_rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the line and the cells of each row; `_check` reports a blank answer."""
    rows = read_csv(path, report, delimiter=",", row=_DAQUAR_ROW)
    _, header = next(rows, ("", []))
    columns = [name.strip().lower() for name in header]
    for where, row in rows:
        cells = dict(zip(columns, map(str.strip, row), strict=False))
        complete = len(row) == len(columns) and set(_DAQUAR_COLUMNS) <= set(cells)
        if not complete or not cells["image_id"]:
            report.add(BAD_ROW, where, rows=1)
        else:
            yield where.rpartition(":")[2], cells


def _with_endings(images: Sequence[str], source: Source) -> dict[str, str]:
    """Maps the names of images, given without their ending, to their paths."""
    index, paths = FolderIndex(), {}
    names = list(dict.fromkeys(images))
    of_ending = ([name + ending for name in names] for ending in _ENDINGS)
    found = (locate_images(source, with_ending) for with_ending in of_ending)
    folder = next(filter(None, found), None) or find_images(source, names)
    for name in names:
        choices = [str(folder / f"{name}{ending}") for ending in _ENDINGS]
        paths[name] = next((path for path in choices if index.holds(path)), choices[0])
    return paths


def find_easy_vqa(root: Path) -> tuple[Path, ...]:
    """`questions.json`, a list of lists, given or in the folder or its `train/`, `test/`."""
    if root.is_file():
        is_json = root.suffix.lower() == ".json"
        head = "".join(read_head(root).split()) if is_json else ""
        return (root,) if re.match(r'\[\["', head) else ()
    for base in (root, root / "data"):
        folders = [base / name for name in ("train", "val", "dev", "eval", "test")]
        files = [folder / "questions.json" for folder in folders]
        found = tuple(path for path in files if path.is_file() and find_easy_vqa(path))
        if found:
            return found
    path = root / "questions.json"
    return (path,) if path.is_file() and find_easy_vqa(path) else ()


def read_easy_vqa(source: Source) -> Iterator[Example]:
    """Reads `[question, answer, image number]` rows; the folder says the split.

    Both splits number their images from 0, so the ids hold the split: image "train/0", question
    "train:1" for the first row.
    """
    for path in source.files:
        folder = path.parent.name
        split = canonical_split(folder) if folder.lower() in SPLIT_NAMES else "train"
        rows = list(_easy_rows(path, source.report))
        images = _easy_images([number for *_, number in rows], path, source)
        for place, question, answer, number in rows:
            image = str(images / f"{number}.png")
            yield Example(
                image, f"{split}/{number}", (answer,), split, question, f"{split}:{place}"
            )


def _easy_rows(path: Path, report: Report) -> Iterator[tuple[int, str, str, int]]:
    for place, row in enumerate(read_json(path, kind=list), 1):
        match row:
            case [str(question), str(answer), int(number)] if not isinstance(number, bool):
                yield place, question, answer, number
            case _:
                report.add(BAD_ROW, f"{path.name}: row {place}", rows=1)


def _easy_images(numbers: Sequence[int], path: Path, source: Source) -> Path:
    """The folder of a split's images: `train/images`, or one folder given for one file."""
    names = [f"{number}.png" for number in numbers]
    inner = f"{path.parent.name}/images"
    found = locate_images(source, [f"{inner}/{name}" for name in names])
    if found is not None:
        return found / inner
    if source.images is None or len(source.files) == 1:
        return find_images(replace(source, root=path.parent, files=(path,)), names)
    # The numbers of train and test are the same: other folders may hold the other split's images.
    return source.images / inner
