"""The questions and the allowed answers of a command line, from flags and from files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.find_images import Inputs
from captioner.cli.generate_options import CaptionOptions
from captioner.cli.output import escape_path, to_unicode
from captioner.cli.process import notify
from captioner.errors import DataError, QuestionError

if TYPE_CHECKING:
    from captioner.predict import Answers

JSONL = (".jsonl", ".ndjson")
OUTPUT_KEYS = ("image", "question", "answer", "confidence", "answers", "error")
"""Keys of a result, which the other keys of a row cannot have."""


class UsageError(Exception):
    """Options that do not fit the inputs; detected only when the inputs are read."""


@dataclass(frozen=True)
class QuestionRow:
    """One question and its image, if the file of questions names one."""

    question: Any = None
    image: Any = None
    """The image as the row names it."""
    path: str = ""
    """The path of the image file."""
    where: str = ""
    """File and line of the row."""
    other: Mapping[str, Any] = field(default_factory=dict)
    """The other keys of the row, which are copied to its result."""
    error: str = ""
    """The reason why the row cannot be used; empty if it can."""


def read_questions(
    options: CaptionOptions, find: Callable[[CaptionOptions], Inputs]
) -> tuple[list[QuestionRow], Inputs]:
    """Return the questions with their images, row by row, and the images that `find` gives.

    Raises:
        DataError: A file or a list cannot be read.
        UsageError: Both the file and paths name images, or neither does.
    """
    path = options.questions.file
    if path is None:
        questions = [QuestionRow(question) for question in options.questions.questions or ()]
    else:
        questions, has_images = read_question_file(path)
        if has_images:
            for flag, given in (("PATH", options.paths), ("--recursive", options.recursive)):
                if given:
                    raise UsageError(f"--questions {path} names its images; leave out {flag}")
            return questions, Inputs([])
        if not options.paths:
            raise UsageError(f"--questions {path} names no images; give them as PATH")
    images = find(options)
    rows = [
        QuestionRow(row.question, to_unicode(path), path, row.where)
        for path in images.paths
        for row in questions
    ]
    return rows, images


def read_question_file(path: str) -> tuple[list[QuestionRow], bool]:
    """Return the questions of a file in their order, and whether its rows name images.

    A file is JSONL if its suffix says so or its first character is a brace. Any other file is text
    with one question per line. Blank lines are skipped. The path of an image is relative to the
    file, or to the working folder if no such file exists. A row that cannot be used has an `error`.

    Raises:
        DataError: The file cannot be read, has no question or is a JSON list.
    """
    text = _read_text(path)
    if text.lstrip().startswith("["):  # The lines of a JSON list would be asked as questions.
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(text)
            raise DataError(f"{path}: is a JSON list; expected JSONL, one object per line")
    rows = [(f"{path}:{n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: the file has no questions; expected one per line")
    if not path.lower().endswith(JSONL) and not text.lstrip().startswith("{"):
        return [QuestionRow(line.strip(), where=where) for where, line in rows], False
    return [_parse_row(line, where, os.path.dirname(path)) for where, line in rows], True


def _read_text(path: str) -> str:
    """Return the text of a UTF-8 file; other bytes become surrogates, which are errors later."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise DataError(f"{path}: {reason}; check the path and its permissions") from None


def _parse_row(line: str, where: str, folder: str) -> QuestionRow:
    expected = "expected an object with image and question"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return QuestionRow(where=where, error=f"{where}: no JSON ({error}); {expected}")
    if not isinstance(row, dict):
        return QuestionRow(where=where, error=f"{where}: found {type(row).__name__}; {expected}")
    other = {key: value for key, value in row.items() if key not in OUTPUT_KEYS}
    question, image = row.get("question"), row.get("image")
    for key in ("image", "question"):
        if not isinstance(row.get(key), str):
            kind = type(row[key]).__name__ if key in row else "nothing"
            problem = f"{where}: found {kind} under {key}; expected text"
            return QuestionRow(question, image, "", where, other, problem)
    path = os.path.join(folder, row["image"])
    if not os.path.exists(path) and os.path.exists(row["image"]):
        path = row["image"]
    return QuestionRow(question, image, path, where, other)


def read_allowed_answers(answers: str | None) -> list[str] | None:
    """Return the allowed answers of a list or of an @FILE; raise DataError."""
    if answers is None:
        return None
    if not answers.startswith("@"):
        return [answer.strip() for answer in answers.split(",")]
    path = answers[1:]
    lines = [line.strip() for line in _read_text(path).rstrip("\n").split("\n")]
    if blank := lines.count("") if any(lines) else 0:
        notify(f"{escape_path(path)}: skipped {blank} blank line{'s' * (blank > 1)}")
    return [line for line in lines if line]


def describe_error(result: Answers, row: QuestionRow, images: Inputs) -> str:
    """Return the problem of the image or the question of a row; empty if there is none."""
    if row.where and isinstance(result.error, QuestionError):
        return f"{row.where}: {result.error}"
    return images.describe_error(row.path, result.error or "")
