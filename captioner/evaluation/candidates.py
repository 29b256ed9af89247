"""Match candidate captions and answers with the examples that they are about.

A caption names its image by `image_id`, else `id`, else `image`; an answer names its question by
`question_id`, else `image` and `question`. Ids must equal those of the data set. A path may differ
from the data set's in its leading folders. Keys of one row that name different images, or different
questions, are an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from captioner.data.example import Example, has_file_name
from captioner.errors import MetricError
from captioner.evaluation.candidate_files import Row, Rows, id_text, question_label
from captioner.text import normalize_question

_ABOUT = {"caption": ("of", "image"), "answer": ("to", "question")}
_LONGEST_PATH = 4096
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")
"""A whole number as tables with missing values write it."""


def match_captions(rows: Rows, references: Sequence[Example], *, source: str) -> dict[str, str]:
    """Return the captions by the ids of the references.

    Raises:
        MetricError: A row names two images, or the rows are not one for each reference.
    """
    ids = _Ids(r.image_id for r in references)
    names = _Names((name, r.image_id) for r in references for name in _names_of(r))
    claims = [_Claim.of_image(where, row, ids, names) for where, row in rows]
    by_id = {r.image_id: r for r in references}
    # COCO's rows have an id of their own beside image_id, which need not name an image.
    numbered = any("image_id" in c.ids and c.ids.get("id", "") is None for c in claims)
    known = any(c.images for c in claims)
    conflicts = []
    for claim in claims:
        if problem := _image_conflict(claim, by_id, numbered=numbered, known=known):
            conflicts.append(f"{claim.where}: {problem}")
        claim.name = claim.stated or _only(claim.images)
    _raise_first(conflicts, "an id that only counts the rows names no image")
    return _exactly(claims, list(by_id), key="caption", source=source)


def match_answers(rows: Rows, references: Sequence[Example], *, source: str) -> dict[str, str]:
    """Return the answers by the question ids of the references.

    Where a question is asked of an image more than once, rows without ids answer in turn.

    Raises:
        MetricError: A row names two questions, or the rows are not one for each reference.
    """
    ids = _Ids(r.question_id for r in references)
    names = _Names((name, r.image) for r in references for name in _names_of(r))
    claims = [_Claim.of_question(where, row, ids, names) for where, row in rows]
    by_id = {r.question_id: r for r in references}
    texts = {normalize_question(r.question) for r in references}
    known = any(c.images for c in claims)
    asked = any(c.question in texts for c in claims)
    waiting: dict[tuple[str, str], list[str]] = {}
    for r in reversed(references):
        waiting.setdefault((r.image, normalize_question(r.question)), []).append(r.question_id)
    conflicts = []
    for claim in claims:
        if problem := _question_conflict(claim, by_id, known=known, asked=asked):
            conflicts.append(f"{claim.where}: {problem}")
        claim.name = claim.stated or _next_question(claim, waiting)
    _raise_first(conflicts, "a question_id that only counts the rows names no question")
    return _exactly(claims, list(by_id), key="answer", source=source)


@dataclass
class _Claim:
    """What a row says it is about."""

    where: str
    row: Row
    label: str
    """What messages call it."""
    ids: dict[str, str | None]
    """The reference that each id key of the row names; None if there is no such reference."""
    images: tuple[str, ...] | None
    """The references, or images, that the row's path fits; None if the row has no path."""
    question: str | None = None
    name: str | None = field(default=None, init=False)
    """The reference that the row is about."""

    @classmethod
    def of_image(cls, where: str, row: Row, ids: _Ids, names: _Names) -> _Claim:
        """Return the claim of a caption."""
        texts = {key: id_text(row, key) for key in ("image_id", "id")}
        texts = {key: text for key, text in texts.items() if text}
        stated = {key: ids.find(text) for key, text in texts.items()}
        image = id_text(row, "image")
        first = next(iter(texts), "image")
        label = texts[first] if stated.get(first) or not image else image
        return cls(where, row, label, stated, names.find(image) if image else None)

    @classmethod
    def of_question(cls, where: str, row: Row, ids: _Ids, names: _Names) -> _Claim:
        """Return the claim of an answer."""
        number, image, text = (id_text(row, k) for k in ("question_id", "image", "question"))
        stated = {"question_id": ids.find(number)} if number else {}
        images = names.find(image) if image else None
        question = normalize_question(text) if text else None
        label = number if stated.get("question_id") or not image else question_label(row)
        return cls(where, row, label or question_label(row), stated, images, question)

    @property
    def key(self) -> str:
        """The first id key that the row has; empty if it has none."""
        return next(iter(self.ids), "")

    @property
    def stated(self) -> str | None:
        """The reference that this key names."""
        return self.ids.get(self.key)


class _Ids:
    """The ids of references, by what a row may call them."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = {name: name for name in ids}
        for name in list(self._ids):
            if number := _WHOLE_FLOAT.fullmatch(name):
                self._ids.setdefault(number[1], name)

    def find(self, text: str) -> str | None:
        """Return the id that a text stands for, if any; "007" and "7" differ, "7.0" and "7" not."""
        number = _WHOLE_FLOAT.fullmatch(text)
        return self._ids.get(text) or (self._ids.get(number[1]) if number else None)


class _Names:
    """What the names and the paths of images stand for."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        for name, meant in pairs:
            others = self._names.get(name, ())
            if meant not in others:
                self._names[name] = (*others, meant)

    def find(self, image: str) -> tuple[str, ...]:
        """Return all that the longest known ending of a path stands for."""
        if len(image) > _LONGEST_PATH:  # the content of an image
            return ()
        return self._find(image) or self._find(image.replace("\\", "/"))  # a path of Windows

    def _find(self, image: str) -> tuple[str, ...]:
        parts = PurePath(os.path.abspath(image)).parts
        endings = (os.path.join(*parts[i:]) for i in range(len(parts)))
        return next((self._names[ending] for ending in endings if ending in self._names), ())


def _names_of(example: Example) -> set[str]:
    """Return what a row may call an example's image."""
    if not has_file_name(example.image):
        return {example.image_id}
    parts = PurePath(example.image).parts
    # With its folders, which tell train/1.jpg from val/1.jpg.
    endings = {os.path.join(*parts[-depth:]) for depth in (1, 2, 3)}
    return {example.image_id, example.image, *endings}


def _image_conflict(
    claim: _Claim, references: dict[str, Example], *, numbered: bool, known: bool
) -> str:
    """Return how the keys of a caption contradict each other; empty if they do not.

    Args:
        numbered: Whether `id` beside `image_id` is the row's own number.
        known: Whether any row's path is that of a reference.
    """
    if claim.stated is None:
        return ""
    stated = f"{claim.key} {claim.label} is {_file_of(references[claim.stated])} in the data set"
    other = claim.ids.get("id")
    if not numbered and other not in (None, claim.stated):
        return f"{stated}, but id {id_text(claim.row, 'id')} is {_file_of(references[other])}"
    if claim.images is None or claim.stated in claim.images:
        return ""
    image = _clipped(id_text(claim.row, "image"))
    if claim.images:
        return f"{stated}, but image is {image}"
    # Another data set may name its files otherwise: then image_id decides alone.
    if has_file_name(references[claim.stated].image) and (claim.key == "id" or known):
        return f"{stated}, but image is {image}, which is not in it"
    return ""


def _question_conflict(
    claim: _Claim, references: dict[str, Example], *, known: bool, asked: bool
) -> str:
    """Return how the keys of an answer contradict each other; empty if they do not.

    Args:
        known: Whether any row's path is that of a reference.
        asked: Whether any row's question is that of a reference.
    """
    if claim.stated is None:
        return ""
    reference = references[claim.stated]
    stated = f"question_id {claim.stated} is {_clipped(reference.question)!r} in the data set"
    text = normalize_question(reference.question)
    if asked and claim.question not in (None, text):
        return f"{stated}, but question is {_clipped(claim.row['question'])!r}"
    if claim.images is None or reference.image in claim.images:
        return ""
    if claim.images or (known and has_file_name(reference.image)):
        image = _clipped(id_text(claim.row, "image"))
        return f"{stated}, of {_file_of(reference)}, but image is {image}"
    return ""


def _file_of(example: Example) -> str:
    return os.path.basename(example.image) if has_file_name(example.image) else example.image_id


def _clipped(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _only(names: tuple[str, ...] | None) -> str | None:
    return names[0] if names is not None and len(names) == 1 else None


def _next_question(claim: _Claim, waiting: dict[tuple[str, str], list[str]]) -> str | None:
    """Return the next unanswered question of these words about the row's image."""
    pairs = [(image, claim.question) for image in claim.images or ()]
    pair = _only(tuple(pair for pair in pairs if pair in waiting))
    if pair is None:
        return None
    # The last one stays, so that a further row is called a second answer.
    return waiting[pair].pop() if len(waiting[pair]) > 1 else waiting[pair][0]


def _raise_first(conflicts: Sequence[str], hint: str) -> None:
    """Raise MetricError for the first of the rows whose keys contradict each other."""
    if conflicts:
        more = len(conflicts) - 1
        count = f" (and {more} more such row{'s' * (more > 1)})" if more else ""
        raise MetricError(f"{conflicts[0]}{count}; remove the key that is wrong: {hint}")


def _exactly(
    claims: Iterable[_Claim], wanted: Sequence[str], *, key: str, source: str
) -> dict[str, str]:
    """Return the texts by reference; raise MetricError unless they are one for each."""
    texts: dict[str, str] = {}
    unknown: list[str] = []
    for claim in claims:
        if claim.name is None:
            unknown.append(claim.label)
        elif claim.name in texts:
            of, each = _ABOUT[key]
            raise MetricError(
                f"{claim.where}: a second {key} {of} {claim.label}; expected one {of} each {each}"
            )
        else:
            texts[claim.name] = claim.row[key]
    missing = [name for name in wanted if name not in texts]
    sides = (("candidates without references", unknown), ("references without candidate", missing))
    if unknown or missing:
        counts = "; ".join(f"{len(x)} {what} ({_first(x)})" for what, x in sides if x)
        raise MetricError(
            f"{source}: {counts}; the ids must be exactly the data set's (see --split)"
        )
    return texts


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
