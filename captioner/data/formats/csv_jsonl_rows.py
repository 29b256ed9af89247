"""Interpret one row of custom data: its image or recording, texts, tags, ids and weight."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.data.example import NO_FILE_NAME, normalize_split
from captioner.data.formats.cells import is_list_text, number_text, parse_list
from captioner.data.report import BAD_LIST, BAD_ROW, BAD_WEIGHT, UNREAD_COLUMN, Report
from captioner.files import AUDIO_SUFFIXES

IMAGE_KEYS = ("image", "file_name", "filename", "image_path")
AUDIO_KEYS = ("audio", "audio_path", "sound")
CAPTION_KEYS = ("captions", "caption", "text")
ANSWER_KEYS = ("answers", "answer")
TAG_KEYS = ("tags", "tag")
WEIGHT_KEY = "weight"
MIN_WEIGHT, MAX_WEIGHT = 1e-6, 1e6
"""Bounds of weights other than 0, far from those of float32, in which losses are computed."""
LABEL_KEYS = ("label", "category")
REFERENCE_KEY = "references"
"""Column of captions and answers in a table of `Example`s."""
ID_KEYS = ("id", "image_id")
NUMBER_COLUMNS = frozenset((*ANSWER_KEYS, *ID_KEYS, "question_id", REFERENCE_KEY))
"""CSV columns in which whole numbers may be written as 3.0."""
_NUMBERED = re.compile(r"([a-z]+)[ _-]?\d+")
_TAG_SEPARATOR = re.compile("[,;]")


@dataclass(frozen=True)
class Row:
    """A parsed row; values that the row leaves out are ""."""

    name: str
    """Path of the image, or else of the recording, as written in the row."""
    audio: str
    """Path of the recording; equal to `name` if there is no image."""
    texts: list[str]
    """Captions, the answers to the question, or tags."""
    split: str
    image_id: str
    question: str | None
    """None in a row of captions or tags."""
    question_id: str
    question_type: str
    answer_type: str
    has_tags: bool
    """True if `texts` are tags."""
    weight: float
    """Factor of the loss of the texts."""


def parse_row(
    row: dict[str, Any], where: str, report: Report, *, phrases: Sequence[str] = ()
) -> Row | None:
    """Parse a row; report it and return None if it cannot be used.

    `phrases` are the templates of the captions of a row with a label and without a caption.
    """
    row = _describe_label(_merge_numbered(row), phrases)
    captions = first_value(row, (*CAPTION_KEYS, REFERENCE_KEY))
    answers, question = first_value(row, ANSWER_KEYS), row.get("question")
    if has_value(captions) and not has_value(question) and not has_value(answers):
        question = None  # in a table of captions and questions, a caption's question is empty
    tags = first_value(row, TAG_KEYS)
    has_tags = tags is not None and not (has_value(captions) or has_value(question))
    has_tags = has_tags and first_value(row, CAPTION_KEYS) is None
    keys = (*(CAPTION_KEYS if question is None else ANSWER_KEYS), REFERENCE_KEY, *TAG_KEYS)
    if has_tags:
        keys, question, texts = TAG_KEYS, None, parse_tags(tags)
    elif question is None:
        texts = parse_texts(captions)
    else:
        answer = first_value(row, (*ANSWER_KEYS, REFERENCE_KEY))
        texts = parse_texts(answer if has_value(answer) else [], numbers=True)
    if texts is None:
        report.add(BAD_LIST, where, rows=1)
        return None
    weight = _parse_weight(row.get(WEIGHT_KEY))
    if weight is None:
        report.add(BAD_WEIGHT, f"{where}: {row[WEIGHT_KEY]!r}", rows=1)
        return None
    label_keys = (("split",), ("question_type", "type"), ("answer_type",))
    labels = [first_value(row, some, default="") for some in label_keys]
    fold = str(first_value(row, ("fold",), default="")).strip()
    if labels[0] == "" and fold:
        labels[0] = f"fold{fold}"
    image_id = _parse_id(first_value(row, ID_KEYS, default=""))
    question_id = _parse_id(first_value(row, ("question_id",), default=""))
    name, audio = find_inputs(row)
    if name is None and isinstance(image_id, str) and image_id:
        name = f"{image_id}{NO_FILE_NAME}"  # enough for scoring, which opens no image
    values = [name, audio, *texts, *labels, image_id, question_id]
    values += [] if question is None else [question]
    if not all(isinstance(value, str) for value in values) or not name.strip():
        report.add(BAD_ROW, where, rows=1)
        return None
    _report_unread(row, keys, where, report)
    split = labels[0] and normalize_split(labels[0])
    return Row(
        name,
        audio,
        texts,
        split,
        image_id,
        question,
        question_id,
        question_type=labels[1],
        answer_type=labels[2],
        has_tags=has_tags,
        weight=weight,
    )


def find_inputs(row: dict[str, Any]) -> tuple[Any, Any]:
    """Return the image and the recording of a row, "" without one.

    The first is the recording, or None, if there is no image. A file name with the suffix of a
    recording is one, whatever the name of its column.
    """
    name, audio = first_value(row, IMAGE_KEYS), first_value(row, AUDIO_KEYS, default="")
    if not has_value(name):
        return (audio if has_value(audio) else name), audio
    if isinstance(name, str) and name.strip().lower().endswith(AUDIO_SUFFIXES):
        return name, name
    return name, audio


def _parse_weight(value: Any) -> float | None:
    """Return a weight, 1 for a missing one, or None for one out of bounds or no number."""
    if not has_value(value):
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        weight = float(value)
    except (ValueError, OverflowError):
        return None
    return weight if weight == 0 or MIN_WEIGHT <= weight <= MAX_WEIGHT else None


def _describe_label(row: dict[str, Any], phrases: Sequence[str]) -> dict[str, Any]:
    """Return a row with captions for its label, if it has one and no texts."""
    label = first_value(row, LABEL_KEYS)
    others = (*CAPTION_KEYS, REFERENCE_KEY, "question", *TAG_KEYS)
    if not phrases or not has_value(label) or has_value(first_value(row, others)):
        return row
    return row | {CAPTION_KEYS[0]: [text.replace("{label}", str(label)) for text in phrases]}


def _merge_numbered(row: dict[str, Any]) -> dict[str, Any]:
    """Merge the values of numbered keys, such as `caption_1` and `caption_2`, into one list."""
    for bases in (CAPTION_KEYS, ANSWER_KEYS):
        numbered = [key for key in row if is_numbered(key, bases)]
        if numbered:
            values = [row[key] for key in (*bases, *numbered) if has_value(row.get(key))]
            lists = [parse_texts(value) for value in values]
            broken = [value for value, texts in zip(values, lists, strict=True) if texts is None]
            row = {key: value for key, value in row.items() if key not in (*bases, *numbered)}
            texts = [text for texts in lists for text in texts or ()]
            row[bases[0]] = broken[0] if broken else texts
    return row


def is_numbered(key: str, bases: Iterable[str]) -> bool:
    """Return whether a key is one of `bases` followed by a number, such as `caption_2`."""
    match = _NUMBERED.fullmatch(key)
    return match is not None and match[1] in bases


def parse_texts(value: Any, *, numbers: bool = False) -> list[Any] | None:
    """Return the texts of a cell: a text, a list, or a list written as text; None if it is broken.

    With `numbers`, numbers become texts, as for answers that are counts. Other items that are no
    texts remain as they are.
    """
    if isinstance(value, str) and is_list_text(value) and (value := parse_list(value)) is None:
        return None
    texts = value if isinstance(value, list) else [value]
    return [number_text(text) if numbers and _is_number(text) else text for text in texts]


def parse_tags(value: Any) -> list[Any] | None:
    """Return the tags of a list, or of a text with commas or semicolons, in lower case and NFC.

    Blank tags are left out, and items that are no texts remain as they are. The result is None for
    a broken list.
    """
    if isinstance(value, str) and not is_list_text(value):
        value = _TAG_SEPARATOR.split(value)
    tags = parse_texts(value, numbers=True)
    if tags is None:
        return None
    names = (_normalize_tag(tag) if isinstance(tag, str) else tag for tag in tags)
    return [tag for tag in names if tag]


def _normalize_tag(tag: str) -> str:
    return " ".join(unicodedata.normalize("NFC", tag).lower().split())


def _report_unread(row: dict[str, Any], keys: Iterable[str], where: str, report: Report) -> None:
    """Report further keys of `keys` that hold other texts than the first with a value."""
    filled = [key for key in keys if has_value(row.get(key))]
    for key in filled[1:]:
        used, other = row[filled[0]], row[key]
        if other != used and not (isinstance(used, list) and other in used):
            name = f"{key} beside {filled[0]}"
            report.add_once(UNREAD_COLUMN, f"{name} (first in {where})", key=name)


def first_value(row: dict[str, Any], keys: Iterable[str], *, default: Any = None) -> Any:
    """Return the first value that is not blank, otherwise the first that exists."""
    values = [row[key] for key in keys if row.get(key) is not None]
    return next(filter(has_value, values), values[0] if values else default)


def has_value(value: Any) -> bool:
    """Return whether a value, or any item of a list, is neither None nor blank text."""
    if isinstance(value, list):
        return any(map(has_value, value))
    return bool(value.strip()) if isinstance(value, str) else value is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse_id(value: Any) -> Any:
    """Return a whole number as text; other values remain and are rejected unless they are text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) else value
