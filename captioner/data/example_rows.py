"""Read a data set into examples in memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioner.data.example import Example, normalize_split
from captioner.data.example_checks import Selection, read_examples
from captioner.data.formats.registry import resolve_format, resolve_path, resolve_shard_format
from captioner.data.report import MISSING_IMAGE, NO_QUESTION, NO_STATEMENT, Report
from captioner.data.shards.shard_cache import DEFAULT_GB, ShardCache
from captioner.data.shards.shard_files import ShardListing, find_shard_files, is_shard_address
from captioner.errors import DataError, SplitError


def read_rows(
    root: str | os.PathLike[str],
    *,
    format: str = "auto",
    splits: str | Iterable[str] | None = ("train",),
    images: str | os.PathLike[str] | None = None,
    check_images: bool = True,
    questions: bool = False,
    captions: bool = False,
    seed: int = 0,
    require_answers: bool = True,
    phrases: Sequence[str] = (),
) -> tuple[list[Example], Report]:
    """Return the examples of a data set on disk, and the report on its rows.

    Unlike `captioner.data.read_dataset`, whose arguments are the same, it needs no library.

    Raises:
        DataError: As `read_dataset`.
    """
    selection = select_examples(
        root,
        format=format,
        splits=splits,
        images=images,
        check_images=check_images,
        require_answers=require_answers,
        phrases=phrases,
    )
    return collect_rows(root, selection, questions=questions, captions=captions, seed=seed)


def collect_rows(
    root: str | os.PathLike[str],
    selection: Selection,
    *,
    questions: bool = False,
    captions: bool = False,
    seed: int = 0,
) -> tuple[list[Example], Report]:
    """Return the selected examples of `root`, and the report on its rows; raise DataError."""
    report, split_counts = Report(), Counter[str]()
    rows = list(read_examples(selection, report, split_counts))
    check_splits(root, selection, split_counts, report)
    if questions:
        rows = _make_questions(rows, seed, report)
    if captions:
        rows = _make_captions(rows, report)
    if not rows:
        raise explain_empty(root, selection, report, questions=questions)
    return rows, report


def select_examples(
    root: str | os.PathLike[str],
    *,
    format: str,
    splits: str | Iterable[str] | None,
    images: str | os.PathLike[str] | None,
    check_images: bool,
    require_answers: bool,
    phrases: Sequence[str] = (),
    cache_dir: str | os.PathLike[str] | None = None,
    cache_gb: float = DEFAULT_GB,
    optional_splits: Iterable[str] = (),
) -> Selection:
    """Return the arguments of `read_dataset`, resolved; raise DataError."""
    address, listing = os.fspath(root), ShardListing([], [])
    if is_shard_address(address):
        listing = find_shard_files(address)
        path, format = Path(address), resolve_shard_format(address, listing.shards, format)
    else:
        path = resolve_path(root)
        format = resolve_format(path, format)
    return Selection(
        root=path,
        format=format,
        splits=_normalize_splits(splits),
        images=_resolve_images(images),
        check_images=check_images,
        require_answers=require_answers,
        phrases=tuple(phrases),
        optional_splits=_normalize_splits(optional_splits or None) or (),
        shards=tuple(listing.shards),
        unread=tuple(listing.unread),
        cache=ShardCache(None if cache_dir is None else Path(cache_dir), cache_gb * 1e9),
    )


def _resolve_images(images: str | os.PathLike[str] | None) -> Path | None:
    if images is None:
        return None
    folder = resolve_path(images)
    if not folder.is_dir():
        raise DataError(f"{images}: is a file, expected the folder of the images (data.images)")
    return folder


def _normalize_splits(splits: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if splits is None:
        return None
    names = [splits] if isinstance(splits, str) else list(splits)
    if not names:
        raise DataError("no split was given; name at least one, such as train")
    return tuple(dict.fromkeys(normalize_split(name) for name in names))


def check_splits(
    root: str | os.PathLike[str],
    selection: Selection,
    split_counts: Counter[str],
    report: Report,
) -> None:
    """Raise SplitError if the data set has splits, but not all that are selected.

    Optional splits that are missing are noted in the report.
    """
    missing = [split for split in selection.splits or () if split not in split_counts]
    required = [split for split in missing if split not in selection.optional_splits]
    if split_counts and required:
        present = ", ".join(f"{split} ({count})" for split, count in sorted(split_counts.items()))
        raise SplitError(f"{root}: has no split {', '.join(missing)}; it has {present}")
    report.missing_splits = missing if split_counts else []


def _make_questions(rows: list[Example], seed: int, report: Report) -> list[Example]:
    """Turn captioned and tagged images into questions; report images that give none."""
    from captioner.data import caption_questions

    questions = [row for row in rows if row.kind == "questions"]
    captioned = [row for row in rows if row.kind == "captions"]
    tagged = [row for row in rows if row.kind == "tags"]
    made = caption_questions.questions_from_captions(captioned, seed=seed)
    if tagged:
        made += caption_questions.questions_from_tags(tagged, seed=seed)
    used = {row.image_id for row in made}
    for row in captioned + tagged if made else ():
        if row.image_id not in used:
            report.add(NO_QUESTION, row.image_id)
    return questions + made


def _make_captions(rows: list[Example], report: Report) -> list[Example]:
    """Turn questions into captions; report images whose questions give none."""
    from captioner.data.question_captions import captions_from_questions

    captioned = [row for row in rows if not row.question]
    made = captions_from_questions(row for row in rows if row.question)
    used = {row.image_id for row in made}
    for name in dict.fromkeys(row.image_id for row in rows if row.question):
        if name not in used:
            report.add(NO_STATEMENT, name)
    return captioned + made


def explain_empty(
    root: str | os.PathLike[str], selection: Selection, report: Report, *, questions: bool
) -> DataError:
    """Return the error for a data set without usable examples."""
    nothing = "its captions or tags give no question" if questions else "it holds no rows"
    problems = "; ".join(report.summary().splitlines()) or nothing
    if MISSING_IMAGE in report.problems:
        problems += "; if the images are elsewhere, name their folder with data.images=PATH"
    return DataError(f"{root}: no usable example in the format {selection.format}: {problems}")
