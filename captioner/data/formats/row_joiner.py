"""Join the rows of custom data into examples: those of an image, of its tags and of a question."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from captioner.data.example import Example, pack_weights
from captioner.data.formats.csv_jsonl_rows import (
    CAPTION_KEYS,
    Row,
    first_value,
    has_value,
    parse_row,
)
from captioner.data.formats.io import Source
from captioner.data.report import DUPLICATE, EMPTY_CAPTION, NO_ANSWER
from captioner.sources import normalize
from captioner.text import normalize_question

CAPTION_LEFT = "caption in the row of a question left unread (give it its own row)"

Fields = dict[str, Any]
"""Values of a row by column."""


@dataclass(frozen=True)
class RowDefaults:
    """What a row that does not state it takes from its file."""

    base: Path
    """Folder that file names are relative to."""
    split: str
    prefix: str = ""
    """Start of the ids of images and questions that have none."""


@dataclass
class _CaptionedImage:
    """The captions of one image from all its rows."""

    example: Example
    """Without captions."""
    texts: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    rows: int = 0
    blank: list[str] = field(default_factory=list)
    """Captions of the rows that have only blank ones."""
    blank_rows: list[str] = field(default_factory=list)
    """File and line of these rows."""


class RowJoiner:
    """Joins the rows of an image, of its tags and of a question into one example each."""

    def __init__(self, source: Source) -> None:
        self._report, self._phrases = source.report, source.phrases
        self._keep_leaks = source.keep_leaks
        self._images: dict[tuple[str, ...], _CaptionedImage] = {}
        self._questions: dict[tuple[str, ...], Example] = {}
        self._tagged: dict[tuple[str, ...], Example] = {}

    def add(self, fields: Fields, where: str, defaults: RowDefaults) -> None:
        """Add a row, or report it."""
        row = parse_row(fields, where, self._report, phrases=self._phrases)
        if row is None:
            return
        name, audio = (_find_name(text, defaults.base) for text in (row.name, row.audio))
        names = name if audio in ("", name) else f"{name} {audio}"
        image, split = normalize(name, defaults.base), row.split or defaults.split
        audio = audio and normalize(audio, defaults.base)
        image_id = row.image_id or f"{defaults.prefix}{names}"
        example = Example(image, image_id, (), split, audio=audio)
        self.join(row, example, where, question_id=f"{defaults.prefix}{where}")
        if row.question is not None and has_value(first_value(fields, CAPTION_KEYS)):
            self._report.add(CAPTION_LEFT, where)

    def join(self, row: Row, example: Example, where: str, *, question_id: str) -> None:
        """Add a parsed row.

        Args:
            row: The row.
            example: Its inputs, id and split.
            where: Its place, for the report.
            question_id: Id of its question if the row has none.
        """
        if row.has_tags:
            weights = pack_weights([row.weight])
            self._add_tags(replace(example, tags=tuple(row.texts), weights=weights), where)
        elif row.question is None:
            self._add_captions(row, example, where)
        else:
            question = replace(
                example,
                references=tuple(row.texts),
                weights=pack_weights([row.weight] * len(row.texts)),
                question=row.question,
                question_id=row.question_id or question_id,
                question_type=row.question_type,
                answer_type=row.answer_type,
            )
            self._add_question(question)

    def _add_captions(self, row: Row, example: Example, where: str) -> None:
        """Add a row of captions to those of its image."""
        key = self._make_key(example, example.image, example.audio)
        captions = self._images.setdefault(key, _CaptionedImage(example))
        if captions.example.split != example.split:
            self._report_split(row.name.strip(), captions.example.split, example.split, where)
        elif has_value(row.texts):
            captions.texts.extend(row.texts)
            captions.weights.extend([row.weight] * len(row.texts))
            captions.rows += 1
        else:
            captions.blank.extend(row.texts)
            captions.blank_rows.append(where)

    def _add_tags(self, example: Example, where: str) -> None:
        """Add a row of tags to those of its image, which get the smallest weight of its rows."""
        key = self._make_key(example, example.image)
        first = self._tagged.setdefault(key, replace(example, tags=(), rows=0))
        if first.split != example.split:
            self._report_split(example.image_id, first.split, example.split, where)
        else:
            tags = dict.fromkeys((*(first.tags or ()), *(example.tags or ())))
            weights = pack_weights([min(first.mean_weight, example.mean_weight)])
            self._tagged[key] = replace(
                first, tags=tuple(tags), weights=weights, rows=first.rows + 1
            )

    def _make_key(self, example: Example, *inputs: str) -> tuple[str, ...]:
        return (*inputs, example.split) if self._keep_leaks else inputs

    def _report_split(self, name: str, first: str, split: str, where: str) -> None:
        """Report a row whose image is in another split: a validation score would be meaningless."""
        self._report.add(DUPLICATE, f"{name} is in {first} and in {split} ({where})", rows=1)

    def _add_question(self, question: Example) -> None:
        """Add a question, or the answers of one more annotator to it.

        A row without an answer is reported if another annotator has given one.
        """
        text = normalize_question(question.question)
        inputs = question.image, question.audio
        key = (question.question_id, *inputs, text, question.split)
        first = self._questions.get(key)
        if first is not None and bool(first.references) != bool(question.references):
            full, empty = (first, question) if first.references else (question, first)
            name = f"{question.question_id}, of one annotator"
            self._report.add(NO_ANSWER, name, rows=empty.rows)
            question = full
        elif first is not None:
            answers = first.references + question.references
            weights = first.reference_weights + question.reference_weights
            question = replace(
                first,
                references=answers,
                weights=pack_weights(weights),
                rows=first.rows + 1,
                question_type=first.question_type or question.question_type,
                answer_type=first.answer_type or question.answer_type,
            )
        self._questions[key] = question

    def examples(self) -> Iterator[Example]:
        """Yield the questions, then the images with their tags, then those with captions."""
        yield from self._questions.values()
        yield from self._tagged.values()
        for captions in self._images.values():
            for where in captions.blank_rows if captions.texts else ():
                self._report.add(EMPTY_CAPTION, where, rows=1)
            texts = tuple(captions.texts or captions.blank)
            rows = captions.rows or len(captions.blank_rows)
            weights = pack_weights(captions.weights)
            yield replace(captions.example, references=texts, weights=weights, rows=rows)


def _find_name(text: str, base: Path) -> str:
    """Return the name of a file without spaces around it, unless they are a part of the name."""
    name = text.strip()
    return text if text != name and os.path.exists(normalize(text, base)) else name
