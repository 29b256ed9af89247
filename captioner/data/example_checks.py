"""Read the usable examples of a data set and report the others.

Images are not decoded here: those that cannot be decoded are reported during training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.data.example import Example, pack_weights
from captioner.data.formats.image_folders import FolderIndex
from captioner.data.formats.io import Source
from captioner.data.formats.registry import READERS, find_other_files
from captioner.data.report import (
    BAD_TEXT,
    DUPLICATE,
    EMPTY_ANSWER,
    EMPTY_CAPTION,
    EMPTY_QUESTION,
    MISSING_AUDIO,
    MISSING_IMAGE,
    NO_ANSWER,
    NO_CAPTION,
    UNREAD_FILE,
    ZERO_WEIGHT,
    Report,
)
from captioner.data.shards.shard_cache import ShardCache
from captioner.sources import file_name
from captioner.text import normalize_caption, normalize_question


@dataclass(frozen=True)
class Selection:
    """The examples to read from a data set: the arguments of `read_dataset`, resolved."""

    root: Path
    format: str
    splits: tuple[str, ...] | None = None
    images: Path | None = None
    check_images: bool = True
    """False for scoring: images may be missing, and references keep texts that training drops."""
    require_answers: bool = True
    phrases: tuple[str, ...] = ()
    """Templates of the captions of labels; see `SourceConfig.phrases`."""
    optional_splits: tuple[str, ...] = ()
    """Splits that the data set need not have."""
    shards: tuple[str, ...] = ()
    """Paths or URLs of the shards if the root is a URL or a pattern."""
    unread: tuple[str, ...] = ()
    """Parquet files beside these shards if they are tar files."""
    cache: ShardCache | None = None
    """Local cache of shards."""


def read_examples(
    selection: Selection, report: Report, split_counts: Counter[str]
) -> Iterator[Example]:
    """Yield the usable examples of the selection, in the order of the files.

    `report` receives the rows that cannot be used, and `split_counts` the number of examples of
    every split, selected or not.

    Raises:
        DataError: A file cannot be read as a whole.
    """
    checker = ExampleChecker(selection, report)
    for example in read_unchecked(selection, report):
        split_counts[example.split] += 1
        if checker.is_duplicate(example):
            continue
        if selection.splits is not None and example.split not in selection.splits:
            if example.rows:  # an image of a split list may have no captions
                report.unused[example.split] += example.rows
            continue
        if checked := checker.check(example):
            report.used[checked.split] += checked.rows
            yield checked


def read_unchecked(
    selection: Selection, report: Report, *, keep_leaks: bool = False
) -> Iterator[Example]:
    """Yield all examples of a data set as its reader does, in the order of the files.

    `report` receives the rows and files that the reader cannot use. With `keep_leaks`, an image in
    several splits has an example in each.

    Raises:
        DataError: A file cannot be read as a whole.
    """
    root, reader = selection.root, READERS[selection.format]
    is_folder = not selection.shards and root.is_dir()
    source = Source(
        root=root if is_folder else root.parent,
        files=() if selection.shards else reader.find(root),
        images=selection.images,
        report=report,
        phrases=selection.phrases,
        shards=selection.shards,
        cache=selection.cache,
        keep_leaks=keep_leaks,
    )
    if is_folder:
        for path, name in find_other_files(root, source.files).items():
            report.add(UNREAD_FILE, f"{path.name} ({name})")
    for url in selection.unread:
        report.add(UNREAD_FILE, f"{file_name(url)} (parquet)")
    yield from reader.read(source)


class ExampleChecker:
    """Checks the examples of one data set.

    Args:
        selection: The examples to read.
        report: Receives the examples and texts that cannot be used.
    """

    def __init__(self, selection: Selection, report: Report) -> None:
        self._report = report
        self._require_answers = selection.require_answers
        self._index = FolderIndex() if selection.check_images else None
        # Hashes, which take a fraction of the memory of the names.
        self._seen: set[int] = set()

    def is_duplicate(self, example: Example) -> bool:
        """Report an image, its tags or a question that an earlier example has; over all splits.

        A validation image that is also a training image would make the score too high.
        """
        key = hash((example.kind, _name(example)))
        if key in self._seen:
            place = f"{_name(example)} (again in {example.split})"
            self._report.add(DUPLICATE, place, rows=example.rows)
            return True
        self._seen.add(key)
        return False

    def check(self, example: Example) -> Example | None:
        """Return the usable part of an example, or None; report the rest."""
        if problem := self._find_problem(example):
            self._report.add(problem, _name(example), rows=example.rows)
            return None
        references, weights, rows = self._check_references(example)
        if self._needs_references(example) and not references:
            return None
        # A recording without an image has the path of both.
        for path, problem in {example.image: MISSING_IMAGE, example.audio: MISSING_AUDIO}.items():
            if path and self._index is not None and not self._index.contains(path):
                self._report.add_once(problem, path, key=path, rows=rows)
                return None
        question = example.question.strip()
        if (references, question, rows) == (example.references, example.question, example.rows):
            return example
        return replace(
            example, references=references, weights=weights, question=question, rows=rows
        )

    def _needs_references(self, example: Example) -> bool:
        if example.tags is not None:
            return False
        return self._require_answers or not example.question_id

    def _is_blank(self, text: str, *, is_question: bool = False) -> bool:
        """Return whether nothing is left of a text; for training, after its normalization."""
        if text[:1].isalpha():
            return False  # normalization, which takes time, removes no letter
        if self._index is not None:
            text = normalize_question(text) if is_question else normalize_caption(text)
        return not text.strip()

    def _find_problem(self, example: Example) -> str | None:
        """Return the problem that makes the whole example unusable, or None."""
        is_question = bool(example.question_id)
        e = example
        ids = e.image, e.image_id, e.question_id, e.audio
        texts = e.split, e.question, e.question_type, e.answer_type, *(e.tags or ())
        if not _is_unicode("".join((*ids, *texts))):
            return BAD_TEXT
        if is_question and self._is_blank(example.question, is_question=True):
            return EMPTY_QUESTION
        if self._needs_references(example) and not example.references:
            return NO_ANSWER if is_question else NO_CAPTION
        if example.tags is not None and self._is_unused(example.mean_weight):
            return ZERO_WEIGHT
        return None

    def _is_unused(self, weight: float) -> bool:
        """Return whether a row has the weight 0; for scoring, weights have no meaning."""
        return weight == 0 and self._index is not None

    def _check_references(self, example: Example) -> tuple[tuple[str, ...], tuple[float, ...], int]:
        """Report the unusable references.

        Returns:
            The usable references, the value of `Example.weights`, and the number of rows.
        """
        if example.tags is not None:
            return example.references, example.weights, example.rows
        if not example.weights and all(map(_is_plain, example.references)):
            return example.references, (), example.rows  # most rows; the rest takes time
        name, required = _name(example), self._needs_references(example)
        usable: list[tuple[str, float]] = []
        problems: list[tuple[str, str]] = []
        for reference, weight in zip(example.references, example.reference_weights, strict=True):
            if not _is_unicode(reference):
                problems.append((BAD_TEXT, f"{name}: {reference}"))
            elif self._is_blank(reference):
                problems.append((EMPTY_ANSWER if example.question_id else EMPTY_CAPTION, name))
            elif self._is_unused(weight):
                problems.append((ZERO_WEIGHT, name))
            else:
                usable.append((reference.strip(), weight))
        # Either each reference has a row of its own, or one row holds all of them.
        has_rows = example.rows == len(example.references) and bool(usable or required)
        left = example.rows - (len(problems) if has_rows else 0)
        for kind, where in problems:
            self._report.add(kind, where, rows=int(has_rows))
        if required and not usable and left:
            self._report.problems[problems[0][0]].rows += left
            left = 0
        texts = tuple(text for text, _ in usable)
        return texts, pack_weights([weight for _, weight in usable]), left


def _name(example: Example) -> str:
    return example.question_id or example.image_id


def _is_plain(text: str) -> bool:
    """Return whether a text clearly needs no check: it is not blank, and has no space to strip."""
    return text[:1].isalpha() and not text[-1:].isspace() and text.isprintable()


def _is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates, which Arrow cannot store.

    They come from bytes that are not UTF-8, or from escaped surrogates in JSON.
    """
    return text.isprintable() or not any("\ud800" <= char <= "\udfff" for char in text)
