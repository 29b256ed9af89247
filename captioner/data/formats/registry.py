"""The table of formats, telling them apart, and the checks that every example passes.

Whatever can be mended by leaving a row out is reported and the rest is used. Whether an image
*decodes* is found out where it is decoded, and added to the same Report.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.data.example import Example
from captioner.data.formats import coco, custom, daquar_easy_vqa, flickr, vqa
from captioner.data.formats.io import FolderIndex, Source
from captioner.data.report import (
    BAD_TEXT,
    DUPLICATE,
    EMPTY_ANSWER,
    EMPTY_CAPTION,
    EMPTY_QUESTION,
    MISSING_IMAGE,
    NO_ANSWER,
    NO_CAPTION,
    UNREAD_FILE,
    Report,
)
from captioner.errors import DataError
from captioner.text import normalize_caption, normalize_question


@dataclass(frozen=True)
class Reader:
    """One on-disk format: `find` returns the files it would read (none: not this format)."""

    find: Callable[[Path], tuple[Path, ...]]
    read: Callable[[Source], Iterator[Example]]
    layout: str


# The order is the order of detection: what is told by a specific name comes first.
READERS: dict[str, Reader] = {
    "flickr8k": Reader(flickr.find_flickr8k, flickr.read_flickr8k, "*.token.txt"),
    "flickr8k_csv": Reader(
        flickr.find_kaggle, flickr.read_kaggle, "captions.txt with the header image,caption"
    ),
    "karpathy": Reader(coco.find_karpathy, coco.read_karpathy, "dataset_*.json"),
    "coco": Reader(coco.find_coco, coco.read_coco, "annotations/captions_{train,val}*.json"),
    "flickr30k": Reader(flickr.find_flickr30k, flickr.read_flickr30k, "results.csv separated by |"),
    "vqav2": Reader(
        vqa.find_vqav2, vqa.read_vqav2, "v2_OpenEnded_mscoco_*_questions.json and annotations"
    ),
    "daquar": Reader(
        daquar_easy_vqa.find_daquar,
        daquar_easy_vqa.read_daquar,
        "data_train.csv with the columns question, answer, image_id",
    ),
    "easy_vqa": Reader(
        daquar_easy_vqa.find_easy_vqa,
        daquar_easy_vqa.read_easy_vqa,
        "train/questions.json with rows [question, answer, image number]",
    ),
    "folder": Reader(custom.find_folder, custom.read_folder, "metadata.jsonl (or in train/, val/)"),
    "jsonl": Reader(
        custom.find_jsonl, custom.read_jsonl, "one *.jsonl, or train.jsonl and val.jsonl"
    ),
    "csv": Reader(
        custom.find_csv,
        custom.read_custom_csv,
        "one *.csv with columns image and caption (or image, question, answer), or train.csv ...",
    ),
    "texts": Reader(custom.find_texts, custom.read_texts, "photo.txt beside photo.jpg"),
}


# The user's own formats, in which any file of a folder may be.
OWN = (("jsonl", custom.is_jsonl), ("csv", custom.is_custom_csv))


def detect_format(root: str | os.PathLike[str]) -> str:
    """Names the format of a folder or file; raises DataError if it is missing or of none."""
    path = resolve_path(root)
    for name, reader in READERS.items():
        if reader.find(path):
            return name
    wanted = "; ".join(f"{reader.layout} ({name})" for name, reader in READERS.items())
    raise DataError(
        f"{path}: no known data set here; looked for {wanted}; "
        f"put one of these there or name the file itself"
    )


def resolve_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path; raises DataError where there is nothing."""
    if not os.fspath(path):
        raise DataError("no path to the data was given; set data.root=PATH")
    absolute = Path(os.path.abspath(os.path.expanduser(path)))
    if not absolute.exists():
        raise DataError(f"{path}: no such file or folder; check the path (data.root, data.images)")
    return absolute


def resolve_format(path: Path, name: str) -> str:
    """The format to use; raises DataError where `name` is unknown or `path` is not in it."""
    if name == "auto":
        return detect_format(path)
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"data format {name!r} is unknown; {hint}known: auto, {', '.join(READERS)}")
    if not READERS[name].find(path):
        raise DataError(
            f"{path}: not in the format {name!r}: found no {READERS[name].layout}; "
            f"check the path or use format 'auto'"
        )
    return name


def read_examples(
    root: Path,
    name: str,
    *,
    splits: tuple[str, ...] | None,
    images: Path | None,
    check_images: bool,
    require_answers: bool = True,
    report: Report,
    found: Counter[str],
) -> Iterator[Example]:
    """Yields the usable examples of the wanted splits (None: of all), in the order of the files.

    Adds what is wrong to `report` and counts the examples of every split, wanted or not, in
    `found`. A question without any answer is usable only if answers are not required. Raises
    DataError where a file as a whole cannot be read.
    """
    base = root if root.is_dir() else root.parent
    reader = READERS[name]
    source = Source(root=base, files=reader.find(root), images=images, report=report)
    if root.is_dir():
        _report_unread(root, source.files, report)
    index = FolderIndex() if check_images else None
    seen: set[tuple[bool, str]] = set()
    for example in reader.read(source):
        found[example.split] += 1
        # Checked over all splits: an image of val that is in train too would flatter the scores.
        # Of questions, each counts on its own, and an image may recur.
        asks = bool(example.question_id)
        if (asks, _name(example)) in seen:
            place = f"{_name(example)} (again in {example.split})"
            report.add(DUPLICATE, place, rows=example.rows)
            continue
        seen.add((asks, _name(example)))
        if splits is not None and example.split not in splits:
            if example.rows:  # an image of a split list may have no captions
                report.unused[example.split] += example.rows
            continue
        if checked := _check(example, report, index, require_answers=require_answers):
            report.used[checked.split] += checked.rows
            yield checked


def _report_unread(root: Path, files: tuple[Path, ...], report: Report) -> None:
    """Report the other annotation files of a folder: they may be the ones that were meant."""
    others = {path: name for name, fits in OWN for path in custom.list_custom_files(root, fits)}
    for name, reader in READERS.items():
        try:
            others |= {path: name for path in reader.find(root) if name != "texts"}
        except DataError:  # several data sets of one format
            continue
    for path, name in sorted(others.items()):
        if path not in files:
            report.add(UNREAD_FILE, f"{path.name} ({name})")


def _name(example: Example) -> str:
    return example.question_id or example.image_id


def _check(
    example: Example, report: Report, index: FolderIndex | None, *, require_answers: bool
) -> Example | None:
    """Reports what is wrong with an example; returns what can be used of it, or None."""
    name, asks = _name(example), bool(example.question_id)
    texts = (value for value in vars(example).values() if isinstance(value, str))
    if not all(map(_is_text, texts)):
        report.add(BAD_TEXT, name, rows=example.rows)
        return None
    learned = index is not None  # scoring takes references as they are
    question = normalize_question(example.question) if learned else example.question
    if asks and not question.strip():
        report.add(EMPTY_QUESTION, name, rows=example.rows)
        return None
    required = require_answers or not asks
    if required and not example.references:
        report.add(NO_ANSWER if asks else NO_CAPTION, name, rows=example.rows)
        return None
    references, rows = _check_references(example, report, required=required, learned=learned)
    if required and not references:
        return None
    if index is not None and not index.holds(example.image):
        report.add_once(MISSING_IMAGE, example.image, key=example.image, rows=rows)
        return None
    question = example.question.strip()
    return replace(example, references=references, question=question, rows=rows)


def _check_references(
    example: Example, report: Report, *, required: bool, learned: bool
) -> tuple[tuple[str, ...], int]:
    """Return the usable references and the rows that are left; report the others.

    References that are `learned` must keep a character when they are normalized.
    """
    name, asks = _name(example), bool(example.question_id)
    usable, bad = [], []
    for reference in example.references:
        if not _is_text(reference):
            bad.append((BAD_TEXT, f"{name}: {reference}"))
        elif not (normalize_caption(reference) if learned else reference).strip():
            bad.append((EMPTY_ANSWER if asks else EMPTY_CAPTION, name))
        else:
            usable.append(reference.strip())
    # Either each reference has a row of its own, or the example has one row for all.
    each = int(example.rows == len(example.references) and bool(usable or required))
    left = example.rows - each * len(bad)
    for kind, where in bad:
        report.add(kind, where, rows=each)
    if required and not usable and left:
        report.problems[bad[0][0]].rows += left
        left = 0
    return tuple(usable), left


def _is_text(text: str) -> bool:
    # Lone surrogates: bytes that were not UTF-8, or "\ud800" in JSON. Arrow cannot store them.
    return text.isprintable() or not any("\ud800" <= char <= "\udfff" for char in text)
