"""Match candidate captions and answers with the references of a data set.

A caption names its image by `image_id`, else `id`, else `image`; an answer names its question by
`question_id`, else `image` and `question`. Ids must equal those of the data set. A path may differ
from that of the data set in its leading folders. It is an error if the keys of a row name different
images or different questions.
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

_PREPOSITIONS = {"caption": "of", "answer": "to"}
_MAX_PATH = 4096
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")
"""A whole number as tables with missing values write it."""


def match_captions(rows: Rows, references: Sequence[Example], *, source: str) -> dict[str, str]:
    """Return the captions by image id; messages name the `source` of the rows.

    Raises:
        MetricError: A row names two images, or there is not exactly one row per image.
    """
    ids = _IdIndex(r.image_id for r in references)
    paths = _PathIndex((name, r.image_id) for r in references for name in _path_names(r))
    candidates = [_Candidate.of_image(where, row, ids, paths) for where, row in rows]
    by_id = {r.image_id: r for r in references}
    # COCO's rows have an id of their own beside image_id, which need not name an image.
    numbered = any("image_id" in c.ids and c.ids.get("id", "") is None for c in candidates)
    known = any(c.images for c in candidates)
    conflicts = ((c.where, _image_conflict(c, by_id, numbered, known)) for c in candidates)
    _raise_conflicts(conflicts, "an id that only numbers the rows names no image")
    for candidate in candidates:
        candidate.reference = candidate.by_id or _single(candidate.images)
    return _collect_texts(candidates, list(by_id), key="caption", source=source)


def match_answers(rows: Rows, references: Sequence[Example], *, source: str) -> dict[str, str]:
    """Return the answers by question id; messages name the `source` of the rows.

    If a question about an image occurs more than once, rows without ids are matched in order.

    Raises:
        MetricError: A row names two questions, or there is not exactly one row per question.
    """
    ids = _IdIndex(r.question_id for r in references)
    paths = _PathIndex((name, r.image) for r in references for name in _path_names(r))
    candidates = [_Candidate.of_question(where, row, ids, paths) for where, row in rows]
    by_id = {r.question_id: r for r in references}
    questions = {normalize_question(r.question) for r in references}
    known = any(c.images for c in candidates), any(c.question in questions for c in candidates)
    conflicts = ((c.where, _question_conflict(c, by_id, *known)) for c in candidates)
    _raise_conflicts(conflicts, "a question_id that only numbers the rows names no question")
    unanswered: dict[tuple[str, str | None], list[str]] = {}
    for r in reversed(references):
        unanswered.setdefault((r.image, normalize_question(r.question)), []).append(r.question_id)
    for candidate in candidates:
        candidate.reference = candidate.by_id or _next_question(candidate, unanswered)
    return _collect_texts(candidates, list(by_id), key="answer", source=source)


@dataclass
class _Candidate:
    """A row of a file of candidates, and the references that its keys name."""

    where: str
    """File and line."""
    row: Row
    label: str
    """Name of the image or the question in messages."""
    ids: dict[str, str | None]
    """The reference that each id key of the row names; None if there is no such reference."""
    images: tuple[str, ...] | None
    """The references, or images, that match the path of the row; None if the row has no path."""
    question: str | None = None
    """The normalized question."""
    reference: str | None = field(default=None, init=False)
    """The reference that the row is matched with."""

    @classmethod
    def of_image(cls, where: str, row: Row, ids: _IdIndex, paths: _PathIndex) -> _Candidate:
        """Return the candidate of a caption."""
        texts = {key: id_text(row, key) for key in ("image_id", "id")}
        texts = {key: text for key, text in texts.items() if text}
        named = {key: ids.find(text) for key, text in texts.items()}
        image = id_text(row, "image")
        first = next(iter(texts), "image")
        label = texts[first] if named.get(first) or not image else image
        return cls(where, row, label, named, paths.find(image) if image else None)

    @classmethod
    def of_question(cls, where: str, row: Row, ids: _IdIndex, paths: _PathIndex) -> _Candidate:
        """Return the candidate of an answer."""
        number, image, text = (id_text(row, k) for k in ("question_id", "image", "question"))
        named = {"question_id": ids.find(number)} if number else {}
        images = paths.find(image) if image else None
        question = normalize_question(text) if text else None
        label = number if named.get("question_id") or not image else question_label(row)
        return cls(where, row, label or question_label(row), named, images, question)

    @property
    def key(self) -> str:
        """The first id key of the row; empty if it has none."""
        return next(iter(self.ids), "")

    @property
    def by_id(self) -> str | None:
        """The reference that the first id key names."""
        return self.ids.get(self.key)


class _IdIndex:
    """The ids of references, by the spellings that a row may use."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = {name: name for name in ids}
        for name in list(self._ids):
            if number := _WHOLE_FLOAT.fullmatch(name):
                self._ids.setdefault(number[1], name)

    def find(self, text: str) -> str | None:
        """Return the id that a text spells, if any: "7.0" equals "7", but "007" does not."""
        number = _WHOLE_FLOAT.fullmatch(text)
        return self._ids.get(text) or (self._ids.get(number[1]) if number else None)


class _PathIndex:
    """Ids or images of references, by the names and paths of their images."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._targets: dict[str, tuple[str, ...]] = {}
        for name, target in pairs:
            others = self._targets.get(name, ())
            if target not in others:
                self._targets[name] = (*others, target)

    def find(self, image: str) -> tuple[str, ...]:
        """Return all targets of the longest known ending of a path."""
        if len(image) > _MAX_PATH:  # the content of an image
            return ()
        return self._find(image) or self._find(image.replace("\\", "/"))  # a Windows path

    def _find(self, image: str) -> tuple[str, ...]:
        parts = PurePath(os.path.abspath(image)).parts
        endings = (os.path.join(*parts[i:]) for i in range(len(parts)))
        return next((self._targets[ending] for ending in endings if ending in self._targets), ())


def _path_names(example: Example) -> set[str]:
    """Return the names by which a row may refer to the image of an example."""
    if not has_file_name(example.image):
        return {example.image_id}
    parts = PurePath(example.image).parts
    # With folders, which distinguish train/1.jpg from val/1.jpg.
    endings = {os.path.join(*parts[-depth:]) for depth in (1, 2, 3)}
    return {example.image_id, example.image, *endings}


def _image_conflict(
    candidate: _Candidate, references: dict[str, Example], numbered: bool, known_image: bool
) -> str:
    """Describe how the keys of a caption contradict each other; empty if they do not.

    With `numbered`, an `id` beside `image_id` is the number of the row. With `known_image`, the
    path of some row is that of a reference.
    """
    if candidate.by_id is None:
        return ""
    file = _file_name(references[candidate.by_id])
    named = f"{candidate.key} {candidate.label} is {file} in the data set"
    other = candidate.ids.get("id")
    if not numbered and other is not None and other != candidate.by_id:
        other_id = id_text(candidate.row, "id")
        return f"{named}, but id {other_id} is {_file_name(references[other])}"
    if candidate.images is None or candidate.by_id in candidate.images:
        return ""
    image = _shorten(id_text(candidate.row, "image"))
    if candidate.images:
        return f"{named}, but image is {image}"
    # If no path is known, the files may have been renamed: then image_id alone decides.
    is_file = has_file_name(references[candidate.by_id].image)
    if is_file and (candidate.key == "id" or known_image):
        return f"{named}, but image is {image}, which is not in it"
    return ""


def _question_conflict(
    candidate: _Candidate, references: dict[str, Example], known_image: bool, known_question: bool
) -> str:
    """Describe how the keys of an answer contradict each other; empty if they do not.

    With `known_image` and `known_question`, some row has the path, and the question, of a
    reference.
    """
    if candidate.by_id is None:
        return ""
    reference = references[candidate.by_id]
    question = normalize_question(reference.question)
    named = f"question_id {candidate.by_id} is {_shorten(reference.question)!r} in the data set"
    if known_question and candidate.question not in (None, question):
        return f"{named}, but question is {_shorten(candidate.row['question'])!r}"
    if candidate.images is None or reference.image in candidate.images:
        return ""
    if candidate.images or (known_image and has_file_name(reference.image)):
        image = _shorten(id_text(candidate.row, "image"))
        return f"{named}, of {_file_name(reference)}, but image is {image}"
    return ""


def _file_name(example: Example) -> str:
    return os.path.basename(example.image) if has_file_name(example.image) else example.image_id


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _single(names: tuple[str, ...] | None) -> str | None:
    return names[0] if names is not None and len(names) == 1 else None


def _next_question(
    candidate: _Candidate, unanswered: dict[tuple[str, str | None], list[str]]
) -> str | None:
    """Return the next unanswered occurrence of the row's question about the row's image."""
    pairs = [(image, candidate.question) for image in candidate.images or ()]
    known = [pair for pair in pairs if pair in unanswered]
    if len(known) != 1:
        return None
    ids = unanswered[known[0]]
    # The last one is kept, so that a further row is reported as a second answer.
    return ids.pop() if len(ids) > 1 else ids[0]


def _raise_conflicts(problems: Iterable[tuple[str, str]], hint: str) -> None:
    """Raise MetricError if the problem at any position is not empty."""
    conflicts = [f"{where}: {problem}" for where, problem in problems if problem]
    if conflicts:
        more = len(conflicts) - 1
        count = f" (and {more} more such row{'s' * (more > 1)})" if more else ""
        raise MetricError(f"{conflicts[0]}{count}; correct or remove the wrong key: {hint}")


def _collect_texts(
    candidates: Iterable[_Candidate], expected: Sequence[str], *, key: str, source: str
) -> dict[str, str]:
    """Return the texts by reference; raise MetricError unless there is exactly one for each."""
    texts: dict[str, str] = {}
    unknown: list[str] = []
    for candidate in candidates:
        if candidate.reference is None:
            unknown.append(candidate.label)
        elif candidate.reference in texts:
            problem = f"a second {key} {_PREPOSITIONS[key]} {candidate.label}"
            hint = "expected one candidate per reference"
            raise MetricError(f"{candidate.where}: {problem}; {hint}")
        else:
            texts[candidate.reference] = candidate.row[key]
    missing = [name for name in expected if name not in texts]
    sides = (("candidates without references", unknown), ("references without candidate", missing))
    if unknown or missing:
        counts = "; ".join(f"{len(x)} {what} ({_first_names(x)})" for what, x in sides if x)
        hint = "the ids must be exactly those of the data set (see --split)"
        raise MetricError(f"{source}: {counts}; {hint}")
    return texts


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
