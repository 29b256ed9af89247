"""Answers in the result format of the VQA evaluation server: a list of question_id and answer.

Source: visualqa.org/evaluation, "Results Format". The server expects one row for every question of
the split that is scored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from captioner.errors import DataError

# "007" and "+7" are names and not integers.
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")


def write_vqa_results(path: str | Path, answers: Mapping[str, str]) -> None:
    """Write answers by question id, in the order of the mapping; a numeric id becomes an integer.

    Raises:
        DataError: An answer is not text, or the file cannot be written.
    """
    rows = []
    for question_id, answer in answers.items():
        if not isinstance(answer, str):
            kind = type(answer).__name__
            raise DataError(f"{path}: answer to {question_id!r}: found {kind}, expected text")
        number = _INTEGER.fullmatch(question_id)
        row = {"question_id": int(question_id) if number else question_id, "answer": answer}
        # ASCII, because the official evaluator opens the file in the default encoding.
        rows.append(json.dumps(row, ensure_ascii=True))
    try:
        Path(path).write_text("[" + ",\n".join(rows) + "]\n", encoding="ascii")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from None


def read_vqa_results(path: str | Path) -> dict[str, str]:
    """Return the answers by question id, ids as text; other keys of a row are ignored.

    Raises:
        DataError: The file is not in the format, or answers a question twice.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: found {type(rows).__name__}, expected a list of results")
    answers: dict[str, str] = {}
    for i, row in enumerate(rows, start=1):
        question_id = row.get("question_id") if isinstance(row, dict) else None
        if isinstance(question_id, bool) or not isinstance(question_id, (int, str)):
            raise DataError(f"{path}: row {i}: expected an object with a question_id and an answer")
        if not isinstance(row.get("answer"), str):
            raise DataError(f"{path}: row {i}: question {question_id} has no text under answer")
        if str(question_id) in answers:
            raise DataError(f"{path}: row {i}: question {question_id} is answered twice")
        answers[str(question_id)] = row["answer"]
    return answers
