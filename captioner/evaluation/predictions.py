"""Captions and answers of a model for the rows of a data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from captioner.predict import Inputs

if TYPE_CHECKING:
    from captioner.data import Example
    from captioner.predict import Answers, Captioner, Result

Notify = Callable[[str], None]
"""Shows a message to the user."""


@dataclass(frozen=True)
class PredictionOptions:
    """Options for predicting texts and for writing them to a file."""

    source: str
    """Name of the data set in messages."""
    write_row: Callable[[dict[str, Any]], None]
    """Called with each prediction, as a JSON object."""
    notify: Notify
    batch_size: int = 16
    """Images or questions per batch."""
    beam_size: int | None = None
    """None for that of the checkpoint."""
    seed: int = 0
    """Seed of the confidence intervals and of the shuffled images."""


def predict_captions(
    captioner: Captioner, rows: Sequence[Example], options: PredictionOptions
) -> dict[str, Result]:
    """Return results by image id, without images that cannot be read, which are reported."""
    from tqdm import tqdm

    results = captioner.caption_stream(
        list_inputs(rows), batch_size=options.batch_size, beam_size=options.beam_size
    )
    captions: dict[str, Result] = {}
    bar = tqdm(rows, unit="image", disable=not sys.stderr.isatty())
    for row, result in zip(bar, results, strict=True):
        record: dict[str, Any] = {"image_id": row.image_id, "image": row.image}
        if result.error is None:
            captions[row.image_id] = result
            record |= {"caption": result.text, "score": round(result.best.score, 4)}
            record["confidence"] = float(f"{result.best.confidence:.4g}")
        else:
            record["error"] = str(result.error)
            with bar.external_write_mode(file=sys.stderr):
                options.notify(record["error"])
        options.write_row(record)
    return captions


def predict_answers(
    captioner: Captioner, rows: Sequence[Example], options: PredictionOptions, *, baseline: str = ""
) -> dict[str, Answers]:
    """Return answers by question id; equal errors are reported once.

    The answers of a `baseline`, which messages name, are not written.
    """
    from tqdm import tqdm

    questions = [row.question for row in rows]
    pairs = list(zip(list_inputs(rows), questions, strict=True))
    results = captioner.answer_stream(
        pairs, batch_size=options.batch_size, beam_size=options.beam_size
    )
    answers: dict[str, Answers] = {}
    errors: set[str] = set()
    bar = tqdm(rows, baseline or "model", unit="question", disable=not sys.stderr.isatty())
    for row, result in zip(bar, results, strict=True):
        answers[row.question_id] = result
        if result.error is not None and str(result.error) not in errors:
            errors.add(str(result.error))
            with bar.external_write_mode(file=sys.stderr):
                options.notify(f"{result.error}{baseline and f' ({baseline} baseline)'}")
        if not baseline:
            options.write_row(_answer_record(row, result))
    return answers


def list_inputs(rows: Sequence[Example]) -> list[str | Inputs]:
    """Return the input of each row; rows with the same image and recording share one object."""
    pairs = {(r.image, r.audio): Inputs(r.image, r.audio) for r in rows if r.audio}
    return [r.image if r.audio in ("", r.image) else pairs[r.image, r.audio] for r in rows]


def answer_texts(answers: Mapping[str, Answers]) -> dict[str, str]:
    """Return the texts by question id; empty where there is an error."""
    return {name: "" if result.error else result.text for name, result in answers.items()}


def _answer_record(row: Example, result: Answers) -> dict[str, Any]:
    record: dict[str, Any] = {"question_id": row.question_id, "image": row.image}
    record["question"] = row.question
    if result.error is not None:
        return record | {"error": str(result.error)}
    return record | {"answer": result.text, "confidence": float(f"{result.confidence:.4g}")}
