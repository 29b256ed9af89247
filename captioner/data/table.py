"""Read a data set into a memory-mapped Arrow table of examples."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.data.example import Example, normalize_split
from captioner.data.example_checks import Selection, read_examples
from captioner.data.formats.registry import resolve_format, resolve_path
from captioner.data.report import MISSING_IMAGE, NO_QUESTION, Report
from captioner.errors import DataError, SplitError

if TYPE_CHECKING:
    import datasets

_CACHE_VERSION = 3
"""Part of the cache key; raise it if the readers yield other rows for the same files."""


def read_dataset(
    root: str | os.PathLike[str],
    *,
    format: str = "auto",
    splits: str | Iterable[str] | None = ("train",),
    images: str | os.PathLike[str] | None = None,
    check_images: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    questions: bool = False,
    seed: int = 0,
    require_answers: bool = True,
) -> tuple[datasets.Dataset, Report]:
    """Read a data set from disk into an Arrow table that is memory-mapped.

    Args:
        root: A folder, or the annotation file itself.
        format: A key of `READERS`, or "auto".
        splits: Splits to read ("dev" and "valid" mean val, "restval" train); None reads all. A data
            set without splits is all train.
        images: Folder of the images if it is none of the usual ones beside the annotations.
        check_images: False for scoring, which needs references only: images may be missing.
        cache_dir: Folder of the Arrow file; by default the cache of `datasets`.
        questions: Turn captioned images into questions (`captioner.data.caption_questions`). They
            follow the questions of the data set, which remain unchanged.
        seed: Seed of the questions made from captions.
        require_answers: False keeps questions without answers, as in a test set whose answers are
            not public.

    Returns:
        A `datasets.Dataset` with the fields of `Example` as columns, in the order of the files,
        and the report on the rows.

    Raises:
        DataError: `root` or `images` does not exist, the format is unknown or not found, a split
            does not exist, or no usable example is left.
    """
    path = resolve_path(root)
    selection = Selection(
        root=path,
        format=resolve_format(path, format),
        splits=_normalize_splits(splits),
        images=_resolve_images(images),
        check_images=check_images,
        require_answers=require_answers,
    )
    report, split_counts = Report(), Counter[str]()
    rows: Iterable[Example] = read_examples(selection, report, split_counts)
    if questions:
        captioned = list(rows)
        _check_splits(root, selection, split_counts)  # first, because making questions is slow
        rows = _make_questions(captioned, seed, report)
    digest = _hash_rows(rows)
    _check_splits(root, selection, split_counts)
    if digest is None:
        reason = _explain_empty(report, questions)
        raise DataError(f"{root}: no usable example in the format {selection.format}: {reason}")
    # The cache key is a digest of the rows: a change of a file that changes a row, or an image that
    # was added or removed, gives a new table. The files are parsed again only to write a new table.
    keyed = _KeyedRows(
        f"{_CACHE_VERSION} {digest}",
        lambda: iter(rows) if questions else read_examples(selection, Report(), Counter()),
    )
    return _to_arrow(keyed, cache_dir=cache_dir), report


def _resolve_images(images: str | os.PathLike[str] | None) -> Path | None:
    if images is None:
        return None
    folder = resolve_path(images)
    if not folder.is_dir():
        raise DataError(f"{images}: is a file, expected the folder of the images (data.images)")
    return folder


def _hash_rows(rows: Iterable[Example]) -> str | None:
    """Return the SHA-256 of all rows in order, or None if there are none."""
    digest, is_empty = hashlib.sha256(), True
    for row in rows:
        digest.update(repr(row).encode("utf-8"))
        is_empty = False
    return None if is_empty else digest.hexdigest()


def _check_splits(
    root: str | os.PathLike[str], selection: Selection, split_counts: Counter[str]
) -> None:
    missing = [split for split in selection.splits or () if split not in split_counts]
    if split_counts and missing:
        present = ", ".join(f"{split} ({count})" for split, count in sorted(split_counts.items()))
        raise SplitError(f"{root}: has no split {', '.join(missing)}; it has {present}")


def _make_questions(rows: list[Example], seed: int, report: Report) -> list[Example]:
    """Turn captioned images into questions; report images whose captions give none."""
    from captioner.data.caption_questions import questions_from_captions

    questions = [row for row in rows if row.question]
    captioned = [row for row in rows if not row.question]
    made = questions_from_captions(captioned, seed=seed)
    used = {row.image_id for row in made}
    for row in captioned if made else ():
        if row.image_id not in used:
            report.add(NO_QUESTION, row.image_id)
    return questions + made


class _KeyedRows:
    """Rows whose pickle is the cache key alone, because `datasets` hashes it to name the cache."""

    def __init__(self, key: str, read: Callable[[], Iterator[Example]] | None) -> None:
        self.key, self.read = key, read

    def __reduce__(self) -> tuple[type[_KeyedRows], tuple[str, None]]:
        return _KeyedRows, (self.key, None)  # a copy fails on iteration instead of being empty

    def __iter__(self) -> Iterator[Example]:
        if self.read is None:
            raise TypeError("a pickled copy has no rows")
        return self.read()


def _normalize_splits(splits: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if splits is None:
        return None
    names = [splits] if isinstance(splits, str) else list(splits)
    if not names:
        raise DataError("no split was given; name at least one, such as train")
    return tuple(dict.fromkeys(normalize_split(name) for name in names))


def _explain_empty(report: Report, questions: bool) -> str:
    nothing = "its captions give no question" if questions else "it holds no rows"
    problems = "; ".join(report.summary().splitlines()) or nothing
    if MISSING_IMAGE in report.problems:
        problems += "; if the images are elsewhere, name their folder with data.images=PATH"
    return problems


def _to_arrow(rows: _KeyedRows, *, cache_dir: str | os.PathLike[str] | None) -> datasets.Dataset:
    import datasets  # takes a second, and most commands do not need it

    text = datasets.Value("string")
    features = datasets.Features({f.name: text for f in fields(Example)})
    features |= {"references": datasets.Sequence(text), "rows": datasets.Value("int32")}
    try:
        with hide_progress_bars():
            return datasets.Dataset.from_generator(
                _iterate_fields,
                features=features,
                cache_dir=None if cache_dir is None else str(cache_dir),
                gen_kwargs={"rows": rows},
            )
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(
            f"{cache_dir or datasets.config.HF_DATASETS_CACHE}: cannot hold the cache of the data "
            f"({error.__cause__ or error}); point HF_HOME at a folder that can be written"
        ) from error


@contextlib.contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Switch off the progress bars of `datasets` within the block."""
    import datasets

    were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()


def _iterate_fields(rows: _KeyedRows) -> Iterator[dict[str, Any]]:
    return map(vars, rows)
