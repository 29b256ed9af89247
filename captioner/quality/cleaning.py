"""Write a cleaned manifest of a data set as JSON lines, with a record of what was changed.

Rows that cannot be used, copies of held-out images, and training images with a copy in another
split are left out. Mojibake is repaired and markup removed. Doubtful texts get a weight below 1.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner import __version__
from captioner.data.example import Example
from captioner.data.provenance import ORIGINS, SUFFIX, read_provenance
from captioner.files import replace_file, replace_rows
from captioner.quality.audit import Audit
from captioner.quality.findings import KINDS, to_unicode
from captioner.quality.text_repair import LOST, find_markup, has_mojibake, repair
from captioner.text import normalize_caption

WEIGHT = 0.5
"""Default weight of doubtful texts."""
_LEAKS = ("held-out-leak", "split-leak")
"""Kinds of findings whose image is left out of the training split."""


@dataclass(frozen=True)
class Cleaning:
    """The number of rows of a cleaned manifest and of the texts that were changed."""

    rows: int
    dropped: int
    """Examples that were left out, in addition to those that no reader can use."""
    repaired: int
    """Texts that were repaired."""
    weighted: int
    """Rows with a weight below 1."""


def write_manifest(audit: Audit, path: str | os.PathLike[str], *, weight: float) -> Cleaning:
    """Write the cleaned rows of a data set to a file, and FILE.meta.json beside it.

    The weight of an image is the mean over its captions, because readers join the rows of an image.
    Rows of validation and test splits have no weight.

    Args:
        audit: The findings.
        path: The file, JSON lines that `captioner.data.read_dataset` reads.
        weight: Weight of doubtful texts, 0 to 1.

    Raises:
        OSError: The file cannot be written.
    """
    cleaner = _Cleaner(audit, Path(path), weight)
    rows = list(cleaner.clean())
    replace_rows(path, rows)
    weighted = sum("weight" in row for row in rows)
    cleaning = Cleaning(len(rows), cleaner.dropped, cleaner.repaired, weighted)
    _write_record(audit, path, weight, cleaning)
    return cleaning


class _Cleaner:
    """Makes the rows of the manifest."""

    def __init__(self, audit: Audit, path: Path, weight: float) -> None:
        self._examples = audit.data.examples
        self._folder = Path(os.path.abspath(path)).parent
        self._weight = weight
        self.dropped = self.repaired = 0
        self._unreadable: set[str] = set()
        self._leaks: set[str] = set()
        self._doubtful_images: set[str] = set()
        self._doubtful_texts: set[tuple[int, str]] = set()
        for finding in audit.findings:
            if finding.kind == "unreadable-image":
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
            rows = [] if self._is_dropped(example) else list(self._make_rows(example, i))
            self.dropped += not rows
            yield from rows

    def _is_dropped(self, example: Example) -> bool:
        if example.image in self._unreadable:
            return True
        return example.split == "train" and example.image in self._leaks

    def _make_rows(self, example: Example, entry: int) -> Iterator[dict[str, Any]]:
        row = self._describe(example)
        is_doubtful = example.image in self._doubtful_images
        if example.kind == "tags":
            yield self._add_weight(row | {"tags": list(example.tags or ())}, example, is_doubtful)
        elif example.kind == "questions":
            is_doubtful |= (entry, example.question) in self._doubtful_texts
            answers = [text for text in map(self._repair, example.references) if text]
            question = self._repair(example.question)
            if question and answers:
                row |= {"question": question, "question_id": example.question_id}
                row |= {key: getattr(example, key) for key in ("question_type", "answer_type")}
                row = {key: value for key, value in row.items() if value} | {"answers": answers}
                yield self._add_weight(row, example, is_doubtful)
        else:
            yield from self._make_captions(example, entry, row, is_doubtful)

    def _make_captions(
        self, example: Example, entry: int, row: dict[str, Any], is_doubtful: bool
    ) -> Iterator[dict[str, Any]]:
        texts: dict[str, str] = {}
        weights: dict[str, float] = {}
        for original in example.references:
            text = self._repair(original)
            key = normalize_caption(text)
            if key and key not in texts:
                doubtful = is_doubtful or (entry, original) in self._doubtful_texts
                texts[key], weights[key] = text, self._weight if doubtful else 1.0
        if texts:
            row |= {"captions": list(texts.values())}
            mean = sum(weights.values()) / len(weights)
            yield self._add_weight(row, example, mean < 1, mean)

    def _add_weight(
        self,
        row: dict[str, Any],
        example: Example,
        is_doubtful: bool,
        weight: float | None = None,
    ) -> dict[str, Any]:
        if is_doubtful and example.split == "train":
            return row | {"weight": round(self._weight if weight is None else weight, 4)}
        return row

    def _repair(self, text: str) -> str:
        """Return a text without mojibake and markup; "" if characters of it are lost."""
        if not has_mojibake(text) and not find_markup(text):
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
        absolute = Path(os.path.abspath(path))
        if absolute.is_relative_to(self._folder):
            return to_unicode(absolute.relative_to(self._folder).as_posix())
        return to_unicode(str(absolute))


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
