"""Write a cleaned manifest of a data set as JSON lines, with a record of what was changed.

Rows that cannot be used, copies of held-out images, and training images with a copy in another
split are left out. Mojibake is repaired and markup removed. Doubtful texts get a smaller weight.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner import __version__
from captioner.data.example import Example
from captioner.data.formats.csv_jsonl_rows import MIN_WEIGHT
from captioner.data.provenance import ORIGINS, SUFFIX, read_provenance
from captioner.errors import DataError
from captioner.files import replace_file, replace_rows
from captioner.quality.audit import Audit
from captioner.quality.findings import KINDS, to_unicode
from captioner.quality.image_faults import rank_split
from captioner.quality.text_repair import LOST, find_markup, has_mojibake, list_controls, repair
from captioner.sources import is_url, parse_member
from captioner.text import normalize_caption

WEIGHT = 0.5
"""Default factor of the weight of doubtful texts."""
_LEAKS = ("held-out-leak", "split-leak")
"""Kinds of findings whose image is left out of the training split."""


@dataclass(frozen=True)
class Cleaning:
    """The number of rows of a cleaned manifest and of the texts that were changed."""

    rows: int
    dropped: int
    """Rows, and texts of other rows, that were left out."""
    repaired: int
    """Texts that were repaired."""
    weighted: int
    """Texts, or tags of an image, whose weight is reduced."""


def write_manifest(audit: Audit, path: str | os.PathLike[str], *, weight: float) -> Cleaning:
    """Write the cleaned rows of a data set to a file, and FILE.meta.json beside it.

    Each text keeps the weight that it has in the data set; in the training split, that of a
    doubtful text is multiplied by `weight`. Texts of an image, or answers to a question, with
    different weights are in different rows, which readers join.

    Args:
        audit: The findings.
        path: The file, JSON lines that `captioner.data.read_dataset` reads.
        weight: Factor of the weight of doubtful texts, 0 to 1.

    Raises:
        DataError: The file is one that was read, or no row is left; nothing is written.
        OSError: The file cannot be written.
    """
    if os.path.realpath(path) in audit.inputs:
        raise DataError(f"{path}: is a file that the check reads; name another file to write")
    cleaner = _Cleaner(audit, Path(path), weight)
    rows = list(cleaner.clean())
    if not rows:
        raise DataError(f"{path}: not written, because no row is left; see the report")
    replace_rows(path, rows)
    cleaning = Cleaning(len(rows), cleaner.dropped, cleaner.repaired, cleaner.weighted)
    _write_record(audit, path, weight, cleaning)
    return cleaning


class _Cleaner:
    """Makes the rows of the manifest."""

    def __init__(self, audit: Audit, path: Path, weight: float) -> None:
        self._examples = audit.data.examples
        self._folder = Path(os.path.abspath(path)).parent
        self._weight = weight
        self._owners: dict[tuple[str, str], str] = {}
        """The split that keeps the rows of an image or id."""
        for example in self._examples:
            for key in _list_keys(example):
                other = self._owners.get(key, example.split)
                self._owners[key] = min(other, example.split, key=rank_split)
        self.dropped, self.repaired, self.weighted = audit.data.dropped, 0, 0
        self._unreadable: set[str] = set()
        self._leaks: set[str] = set()
        self._doubtful_images: set[str] = set()
        self._doubtful_texts: set[tuple[int, str]] = set()
        for finding in audit.findings:
            if finding.kind in ("missing-image", "unreadable-image"):
                self._unreadable.add(finding.image)
            elif finding.kind in _LEAKS:
                self._leaks.add(finding.image)
            elif KINDS[finding.kind].action == "weight":
                if KINDS[finding.kind].group == "images":
                    self._doubtful_images.add(finding.image)
                elif finding.entry is not None:
                    self._doubtful_texts.add((finding.entry, finding.text))

    def clean(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, in the order of the data set."""
        for i, example in enumerate(self._examples):
            if self._is_dropped(example):
                self.dropped += max(1, example.rows)
            else:
                yield from self._make_rows(example, i)

    def _is_dropped(self, example: Example) -> bool:
        if example.image in self._unreadable:
            return True
        if example.split == "train" and example.image in self._leaks:
            return True
        return any(self._owners[key] != example.split for key in _list_keys(example))

    def _make_rows(self, example: Example, entry: int) -> Iterator[dict[str, Any]]:
        row = self._describe(example)
        is_doubtful = example.image in self._doubtful_images
        if example.kind == "tags":
            weight = self._reduce(example.mean_weight, example, is_doubtful)
            yield _add_weight(row | {"tags": list(example.tags or ())}, weight)
        elif example.kind == "questions":
            yield from self._make_answers(example, entry, row, is_doubtful)
        else:
            yield from self._make_captions(example, entry, row, is_doubtful)

    def _make_answers(
        self, example: Example, entry: int, row: dict[str, Any], is_doubtful: bool
    ) -> Iterator[dict[str, Any]]:
        question = self._repair(example.question)
        if not question:
            self.dropped += max(1, example.rows)
            return
        is_doubtful |= (entry, example.question) in self._doubtful_texts
        keys = ("question_id", "question_type", "answer_type")
        row |= {"question": question}
        row |= {key: value for key in keys if (value := getattr(example, key))}
        answers = []
        for original, weight in zip(example.references, example.reference_weights, strict=True):
            if text := self._repair(original):
                answers.append((text, self._reduce(weight, example, is_doubtful)))
        self.dropped += len(example.references) - len(answers)
        yield from _split_by_weight(row, "answers", answers)

    def _make_captions(
        self, example: Example, entry: int, row: dict[str, Any], is_doubtful: bool
    ) -> Iterator[dict[str, Any]]:
        captions: dict[str, tuple[str, float]] = {}
        for original, weight in zip(example.references, example.reference_weights, strict=True):
            text = self._repair(original)
            key = normalize_caption(text)
            if key and key not in captions:
                doubtful = is_doubtful or (entry, original) in self._doubtful_texts
                captions[key] = text, self._reduce(weight, example, doubtful)
        self.dropped += len(example.references) - len(captions)
        yield from _split_by_weight(row, "captions", list(captions.values()))

    def _reduce(self, weight: float, example: Example, is_doubtful: bool) -> float:
        """Return the weight of a text, which is smaller if a training text is doubtful."""
        if not is_doubtful or example.split != "train":
            return weight
        self.weighted += 1
        reduced = weight * self._weight
        return max(reduced, MIN_WEIGHT) if reduced else 0.0

    def _repair(self, text: str) -> str:
        """Return a text without mojibake, markup and controls; "" if characters are lost."""
        if not has_mojibake(text) and not find_markup(text) and not list_controls(text):
            return text
        self.repaired += 1
        repaired = repair(text)
        return "" if LOST in repaired else repaired

    def _describe(self, example: Example) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if example.image != example.audio:
            row["image"] = self._name(example.image)
        if example.audio:
            row["audio"] = self._name(example.audio)
        return row | {"id": example.image_id, "split": example.split}

    def _name(self, path: str) -> str:
        """Return a path relative to the manifest if it lies below its folder."""
        if member := parse_member(path):
            return member._replace(container=self._name(member.container)).address
        if is_url(path):
            return path
        absolute = Path(os.path.abspath(path))
        if absolute.is_relative_to(self._folder):
            return to_unicode(absolute.relative_to(self._folder).as_posix())
        return to_unicode(str(absolute))


def _list_keys(example: Example) -> list[tuple[str, str]]:
    """Return what readers recognize another row of the image, or of the question, by."""
    if example.kind == "questions":
        return [("question", example.question_id)]
    inputs = f"{example.image} {example.audio}"
    return [(example.kind, example.image_id), (f"{example.kind} of", inputs)]


def _add_weight(row: dict[str, Any], weight: float) -> dict[str, Any]:
    return row if weight == 1 else row | {"weight": weight}


def _split_by_weight(
    row: dict[str, Any], key: str, texts: Sequence[tuple[str, float]]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each run of texts with equal weights, which keeps their order."""
    for weight, group in itertools.groupby(texts, key=lambda text: text[1]):
        yield _add_weight(row | {key: [text for text, _ in group]}, weight)


def _write_record(
    audit: Audit, path: str | os.PathLike[str], weight: float, cleaning: Cleaning
) -> None:
    """Write FILE.meta.json: the origins of the source, and what was changed."""
    counts = Counter(finding.kind for finding in audit.findings)
    origins: Sequence[Any] = [
        origin for record in read_provenance([audit.data.root]) for origin in record[ORIGINS]
    ]
    record = {
        ORIGINS: origins,
        "cleaning": {
            "captioner": __version__,
            "source": audit.data.root.name,
            "format": audit.data.format,
            "weight": weight,
            "findings": {name: counts[name] for name in KINDS if counts[name]},
            **vars(cleaning),
        },
    }
    replace_file(f"{os.fspath(path)}{SUFFIX}", json.dumps(record, indent=2).encode() + b"\n")
