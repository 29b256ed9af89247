"""Reader of VQAv2 and VQA v1: official questions and annotations, ten answers per question.

Each question is an Example whose references are its answers. Source of the layout: Goyal et al.,
"Making the V in VQA Matter", arXiv:1612.00837.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from captioner.data.example import Example
from captioner.data.formats.image_folders import choose_image_folder
from captioner.data.formats.io import Source, get_list, list_files, read_head, read_json
from captioner.data.report import BAD_ROW, DUPLICATE, Report
from captioner.errors import DataError

UNKNOWN_QUESTION = "answers to a question that is not in the file"
OTHER_QUESTIONS = "VQA file left unread because of a more complete one (name it to read it)"

_SUBSETS = ("train2014", "val2014", "test2015", "test-dev2015")
_QUESTION_NAMES = re.compile(
    rf"^(v2_)?OpenEnded_mscoco_({'|'.join(_SUBSETS)})_questions\.json$", re.IGNORECASE
)
_TEXT_FOLDERS = ("questions", "Questions", "annotations", "Annotations")


class _Annotation(NamedTuple):
    """The fields of an `Example` that the annotations of a question give."""

    references: tuple[str, ...] = ()
    question_type: str = ""
    answer_type: str = ""


def find_vqav2(root: Path) -> tuple[Path, ...]:
    """Return the `v2_OpenEnded_mscoco_*_questions.json`, given or in one of the usual folders."""
    if root.is_file():
        if _QUESTION_NAMES.match(root.name):
            return (root,)
        head = read_head(root, size=65536) if root.suffix.lower() == ".json" else ""
        return (root,) if '"questions"' in head and '"question_id"' in head else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        matches = [
            m for path in list_files(folder, ".json") if (m := _QUESTION_NAMES.match(path.name))
        ]
        if matches:
            # By subset, and version 2 before version 1.
            matches.sort(key=lambda match: (_SUBSETS.index(match[2].lower()), match[1] is None))
            return tuple(folder / match[0] for match in matches)
    return ()


def read_vqav2(source: Source) -> Iterator[Example]:
    """Read `{"questions": [{question_id, image_id, question}]}` and the annotations.

    The annotations file `{"annotations": [{question_id, answers, question_type, answer_type}]}`
    gives the references, in the order of the file. A question without annotation, as in the test
    sets, has no references. Only v2 is read from a folder with v1 and v2, and `test-dev2015`, a
    part of `test2015`, only if `test2015` is absent; files that are not read are reported.
    """
    for path in _select_files(source):
        document = read_json(path)
        subset = _find_subset(document, path)
        annotations = _read_annotations(_find_annotations(path, source), source.report)
        rows = _read_questions(document, path=path, subset=subset, report=source.report)
        folders = (subset, f"images/{subset}", f"mscoco/{subset}", f"images/mscoco/{subset}")
        names = list(dict.fromkeys(row.image for row in rows))
        folder = choose_image_folder(replace(source, files=(path,)), names, folders=folders)
        paths = {name: str(folder / name) for name in names}
        for row in rows:
            annotation = annotations.pop(row.question_id, _Annotation())
            yield replace(row, image=paths[row.image], **annotation._asdict())
        for question_id in annotations:
            source.report.add(UNKNOWN_QUESTION, f"{question_id} ({path.name})")


def _select_files(source: Source) -> list[Path]:
    """Return the files to read: v2 before v1 for each subset, test-dev only without test."""
    selected: dict[str, Path] = {}
    for path in source.files:
        match = _QUESTION_NAMES.match(path.name)
        subset = match[2].lower() if match else path.name
        if subset in selected or (subset == "test-dev2015" and "test2015" in selected):
            source.report.add(OTHER_QUESTIONS, path.name)
        else:
            selected[subset] = path
    return list(selected.values())


def _find_subset(document: dict[str, Any], path: Path) -> str:
    """Return the subset of COCO that the images belong to, such as train2014.

    Raises:
        DataError: Neither the file name nor `data_subtype` names it.
    """
    match = _QUESTION_NAMES.match(path.name)
    subset = match[2] if match else document.get("data_subtype")
    if not (isinstance(subset, str) and re.match(r"(?i:train|val|test)[\w-]*$", subset)):
        raise DataError(
            f"{path}: names no part of COCO under data_subtype (found {subset!r}), expected one of "
            f"{', '.join(_SUBSETS)}; the file names of the images contain it"
        )
    return subset.lower().replace("test-dev", "test")


def _read_questions(
    document: dict[str, Any], *, path: Path, subset: str, report: Report
) -> list[Example]:
    split = next(name for name in ("train", "val", "test") if subset.startswith(name))
    rows = []
    for index, row in enumerate(get_list(document, "questions", path, kind="VQA")):
        match row:
            case {"image_id": int(image), "question": str(question), "question_id": int() | str()}:
                name = f"COCO_{subset}_{image:012d}.jpg"
                rows.append(Example(name, str(image), (), split, question, str(row["question_id"])))
            case _:
                report.add(BAD_ROW, f"{path.name}:questions[{index}]", rows=1)
    return rows


def _find_annotations(path: Path, source: Source) -> Path | None:
    """Return the annotations of a file of questions, in its folder or one beside it, or None."""
    name = re.sub("openended_", "", path.name, flags=re.IGNORECASE)
    name = re.sub("questions", "annotations", name, flags=re.IGNORECASE)
    bases = (path.parent, path.parent.parent, source.root)
    folders = [base / inner for base in bases for inner in ("", *_TEXT_FOLDERS)]
    files = (folder / name for folder in folders if (folder / name).is_file())
    return next((file for file in files if file != path), None)


def _read_annotations(path: Path | None, report: Report) -> dict[str, _Annotation]:
    """Return the annotations by question id."""
    annotations: dict[str, _Annotation] = {}
    if path is None:
        return annotations
    rows = get_list(read_json(path, hook=unwrap_answer), "annotations", path, kind="VQA")
    for index, row in enumerate(rows):
        where = f"{path.name}:annotations[{index}]"
        match row:
            case {"question_id": int() | str() as key, "answers": [*answers]}:
                types = [row.get(name, "") for name in ("question_type", "answer_type")]
                valid = all(isinstance(text, str) for text in (*answers, *types))
            case _:
                valid = False
        if not valid:
            report.add(BAD_ROW, where)
        elif str(key) in annotations:
            report.add(DUPLICATE, f"answers to {key} ({where})")
        else:
            annotations[str(key)] = _Annotation(tuple(answers), *types)
    return annotations


def unwrap_answer(value: dict[str, Any]) -> Any:
    """Return the text of an answer object, interned; other objects are returned unchanged.

    VQAv2 has millions of answer objects, which would take gigabytes of memory.
    """
    if "answer" not in value or "answers" in value:
        return value
    answer = value["answer"]
    return sys.intern(answer) if type(answer) is str else answer
