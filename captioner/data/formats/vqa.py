"""Reader of VQAv2 (and VQA v1): official questions and annotations, ten answers to each question.

Each question is an Example whose references are its answers. Source of the layout: Goyal et al.,
"Making the V in VQA Matter", arXiv:1612.00837.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.data.example import Example
from captioner.data.formats.io import Source, find_images, list_files, list_in, read_head, read_json
from captioner.data.report import BAD_ROW, DUPLICATE, Report
from captioner.errors import DataError

UNKNOWN_QUESTION = "answers to a question that is not in the file"
OTHER_QUESTIONS = "VQA file left unread beside a fuller one (name it to read it)"

_SUBSETS = ("train2014", "val2014", "test2015", "test-dev2015")
_QUESTION_NAMES = re.compile(
    rf"^(v2_)?OpenEnded_mscoco_({'|'.join(_SUBSETS)})_questions\.json$", re.IGNORECASE
)
_TEXT_FOLDERS = ("questions", "Questions", "annotations", "Annotations")
_Answers = tuple[tuple[str, ...], str, str]
"""Answers, question type and answer type."""


def find_vqav2(root: Path) -> tuple[Path, ...]:
    """`v2_OpenEnded_mscoco_*_questions.json` in the folder, its `questions/` or `annotations/`."""
    if root.is_file():
        if _QUESTION_NAMES.match(root.name):
            return (root,)
        head = read_head(root, size=65536) if root.suffix.lower() == ".json" else ""
        return (root,) if '"questions"' in head and '"question_id"' in head else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        found = [path for path in list_files(folder) if _QUESTION_NAMES.match(path.name)]
        if found:
            return tuple(sorted(found, key=_rank))
    return ()


def _rank(path: Path) -> tuple[int, bool]:
    match = _QUESTION_NAMES.match(path.name)
    return _SUBSETS.index(match[2].lower()), match[1] is None


def read_vqav2(source: Source) -> Iterator[Example]:
    """Reads `{"questions": [{question_id, image_id, question}]}` and the annotations beside it.

    The annotations give each question its `answers`, in the order of the file, `question_type` and
    `answer_type`. A question without annotation, as in the test sets, has no references. Of a
    folder with v1 and v2 only v2 is read, and `test-dev2015`, a part of `test2015`, only where it
    stands alone; that is reported.
    """
    for path in _fullest(source):
        document = read_json(path)
        subset = _subset(document, path)
        answers = _annotations(_beside(path, source), source.report)
        rows = _questions(document, path=path, subset=subset, report=source.report)
        folders = (subset, f"images/{subset}", f"mscoco/{subset}", f"images/mscoco/{subset}")
        names = list(dict.fromkeys(row.image for row in rows))
        folder = find_images(replace(source, files=(path,)), names, folders=folders)
        paths = {name: str(folder / name) for name in names}
        for row in rows:
            references, of_question, of_answer = answers.pop(row.question_id, ((), "", ""))
            types = {"question_type": of_question, "answer_type": of_answer}
            yield replace(row, image=paths[row.image], references=references, **types)
        for question_id in answers:
            source.report.add(UNKNOWN_QUESTION, f"{question_id} ({path.name})")


def _fullest(source: Source) -> list[Path]:
    """The files to read: of each subset v2 before v1, and test-dev only without test."""
    chosen: dict[str, Path] = {}
    for path in source.files:
        match = _QUESTION_NAMES.match(path.name)
        subset = match[2].lower() if match else path.name
        if subset in chosen or (subset == "test-dev2015" and "test2015" in chosen):
            source.report.add(OTHER_QUESTIONS, path.name)
        else:
            chosen[subset] = path
    return list(chosen.values())


def _subset(document: dict[str, Any], path: Path) -> str:
    """The part of COCO that the images are of, such as train2014; raises DataError."""
    match = _QUESTION_NAMES.match(path.name)
    subset = match[2] if match else document.get("data_subtype")
    if not (isinstance(subset, str) and re.match(r"(?i:train|val|test)[\w-]*$", subset)):
        raise DataError(
            f"{path}: names no part of COCO under data_subtype (found {subset!r}), expected one of "
            f"{', '.join(_SUBSETS)}; its images cannot be named without"
        )
    return subset.lower().replace("test-dev", "test")


def _questions(
    document: dict[str, Any], *, path: Path, subset: str, report: Report
) -> list[Example]:
    rows, split = [], re.match("train|val|test", subset)[0]
    for index, row in enumerate(list_in(document, "questions", path, kind="VQA")):
        match row:
            case {"image_id": int(image), "question": str(question), "question_id": int() | str()}:
                name = f"COCO_{subset}_{image:012d}.jpg"
                rows.append(Example(name, str(image), (), split, question, str(row["question_id"])))
            case _:
                report.add(BAD_ROW, f"{path.name}:questions[{index}]", rows=1)
    return rows


def _beside(path: Path, source: Source) -> Path | None:
    """The annotations that belong to a file of questions, in its folder or in one beside it."""
    name = re.sub("openended_", "", path.name, flags=re.IGNORECASE)
    name = re.sub("questions", "annotations", name, flags=re.IGNORECASE)
    bases = (path.parent, path.parent.parent, source.root)
    folders = [base / inner for base in bases for inner in ("", *_TEXT_FOLDERS)]
    found = (folder / name for folder in folders if (folder / name).is_file())
    return next((file for file in found if file != path), None)


def _annotations(path: Path | None, report: Report) -> dict[str, _Answers]:
    """Maps question id to what the annotations say about it."""
    found: dict[str, _Answers] = {}
    if path is None:
        return found
    for index, row in enumerate(
        list_in(read_json(path, hook=_bare), "annotations", path, kind="VQA")
    ):
        where = f"{path.name}:annotations[{index}]"
        match row:
            case {"question_id": int() | str() as key, "answers": [*answers]}:
                types = [row.get(name, "") for name in ("question_type", "answer_type")]
            case _:
                key, answers, types = None, (), ()
        if key is None or not all(isinstance(text, str) for text in (*answers, *types)):
            report.add(BAD_ROW, where)
        elif str(key) in found:
            report.add(DUPLICATE, f"answers to {key} ({where})")
        else:
            found[str(key)] = (tuple(answers), *types)
    return found


def _bare(value: dict[str, Any]) -> Any:
    """An answer's text alone, once: millions of small objects would take gigabytes."""
    if "answer" not in value or "answers" in value:
        return value
    answer = value["answer"]
    return sys.intern(answer) if type(answer) is str else answer
