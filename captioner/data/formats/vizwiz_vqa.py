"""Reader of VizWiz-VQA: questions of people who are blind about their own photographs.

Source of the layout: Gurari et al., "VizWiz Grand Challenge: Answering visual questions from blind
people", CVPR 2018, arXiv:1802.08218.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.data.example import Example, split_in_file_name
from captioner.data.formats.image_folders import choose_image_folder
from captioner.data.formats.io import Source, list_files, read_head, read_json
from captioner.data.formats.vqa import unwrap_answer
from captioner.data.report import BAD_ROW, Report

_TEXT_FOLDERS = ("Annotations", "annotations")


def find_vizwiz_vqa(root: Path) -> tuple[Path, ...]:
    """Return `{train,val,test}.json` with VizWiz's questions, in `Annotations/` or `root`."""
    if root.is_file():
        head = read_head(root, size=65536) if root.suffix.lower() == ".json" else ""
        is_list = head.lstrip().startswith("[") and '"question"' in head and '"image"' in head
        return (root,) if is_list and ('"answerable"' in head or '"VizWiz_' in head) else ()
    for folder in (*(root / name for name in _TEXT_FOLDERS), root):
        files = [path for path in list_files(folder, ".json") if split_in_file_name(path)]
        if files := [path for path in files if find_vizwiz_vqa(path)]:
            return tuple(files)
    return ()


def read_vizwiz_vqa(source: Source) -> Iterator[Example]:
    """Read a list `[{image, question, answers: [{answer, answer_confidence}], answer_type}]`.

    Each image has one question, whose id is the file name of the image. "unanswerable" is an answer
    like others. The test set has no answers.
    """
    for path in source.files:
        split = split_in_file_name(path) or "train"
        rows = _read_questions(path, split, source.report)
        folders = (split, f"images/{split}")
        names = [row.image for row in rows]
        folder = choose_image_folder(replace(source, files=(path,)), names, folders=folders)
        for row in rows:
            yield replace(row, image=str(folder / row.image))


def _read_questions(path: Path, split: str, report: Report) -> list[Example]:
    """Return the questions of a file, each with the name of its image in place of the path."""
    examples = []
    for index, row in enumerate(read_json(path, kind=list, hook=unwrap_answer)):
        example = _parse_question(row, split)
        if example is None:
            report.add(BAD_ROW, f"{path.name}:[{index}]", rows=1)
        else:
            examples.append(example)
    return examples


def _parse_question(row: Any, split: str) -> Example | None:
    match row:
        case {"image": str(image), "question": str(question)} if image:
            answers, kind = row.get("answers") or [], row.get("answer_type") or ""
        case _:
            return None
    if not isinstance(answers, list) or not all(isinstance(t, str) for t in (*answers, kind)):
        return None
    return Example(image, image, tuple(answers), split, question, image, answer_type=kind)
