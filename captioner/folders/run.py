"""A run over many images: a row of each, printed or in a file, and the texts beside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from captioner.folders.describe import rows_of
from captioner.folders.failures import ErrorList
from captioner.folders.files import Source
from captioner.folders.rows import ANSWERED, CAPTIONED, IN_A_FILE, Row, RowFile, csv_line
from captioner.folders.texts import Texts
from captioner.printing import answer_record, decodable, lines, printable, progress, record

if TYPE_CHECKING:
    from captioner.predict import Answers, Result

Describe = Callable[[Iterator[Source]], Iterator["Result | Answers"]]
"""From the sources of images to what comes of them, in order."""
Tell = Callable[[str], None]


def run_many(
    args: argparse.Namespace,
    paths: Sequence[str],
    describe: Describe,
    *,
    settings: Mapping[str, Any] | None,
    show: Tell,
    tell: Tell,
) -> tuple[int, int]:
    """Describe the images; returns how many failed, and how many there are.

    `settings` are what the rows of --output depend on; `show` prints a line of data, `tell` one
    for a person. Raises DataError where --output or --errors-to cannot be used.
    """
    name = printable if args.csv else decodable
    texts = Texts(
        paths,
        sidecar=args.sidecar,
        copies=None if args.in_place else args.write_xmp,
        in_place=args.in_place,
        overwrite=args.overwrite,
    )
    with _open(args, settings, tell) as output, ErrorList(args.errors_to) as errors:
        todo, failed = paths, 0
        if output is not None:
            paths = list(dict.fromkeys(paths))
            todo = [path for path in paths if not output.has(name(path))]
            there = paths if len(todo) < len(paths) else ()
            for image in (image for image in map(name, there) if output.has_failed(image)):
                failed += 1
                errors.add(image, output.row(image)["error"])
        elif args.csv:
            show(csv_line(_columns(args)))
        row_of = partial(_record, args, name)
        results = rows_of(todo, describe, row_of, output=output, name=name) if todo else ()
        for path, row in progress(results, len(todo), "image"):
            error = row.get("error")
            # Texts before the row: where a row is, nothing of its image is left to do.
            problems = [(True, error)] if error else list(texts.write(path, row.get("caption")))
            for is_failure, problem in problems:
                tell(problem)
                if is_failure:
                    errors.add(name(path), problem)
            failed += any(is_failure for is_failure, _ in problems)
            if output is not None:
                output.append(row)
            else:
                for line in _lines(args, path, row, alone=len(paths) == 1):
                    show(line)
    return failed, len(paths)


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


def _record(
    args: argparse.Namespace, name: Callable[[str], str], path: str, result: Result | Answers
) -> Row:
    if not args.question:
        return record(path, result) | {"image": name(path)}
    from captioner.data.asked import Asked

    row = Asked(args.question[0], name(path))
    return answer_record(row, result, str(result.error or ""))


def _columns(args: argparse.Namespace) -> Sequence[str]:
    return ANSWERED if args.question else CAPTIONED


def _lines(args: argparse.Namespace, path: str, row: Row, *, alone: bool) -> Iterator[str]:
    if args.csv:
        yield csv_line([row.get(name, "") for name in _columns(args)])
    else:
        yield from lines(path, row, alone=alone, as_json=args.jsonl)
