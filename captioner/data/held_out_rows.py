"""Hold out a part of the rows of a data set for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from captioner.config import SourceConfig
from captioner.data.columns import arrow_column, iterate_columns, unique_texts
from captioner.data.duplicates import group_equal_files
from captioner.data.report import Report
from captioner.errors import DataError
from captioner.text import normalize_question

if TYPE_CHECKING:
    from datasets import Dataset

ASKED_BEFORE = "held-out question that training asks about the same image: left out"


def hold_out(
    rows: Dataset, source: SourceConfig, seed: int, error: DataError, report: Report | None = None
) -> tuple[Dataset, Dataset]:
    """Split rows into training rows and held-out rows.

    Rows of one image stay together, and so do images whose files have equal bytes. With
    `hold_out=question`, single questions are held out instead; those that training asks about the
    same image as well are left out. Only the id of a row and the seed determine if it is held out,
    so data sets over the same images are split alike; `val_share` is met on average. The report
    gets the questions that are left out; `error` is raised if one of the parts would be empty.
    """
    single = source.hold_out == "question"
    joined = {} if single else _join_equal_images(rows)
    keys = (
        (single and question_id) or joined.get(image, image_id)
        for image, image_id, question_id in iterate_columns(
            rows, "image", "image_id", "question_id"
        )
    )
    drawn = np.fromiter((_uniform(f"{seed} {key}") for key in keys), np.float64, len(rows))  # (N,)
    # Both parts get at least one row, even if there are only a few rows.
    held = (drawn < source.val_share) & (drawn != drawn.max()) | (drawn == drawn.min())
    train, val = (rows.select(np.flatnonzero(held == wanted)) for wanted in (False, True))
    # A data set may ask the same question about an image twice.
    trained = {pair for pair in _image_questions(train) if pair[1]}
    new = [pair not in trained for pair in _image_questions(val)]
    for (name,), is_new in zip(iterate_columns(val, "question_id"), new, strict=True):
        if report is not None and not is_new:
            report.add(ASKED_BEFORE, name)
    val = val.select(np.flatnonzero(new))
    if not len(train) or not len(val):
        raise error
    return train, val


def _join_equal_images(rows: Dataset) -> dict[str, str]:
    """Return one key for all images whose files have equal bytes, by path."""
    groups = group_equal_files(unique_texts(arrow_column(rows, "image")))
    equal = {path for group in groups for path in group}
    pairs = iterate_columns(rows, "image", "image_id")
    key_of = {path: key for path, key in pairs if path in equal}
    return {path: min(key_of[p] for p in group) for group in groups for path in group}


def _uniform(key: str) -> float:
    """Return a number in [0, 1) that depends on the key only."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _image_questions(rows: Dataset) -> Iterator[tuple[str, str]]:
    """Return the image and the normalized question, "" for captions, of each row."""
    for image, question in iterate_columns(rows, "image", "question"):
        yield image, question and normalize_question(question)
