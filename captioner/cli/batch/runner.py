"""Runs over many images: one row per image, printed or in a file, and the files beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.dedupe import (
    Source,
    compute_digest,
    describe_distinct,
    read_source,
)
from captioner.cli.batch.error_list import ErrorList
from captioner.cli.batch.find_images import SHEET, Inputs
from captioner.cli.batch.keywords import find_keywords, join_keywords, keywords_of
from captioner.cli.batch.output_names import OutputNames
from captioner.cli.batch.resume import check_rows
from captioner.cli.batch.row_file import ANSWER_COLUMNS, CAPTION_COLUMNS, FILE_COLUMNS, Row, RowFile
from captioner.cli.batch.run_record import make_row_names
from captioner.cli.batch.sidecars import SidecarWriter
from captioner.cli.batch.xmp_properties import Origin
from captioner.cli.generate_options import CaptionOptions
from captioner.cli.output import (
    describe_unusual,
    escape_path,
    format_captions,
    list_paths,
    make_answer_record,
    make_caption_record,
    show_progress,
    to_unicode,
)
from captioner.cli.process import notify
from captioner.cli.question_file import QuestionRow
from captioner.files import csv_line

if TYPE_CHECKING:
    from captioner.predict import Answers, Caption, Result

Describe = Callable[[Iterator[Source]], Iterator["Result | Answers"]]
"""From the sources of images to their captions or answers, in order."""
Draw = Callable[[str, "Caption | str", str], tuple[str, str]]
"""From an image, its caption and the path of a sheet to an error and a remark, or empty texts."""


def run_many(
    options: CaptionOptions,
    inputs: Inputs,
    describe: Describe,
    *,
    settings: Mapping[str, Any] | None,
    show: Callable[[str], None],
    draw: Draw | None = None,
    origin: Origin | None = None,
) -> tuple[int, int]:
    """Caption or answer all images; return the numbers of failures and of images.

    `settings` has the options that affect the rows of --output; None without --output. `show`
    prints a line of data. `origin` is written into XMP.

    Raises:
        DataError: --output or --errors-to cannot be used.
    """
    with _open_rows(options, settings) as rows, ErrorList(options.output.errors_to) as errors:
        run = _Run(options, inputs, rows, errors, draw, origin)
        paths = list(run.distinct()) if rows is not None else inputs.paths
        unfinished = run.unfinished(paths) if rows is not None else paths
        run.prepare_files(paths, unfinished)
        if rows is None and options.output.csv:
            show(csv_line(_columns(options)))
        described = run.describe(unfinished, describe)
        for path, row in show_progress(described, len(unfinished), "image"):
            row = run.finish(path, row)
            if rows is not None:
                rows.append(row)
                continue
            for line in _format_row(options, path, row, alone=len(paths) == 1):
                show(line)
        if message := describe_unusual(run.kinds):
            notify(message)
    return run.failed, len(paths) + run.excluded


class _Run:
    """The state of a run over many images."""

    def __init__(
        self,
        options: CaptionOptions,
        inputs: Inputs,
        rows: RowFile | None,
        errors: ErrorList,
        draw: Draw | None,
        origin: Origin | None,
    ) -> None:
        self._options, self._inputs = options, inputs
        self._rows, self._errors, self._draw = rows, errors, draw
        self._origin = origin
        self.failed = 0
        self.excluded = 0
        """Number of images that can have no row of their own."""
        self.kinds: dict[str, str | None] = {}
        """The kinds of the images, by path."""
        self._captions: dict[str, Caption] = {}
        """The best caption of each image, by its name in the row, if attention is drawn."""
        to_text = escape_path if options.output.is_csv else to_unicode
        self._to_text: Callable[[str], str] = to_text
        # From the path of an image to its name in the row.
        self._name = to_text if rows is None else make_row_names(rows.base, rows, to_text)

    def distinct(self) -> Iterator[str]:
        """Yield the paths whose rows differ in their image, and report the others."""
        first: dict[str, str] = {}
        repeated: dict[str, None] = {}
        for path in self._inputs.paths:
            name = self._name(path)
            if name not in first:
                first[name] = path
                yield path
            elif os.path.abspath(first[name]) == os.path.abspath(path):
                repeated[path] = None
            else:
                self.excluded += 1
                other = escape_path(first[name])
                problem = f"a row cannot distinguish it from {other}; rename one"
                self._fail(path, f"{escape_path(path)}: {problem}")
        if repeated:
            count = f"{len(repeated)} inputs are" if len(repeated) > 1 else "1 input is"
            notify(f"{count} listed more than once; each has one row ({list_paths([*repeated])})")

    def unfinished(self, paths: Sequence[str]) -> list[str]:
        """Return the images without a valid row, and report the problems of rows."""
        assert self._rows is not None
        for message in check_rows(self._rows, paths, self._name):
            notify(message)
        for path in paths:
            name = self._name(path)
            if self._rows.has_failed(name):
                self.failed += 1
                self._errors.add(self._to_text(path), self._rows.row(name)["error"])
        return [path for path in paths if not self._rows.has(self._name(path))]

    def prepare_files(self, paths: Sequence[str], unfinished: Sequence[str]) -> None:
        """Choose the names of the files that are written for the images, and report odd ones."""
        batch = self._options.batch
        self._names = OutputNames(paths)
        reserved = self._options.reserved_paths()
        self._texts = SidecarWriter(self._names, batch, reserved=reserved, origin=self._origin)
        suffix = ".txt" if batch.sidecar else SHEET if batch.attention else ""
        if suffix and (message := self._names.report_shared(unfinished, suffix)):
            notify(message)

    def describe(self, paths: Sequence[str], describe: Describe) -> Iterator[tuple[str, Row]]:
        """Yield each path with its row.

        Rows for a file are made once for each content. Other images with that content repeat the
        row and have the path of the first image as `same_as`. The caller appends each row before
        it asks for the next.
        """
        if not paths:
            return
        if self._rows is None:
            for path, result in zip(paths, describe(map(read_source, paths)), strict=True):
                yield path, self._make_row(path, result)
            return
        known = self._rows.known
        for path, digest, result in describe_distinct(paths, describe, known, name=self._name):
            if result is None and digest is not None:
                yield path, self._rows.repeat(self._name(path), known[digest])
            else:
                row = self._make_row(path, result)
                yield path, row | ({"sha256": digest.hex()} if digest else {})

    def _make_row(self, path: str, result: Any) -> Row:
        name, questions = self._name(path), self._options.questions.questions
        if questions:
            error = str(result.error or "")
            row = make_answer_record(QuestionRow(questions[0], name), result, error)
        else:
            row = make_caption_record(path, result) | {"image": name}
            if self._draw is not None and result.error is None:
                self._captions[name] = result.best
        if row.get("error"):
            row["error"] = self._inputs.describe_error(path, row["error"])
        elif "keywords" in self._options.batch.text_columns:
            keywords = find_keywords(row["caption"])
            row["keywords"] = join_keywords(keywords) if self._options.output.is_csv else keywords
        return row

    def finish(self, path: str, row: Row) -> Row:
        """Write the files that belong to a row and report its problems; return the row."""
        # Before the row is appended: an image that has a row is complete.
        if row.get("error"):
            self._fail(path, row["error"])
            return row
        self.kinds[path] = row.get("kind")
        old = self._rows.find(self._name(path)) if self._rows is not None else None
        previous = self._text_of(old) if old else None
        problems = list(self._draw_sheet(self._draw, path, row)) if self._draw is not None else []
        problems += self._texts.write(path, self._text_of(row), keywords_of(row), previous)
        for is_failure, problem in problems:
            if is_failure:
                self._errors.add(self._to_text(path), problem)
            notify(problem)
        self.failed += any(is_failure for is_failure, _ in problems)
        if self._options.batch.in_place and "sha256" in row:  # The XMP has changed the file.
            digest = compute_digest(path) or bytes.fromhex(row["sha256"])
            row["sha256"] = digest.hex()
        return row

    def _text_of(self, row: Row) -> str:
        """Return the text that is written for a row: its caption, or else its keywords."""
        if self._options.batch.keywords_only:
            return join_keywords(keywords_of(row))
        return str(row.get("caption", ""))

    def _draw_sheet(self, draw: Draw, path: str, row: Row) -> Iterator[tuple[bool, str]]:
        """Draw the sheet of an image; yield its problems, and whether they are failures."""
        folder = self._options.batch.attention or ""
        # The row of an earlier run has the text only.
        name: str = row.get("same_as") or row["image"]
        caption = self._captions.get(name) or str(row["caption"])
        error, remark = draw(path, caption, self._names.below(folder, path, SHEET))
        if remark:
            yield False, remark
        if error:
            yield True, error

    def _fail(self, path: str, problem: str) -> None:
        self.failed += 1
        notify(problem)
        self._errors.add(self._to_text(path), problem)


def _open_rows(
    options: CaptionOptions, settings: Mapping[str, Any] | None
) -> AbstractContextManager[RowFile | None]:
    output = options.output
    if settings is None or output.path is None:
        return nullcontext()
    return RowFile(
        output.path,
        columns=(*_columns(options), *FILE_COLUMNS) if output.is_csv else None,
        settings=settings,
        resume=output.resume,
        retry=output.retry_failed,
        notify=notify,
    )


def _columns(options: CaptionOptions) -> Sequence[str]:
    if options.questions.questions:
        return ANSWER_COLUMNS
    has_keywords = "keywords" in options.batch.text_columns
    return (*CAPTION_COLUMNS, "keywords") if has_keywords else CAPTION_COLUMNS


def _format_row(options: CaptionOptions, path: str, row: Row, *, alone: bool) -> Iterator[str]:
    if options.output.is_csv:
        yield csv_line([row.get(name, "") for name in _columns(options)])
    else:
        columns, as_json = options.batch.text_columns, options.output.jsonl
        yield from format_captions(path, row, alone=alone, as_json=as_json, columns=columns)
