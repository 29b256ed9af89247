"""Questions of a command line, with their images, and the answers that are allowed."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.find_images import Inputs
from captioner.cli.output import decodable, printable
from captioner.cli.question_file import Asked, read_asked, read_text
from captioner.errors import DataError, QuestionError

if TYPE_CHECKING:
    from captioner.predict import Answers


def read_questions(
    args: argparse.Namespace, find: Callable[[argparse.Namespace], Inputs]
) -> tuple[list[Asked], Inputs]:
    """Return the questions with their images, row by row, and the images that `find` gives.

    Raises:
        DataError: A file or a list cannot be read.
    """
    if args.questions is None:
        questions = [Asked(question) for question in args.question]
    else:
        _check_lines(args.questions)
        questions, with_images = read_asked(args.questions)
        if with_images:
            for name in ("paths", "recursive"):
                if getattr(args, name):
                    flag = "PATH" if name == "paths" else "--recursive"
                    args.usage(f"--questions {args.questions} names its images; leave out {flag}")
            return questions, Inputs([])
        if not args.paths:
            args.usage(f"--questions {args.questions} names no images; give them as PATH")
    images = find(args)
    rows = [
        Asked(asked.question, decodable(path), path, asked.where)
        for path in images.paths
        for asked in questions
    ]
    return rows, images


def _check_lines(path: str) -> None:
    """Raise DataError for a JSON list, whose lines would be asked as questions."""
    text = read_text(path).lstrip()
    if text.startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(text)
            raise DataError(f"{path}: is a JSON list; expected its rows as JSONL, an object a line")


def closed_answers(answers: str | None, tell: Callable[[str], None]) -> list[str] | None:
    """Return the answers that are allowed, of a list or of an @FILE; raise DataError."""
    if answers is None or not answers.startswith("@"):
        return answers and [answer.strip() for answer in answers.split(",")]
    lines = [line.strip() for line in read_text(answers[1:]).rstrip("\n").split("\n")]
    if blank := lines.count("") if any(lines) else 0:
        tell(f"{printable(answers[1:])}: skipped {blank} blank line{'s' * (blank > 1)}")
    return [line for line in lines if line]


def answer_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return how questions are answered, as `Captioner.ask` takes it."""
    return {
        "answers": args.answers,
        "num_answers": args.num_answers or 1,
        "min_confidence": args.min_confidence or 0.0,
        "beam_size": args.beam_size,
    }


def error_of(result: Answers, row: Asked, images: Inputs) -> str:
    """Return what is wrong with an image, or with the question of a row; empty if nothing is."""
    if row.where and isinstance(result.error, QuestionError):
        return f"{row.where}: {result.error}"
    return images.error_of(row.path, result.error or "")
