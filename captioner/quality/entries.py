"""The entries of a data set, with a finding for each row that its reader or its checks drop."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.data import report as problems
from captioner.data.duplicates import group_equal_files
from captioner.data.example import Example
from captioner.data.example_checks import ExampleChecker, Selection, read_unchecked
from captioner.data.example_rows import select_examples
from captioner.data.formats.registry import READERS
from captioner.data.report import Report
from captioner.data.shards.tar_index import DAMAGED_SHARD, UNREAD_MEMBER
from captioner.errors import DataError
from captioner.quality.findings import Finding
from captioner.sources import normalize
from captioner.text import one_line

_KINDS = {
    problems.MISSING_IMAGE: "missing-image",
    problems.MISSING_AUDIO: "missing-recording",
    problems.NO_CAPTION: "no-caption",
    problems.EMPTY_CAPTION: "empty-caption",
    problems.EMPTY_QUESTION: "empty-question",
    problems.EMPTY_ANSWER: "empty-answer",
    problems.NO_ANSWER: "empty-answer",
    problems.DUPLICATE: "duplicate-row",
    problems.UNREAD_FILE: "unread-data",
    problems.UNREAD_COLUMN: "unread-data",
    UNREAD_MEMBER: "unread-data",
    DAMAGED_SHARD: "unread-data",
}
"""The kind of finding of each problem that readers report; other problems are dropped rows."""


@dataclass(frozen=True)
class DataSet:
    """The usable examples of a data set, and what is wrong with its other rows."""

    root: Path
    format: str
    files: tuple[Path, ...]
    """The annotation files."""
    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]
    """One for each problem that the readers report."""
    rows: Counter[tuple[str, str]]
    """Usable rows by split and kind of row."""
    dropped: int
    """Rows, and texts of the examples, that cannot be used."""


class _RecordedReport(Report):
    """A report that keeps every problem, with the example in which it occurs."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, str, Example | None]] = []
        self.example: Example | None = None
        self.entries = 0
        """Rows, and texts of rows that are used, that have a problem and are not used."""

    def add(self, kind: str, name: object, *, rows: int = 0) -> None:
        super().add(kind, name, rows=rows)
        self.records.append((kind, one_line(name), self.example))
        self.entries += _count_entries(kind, 1, rows)

    def add_once(self, kind: str, name: object, *, key: object, rows: int = 0) -> None:
        before = self.entries
        super().add_once(kind, name, key=key, rows=rows)
        self.entries = before + _count_entries(kind, 1, rows)

    def merge(self, other: Report) -> None:
        """Add the report of a shard, which has the places of the first problems only."""
        super().merge(other)
        for kind, problem in other:
            self.records += [(kind, name, None) for name in problem.names]
            if more := problem.count - len(problem.names):
                shard = problem.names[-1].partition("::")[0]
                self.records.append((kind, f"{shard} ({more} more)", None))
            self.entries += _count_entries(kind, problem.count, problem.rows)


def _count_entries(kind: str, count: int, rows: int) -> int:
    """Return the number of rows or texts that are not used because of problems of a kind."""
    return 0 if _KINDS.get(kind) == "unread-data" else max(count, rows)


def read_entries(
    root: str | os.PathLike[str],
    *,
    format: str = "auto",
    images: str | os.PathLike[str] | None = None,
) -> DataSet:
    """Read all splits of a data set.

    Args:
        root: A folder, the annotation file itself, or another location that training reads: a
            pattern or URL of shards, or a name of the Hugging Face Hub.
        format: A key of `READERS`, or "auto".
        images: Folder of the images if it is none of the usual ones.

    Raises:
        DataError: A path does not exist, or the format is unknown, or a file cannot be read.
    """
    selection = select_examples(
        root, format=format, splits=None, images=images, check_images=True, require_answers=True
    )
    report = _RecordedReport()
    examples = _read_examples(selection, report)
    findings = tuple(
        _make_finding(kind, name, example)
        for kind, name, example in _skip_unanswered(report, examples)
    )
    if not examples and not findings:
        raise DataError(f"{root}: holds no rows in the format {selection.format}; check the path")
    files = () if selection.shards else READERS[selection.format].find(selection.root)
    rows: Counter[tuple[str, str]] = Counter()
    for example in examples:
        rows[example.split, example.kind] += example.rows
    root, format = selection.root, selection.format
    return DataSet(root, format, files, tuple(examples), findings, rows, report.entries)


def _read_examples(selection: Selection, report: _RecordedReport) -> list[Example]:
    checker, leaks = ExampleChecker(selection, report), _Leaks()
    examples: list[Example] = []
    stream = read_unchecked(selection, report, keep_leaks=True)
    while True:
        report.example = None  # the reader's own problems belong to no example
        example = next(stream, None)
        if example is None:
            return examples
        report.example = example
        if not leaks.contains(example) and checker.is_duplicate(example):
            continue
        if checked := checker.check(example):
            examples.append(replace(checked, image=normalize(checked.image)))


class _Leaks:
    """Recognizes an image or question that another split has, which no duplicate within a split is.

    A different image with the same id is a duplicate.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[str, str]] = {}

    def contains(self, example: Example) -> bool:
        """Return whether only other splits have had the input of an example under its id."""
        key = example.kind, example.question_id or example.image_id
        images = self._seen.setdefault(key, {})
        is_new = example.split not in images
        others = [path for split, path in images.items() if split != example.split]
        images.setdefault(example.split, example.image)
        return bool(is_new and others) and _are_equal(others[0], example.image)


def _are_equal(first: str, second: str) -> bool:
    """Return whether two paths are equal or their files have equal bytes."""
    return normalize(first) == normalize(second) or bool(group_equal_files([first, second]))


def _skip_unanswered(
    report: _RecordedReport, examples: list[Example]
) -> list[tuple[str, str, Example | None]]:
    """Return the problems without the questions of splits that have no answers at all.

    The answers of such a split, like those of the tests of VQA, are not public.
    """
    answered = {example.split for example in examples if example.kind == "questions"}
    return [
        (kind, name, example)
        for kind, name, example in report.records
        if kind != problems.NO_ANSWER or example is None or example.split in answered
    ]


def _make_finding(kind: str, name: str, example: Example | None) -> Finding:
    text = kind if kind in _KINDS else f"{kind}: the row is dropped"
    if example is None:
        return Finding(_KINDS.get(kind, "dropped-row"), text, place=name)
    question, place = example.question.strip(), name
    if kind == problems.BAD_TEXT:
        bad = name.removeprefix(f"{example.question_id or example.image_id}: ")
        question, place = question or ("" if bad == name else bad), ""
    elif kind == problems.DUPLICATE:
        text, place = f"duplicate: {name}", ""
    elif name in (example.image, example.image_id):
        place = ""
    return Finding(
        _KINDS.get(kind, "dropped-row"),
        text,
        split=example.split,
        place=place,
        image=normalize(example.image),
        text=question,
    )
