"""One row of a user's own data: the image that it names, its texts and its ids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from captioner.data.example import NO_FILE_NAME
from captioner.data.formats.cells import looks_like_list, number_text, parse_list
from captioner.data.formats.io import canonical_split
from captioner.data.report import BAD_LIST, BAD_ROW, UNREAD_COLUMN, Report

IMAGE_KEYS = ("image", "file_name", "filename", "image_path")
CAPTION_KEYS = ("captions", "caption", "text")
ANSWER_KEYS = ("answers", "answer")
EITHER = "references"  # what a table of Examples calls captions and answers alike
ID_KEYS = ("id", "image_id")
NUMBER_COLUMNS = frozenset((*ANSWER_KEYS, *ID_KEYS, "question_id", EITHER))
"""Columns of a CSV in which whole numbers may have been written as 3.0."""
_NUMBERED = re.compile(r"([a-z]+)[ _-]?\d+")


@dataclass(frozen=True)
class Row:
    """What a row says; a text is "" where the row leaves it out."""

    name: str
    texts: list[str]
    """Captions, or a question's answers."""
    split: str
    image_id: str
    question: str | None
    """None in a row of captions."""
    question_id: str
    question_type: str
    answer_type: str


def parse_row(row: dict[str, Any], where: str, report: Report) -> Row | None:
    """Return what a row says; report it, and return None, where it cannot be used."""
    row = _joined(row)
    name = first_value(row, IMAGE_KEYS)
    captions = first_value(row, (*CAPTION_KEYS, EITHER))
    answers, question = first_value(row, ANSWER_KEYS), row.get("question")
    if says(captions) and not says(question) and not says(answers):
        question = None  # in a table of both kinds, the cells of the other kind are empty
    keys = (*CAPTION_KEYS, EITHER) if question is None else (*ANSWER_KEYS, EITHER)
    value = captions if question is None else first_value(row, keys)
    if question is not None and not says(value):
        value = []
    texts = parse_texts(value, numbers=question is not None)
    if texts is None:
        report.add(BAD_LIST, where, rows=1)
        return None
    others = [row.get(key) for key in ("split", "question_type", "answer_type")]
    others = ["" if value is None else value for value in others]
    ids = [_id(first_value(row, keys, default="")) for keys in (ID_KEYS, ("question_id",))]
    of_text = (*texts, *others, *ids, "" if question is None else question)
    if name is None and isinstance(ids[0], str) and ids[0]:
        name = f"{ids[0]}{NO_FILE_NAME}"  # enough for scoring, which opens no image
    of_text = (name, *of_text)
    if not all(isinstance(text, str) for text in of_text) or not name.strip():
        report.add(BAD_ROW, where, rows=1)
        return None
    _report_unread(row, keys, where, report)
    split = others[0] and canonical_split(others[0])
    return Row(name.strip(), texts, split, ids[0], question, ids[1], *others[1:])


def _joined(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which the values of numbered keys, such as `caption_2`, are one list."""
    for bases in (CAPTION_KEYS, ANSWER_KEYS):
        numbered = [key for key in row if is_numbered(key, bases)]
        if numbered:
            values = [row[key] for key in (*bases, *numbered) if says(row.get(key))]
            lists = [parse_texts(value) for value in values]
            torn = [value for value, texts in zip(values, lists, strict=True) if texts is None]
            row = {key: value for key, value in row.items() if key not in (*bases, *numbered)}
            row[bases[0]] = torn[0] if torn else [text for texts in lists for text in texts or ()]
    return row


def is_numbered(key: str, bases: Iterable[str]) -> bool:
    """Return whether a key is one of the bases with a number behind it, as `caption_2` is."""
    match = _NUMBERED.fullmatch(key)
    return match is not None and match[1] in bases


def parse_texts(value: Any, *, numbers: bool = False) -> list[Any] | None:
    """Return the texts of a value, which may be a list or text that holds one; None if it is torn.

    With `numbers`, those become text: a count may well be written as a number.
    """
    if isinstance(value, str) and looks_like_list(value):
        value = parse_list(value)
        if value is None:
            return None
    texts = value if isinstance(value, list) else [value]
    return [number_text(text) if numbers and _is_number(text) else text for text in texts]


def _report_unread(row: dict[str, Any], keys: Iterable[str], where: str, report: Report) -> None:
    """Report texts that a row has under a second key."""
    filled = [key for key in keys if says(row.get(key))]
    for key in filled[1:]:
        used, other = row[filled[0]], row[key]
        if other != used and not (isinstance(used, list) and other in used):
            name = f"{key} beside {filled[0]}"
            report.add_once(UNREAD_COLUMN, f"{name} (first in {where})", key=name)


def first_value(row: dict[str, Any], keys: Iterable[str], *, default: Any = None) -> Any:
    """Return the first value that says something, or else the first that is there."""
    values = [row[key] for key in keys if row.get(key) is not None]
    return next(filter(says, values), values[0] if values else default)


def says(value: Any) -> bool:
    """Return whether a value is there and not blank; a zero is."""
    if isinstance(value, list):
        return any(map(says, value))
    return bool(value.strip()) if isinstance(value, str) else value is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _id(value: Any) -> Any:
    """Return an id as text; what is neither text nor a whole number stays, and is a bad row."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) else value
