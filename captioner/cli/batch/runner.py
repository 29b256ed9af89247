"""A run over many images: a row for each, printed or in a file, and the texts beside it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.dedupe import Source, digest
from captioner.cli.batch.describe import rows_of
from captioner.cli.batch.failures import ErrorList
from captioner.cli.batch.find_images import SHEET, Inputs
from captioner.cli.batch.output_names import Names
from captioner.cli.batch.resume import check_rows
from captioner.cli.batch.row_file import ANSWERED, CAPTIONED, IN_A_FILE, Row, RowFile
from captioner.cli.batch.run_record import relative_to
from captioner.cli.batch.sidecars import Texts
from captioner.cli.output import (
    answer_record,
    decodable,
    lines,
    listed,
    printable,
    progress,
    record,
)
from captioner.files import csv_line

if TYPE_CHECKING:
    from captioner.predict import Answers, Result

Describe = Callable[[Iterator[Source]], Iterator["Result | Answers"]]
"""From the sources of images to what comes of them, in order."""
Tell = Callable[[str], None]
Draw = Callable[[str, str, str], tuple[str, str]]
"""From an image, its caption and the path of its sheet to an error and a remark, or empty texts."""


def run_many(
    args: argparse.Namespace,
    inputs: Inputs,
    describe: Describe,
    *,
    settings: Mapping[str, Any] | None,
    show: Tell,
    tell: Tell,
    draw: Draw | None = None,
    reserved: Collection[str] = (),
) -> tuple[int, int]:
    """Describe the images; return how many failed, and how many there are.

    Args:
        settings: What the rows of --output depend on.
        show: Prints a line of data.
        tell: Prints a line for the user.
        reserved: Files that the run reads or writes.

    Raises:
        DataError: --output or --errors-to cannot be used.
    """
    with _open(args, settings, tell) as output, ErrorList(args.errors_to) as errors:
        run = _Run(args, inputs, output, errors, tell, draw, reserved)
        paths = inputs.paths
        if output is not None:
            paths = list(run.distinct(paths))
        todo = paths if output is None else run.unfinished(paths)
        names = Names(paths)
        for remark in _shared_names(args, names, todo):
            tell(remark)
        if output is None and args.csv:
            show(csv_line(_columns(args)))
        texts = _texts(args, names, reserved)
        for path, row in progress(run.rows(todo, describe), len(todo), "image"):
            row = run.finish(path, row, texts, names)
            if output is not None:
                output.append(row)
            else:
                for line in _lines(args, path, row, alone=len(paths) == 1):
                    show(line)
    return run.failed, len(paths) + run.left_out


@dataclass
class _Run:
    """What the images of a run have in common."""

    args: argparse.Namespace
    inputs: Inputs
    output: RowFile | None
    errors: ErrorList
    tell: Tell
    draw: Draw | None
    reserved: Collection[str]
    failed: int = 0
    left_out: int = 0
    """Inputs that can have no row of their own."""
    shown: Callable[[str], str] = field(init=False)
    """From a path to text."""
    name: Callable[[str], str] = field(init=False)
    """From a path to what its row calls the image."""

    def __post_init__(self) -> None:
        self.shown = self.name = printable if self.args.csv else decodable
        if self.output is not None:
            self.name = relative_to(self.output.base, self.output, self.shown)

    def distinct(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield the paths whose rows differ in their image, and report the others."""
        first: dict[str, str] = {}
        repeated: dict[str, None] = {}
        for path in paths:
            name = self.name(path)
            if name not in first:
                first[name] = path
                yield path
            elif os.path.abspath(first[name]) == os.path.abspath(path):
                repeated[path] = None
            else:
                self.left_out += 1
                other = printable(first[name])
                self.fail(path, f"{printable(path)}: a row cannot tell it from {other}; rename one")
        if repeated:
            count = f"{len(repeated)} inputs are" if len(repeated) > 1 else "1 input is"
            self.tell(f"{count} named more than once, for one row each ({listed(list(repeated))})")

    def unfinished(self, paths: Sequence[str]) -> list[str]:
        """Return the images without a row that can be kept, and report what is wrong with rows."""
        for message in check_rows(self.output, paths, self.name):
            self.tell(message)
        for path in paths:
            if self.output.has_failed(self.name(path)):
                self.failed += 1
                image = self.name(path)
                self.errors.add(self.shown(path), self.output.row(image)["error"])
        return [path for path in paths if not self.output.has(self.name(path))]

    def rows(self, paths: Sequence[str], describe: Describe) -> Iterator[tuple[str, Row]]:
        """Yield each path with its row."""
        if not paths:
            return iter(())
        return rows_of(paths, describe, self._record, output=self.output, name=self.name)

    def finish(self, path: str, row: Row, texts: Texts, names: Names) -> Row:
        """Write what belongs to a row besides it, and report its problems; return the row."""
        # Before the row: once an image has its row, nothing of it is left to do.
        if self.draw is not None and not row.get("error"):
            target = names.below(self.args.attention, path, SHEET)
            error, remark = self.draw(path, row["caption"], target)
            if remark:
                self.tell(remark)
            if error:
                row = {"image": row["image"], "error": error} | _content(row)
        if row.get("error"):
            self.fail(path, row["error"])
            return row
        previous = self.output.caption(self.name(path)) if self.output is not None else None
        problems = list(texts.write(path, row.get("caption"), previous))
        for is_failure, problem in problems:
            if is_failure:
                self.errors.add(self.shown(path), problem)
            self.tell(problem)
        self.failed += any(is_failure for is_failure, _ in problems)
        if self.args.in_place and "sha256" in row:  # the file has changed by that
            row["sha256"] = (digest(path) or bytes.fromhex(row["sha256"])).hex()
        return row

    def fail(self, path: str, problem: str) -> None:
        """Report that nothing came of an image."""
        self.failed += 1
        self.tell(problem)
        self.errors.add(self.shown(path), problem)

    def _record(self, path: str, result: Result | Answers) -> Row:
        if self.args.question:
            from captioner.cli.question_file import Asked

            row = answer_record(
                Asked(self.args.question[0], self.name(path)), result, str(result.error or "")
            )
        else:
            row = record(path, result) | {"image": self.name(path)}
        if row.get("error"):
            row["error"] = self.inputs.error_of(path, row["error"])
        return row


def _open(
    args: argparse.Namespace, settings: Mapping[str, Any] | None, tell: Tell
) -> AbstractContextManager[RowFile | None]:
    if settings is None:
        return nullcontext()
    return RowFile(
        args.output,
        columns=(*_columns(args), *IN_A_FILE) if args.csv else None,
        settings=settings,
        resume=args.resume,
        retry=args.retry_failed,
        tell=tell,
    )


def _texts(args: argparse.Namespace, names: Names, reserved: Collection[str]) -> Texts:
    return Texts(
        names,
        sidecar=args.sidecar,
        copies=None if args.in_place else args.write_xmp,
        in_place=args.in_place,
        overwrite=args.overwrite,
        reserved=reserved,
    )


def _shared_names(args: argparse.Namespace, names: Names, paths: Sequence[str]) -> Iterator[str]:
    """Yield which images keep their suffix in the names of what is written for them."""
    suffix = ".txt" if args.sidecar else SHEET if args.attention else ""
    groups = {tuple(names.sharing(path)) for path in paths} - {()} if suffix else set()
    if groups:
        shown = "; ".join(" and ".join(map(printable, group)) for group in sorted(groups)[:3])
        example = printable(names.beside(sorted(groups)[0][0], suffix))
        more = "; ..." if len(groups) > 3 else ""
        yield (
            f"images that differ in their suffix alone keep it in the names of what is written for"
            f" them, such as {example} ({shown}{more})"
        )


def _content(row: Row) -> Row:
    return {"sha256": row["sha256"]} if "sha256" in row else {}


def _columns(args: argparse.Namespace) -> Sequence[str]:
    return ANSWERED if args.question else CAPTIONED


def _lines(args: argparse.Namespace, path: str, row: Row, *, alone: bool) -> Iterator[str]:
    if args.csv:
        yield csv_line([row.get(name, "") for name in _columns(args)])
    else:
        yield from lines(path, row, alone=alone, as_json=args.jsonl)
