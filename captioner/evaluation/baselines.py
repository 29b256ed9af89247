"""Baselines for answers: scores that are possible without the right image.

- blind: the same model trained and tested without images (`model.blind`).
- shuffled: the model itself, with each question asked about another image.
- majority: the most frequent training answer to a question's type (Antol et al., "VQA: Visual
  Question Answering", ICCV 2015, section 4, "per Q-type prior").
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from captioner.data import Example
from captioner.evaluation.predictions import PredictionOptions, answer_texts, predict_answers
from captioner.metrics import majority_answers, question_type

if TYPE_CHECKING:
    from captioner.predict import Captioner

BASELINES = ("blind", "shuffled", "majority")

Baselines = tuple[dict[str, dict[str, str]], dict[str, str]]
"""By baseline: its answers by question id; and the reason why it was not measured."""


def answer_baselines(
    rows: Sequence[Example],
    train: Iterable[Example],
    captioner: Captioner,
    options: PredictionOptions,
    *,
    blind: Captioner | None = None,
) -> Baselines:
    """Answer the questions by each baseline: by the training rows, the model and a blind model."""
    answers, missing = {}, {}
    if blind is None:
        missing["blind"] = "not measured (give --blind DIR)"
    else:
        answers["blind"] = answer_texts(predict_answers(blind, rows, options, baseline="blind"))
    images = shuffle_images((row.image for row in rows), seed=options.seed)
    if images:
        moved = [_move(row, images[row.image]) for row in rows]
        shuffled = predict_answers(captioner, moved, options, baseline="shuffled")
        answers["shuffled"] = answer_texts(shuffled)
    else:
        missing["shuffled"] = "not measured (needs at least two images)"
    majority, reason = answer_majority_baseline(rows, train)
    return answers | majority, missing | reason


def answer_majority_baseline(rows: Iterable[Example], train: Iterable[Example]) -> Baselines:
    """Answer the questions by the only baseline that needs no model."""
    answered = [row for row in train if row.references]
    if answered:
        return {"majority": answer_by_majority(answered, rows)}, {}
    return {}, {"majority": "not measured (the data set has no training answers)"}


def answer_by_majority(train: Iterable[Example], rows: Iterable[Example]) -> dict[str, str]:
    """Return the majority answer to the type of each question, by question id.

    A type without training rows gets the majority answer of all rows.

    Raises:
        MetricError: There are no training rows.
    """
    best = majority_answers((type_of_question(row), row.references) for row in train)
    return {row.question_id: best.get(type_of_question(row), best[""]) for row in rows}


def shuffle_images(images: Iterable[str], *, seed: int = 0) -> Mapping[str, str]:
    """Map each distinct image to another one, one to one; empty if there are fewer than two.

    The images are shuffled and each is mapped to the next, so that none is mapped to itself.
    """
    order = list(dict.fromkeys(images))
    random.Random(f"shuffled {seed}").shuffle(order)
    return dict(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else {}


def type_of_question(row: Example) -> str:
    """Return the question type that the data set states, or else the first words."""
    return row.question_type or question_type(row.question)


def _move(row: Example, image: str) -> Example:
    """Return a row with another image, or with another recording if it has no image."""
    return replace(row, image=image, audio=image if row.audio == row.image else row.audio)
