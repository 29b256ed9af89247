"""Any known data set on disk -> a memory-mapped table of Examples, and a Report of its faults."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.data.example import Example
from captioner.data.formats.io import canonical_split
from captioner.data.formats.registry import read_examples, resolve_format, resolve_path
from captioner.data.report import MISSING_IMAGE, NO_QUESTION, Report
from captioner.errors import DataError, SplitError

if TYPE_CHECKING:
    import datasets

# Raised whenever the readers yield other rows for the same files, so that old caches are not used.
_CACHE_VERSION = 3


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
    """Reads a data set from disk into an Arrow table that is memory-mapped, not held in memory.

    Args:
        root: A folder, or the annotation file itself.
        format: A key of `READERS`, or "auto".
        splits: Which splits ("dev" and "valid" mean val, "restval" train); None takes all. A data
            set without splits is all train.
        images: Folder of the images, where it is not one of the usual ones beside the captions.
        check_images: False for references alone, as in scoring: images may then be absent.
        cache_dir: Where the Arrow file goes; by default where `datasets` keeps its cache.
        questions: True turns captioned images into questions (`captioner.data.caption_questions`);
            these follow the questions that the data holds, which stay as they are.
        seed: Of the questions made from captions.
        require_answers: False keeps questions without any answer, as in a test set whose answers
            only a server knows.

    Returns:
        A `datasets.Dataset` with the fields of `Example` as columns, in the order of the files,
        and the Report.

    Raises:
        DataError: `root` or `images` is missing, the format is unknown or not found, a split does
            not exist, or no usable example is left.
    """
    path = resolve_path(root)
    name = resolve_format(path, format)
    folder = None if images is None else resolve_path(images)
    if folder is not None and not folder.is_dir():
        raise DataError(f"{images}: is a file, expected the folder of the images (data.images)")
    wanted = _split_names(splits)
    request = {
        "splits": wanted,
        "images": folder,
        "check_images": check_images,
        "require_answers": require_answers,
    }
    report, found, digest, usable = Report(), Counter[str](), hashlib.sha256(), 0
    rows: Iterable[Example] = read_examples(path, name, **request, report=report, found=found)
    if questions:
        rows = list(rows)
        _check_splits(root, wanted, found)  # before the work, which takes longer than the reading
        rows = _as_questions(rows, seed, report)
    for row in rows:
        digest.update(repr(row).encode("utf-8"))
        usable += 1
    _check_splits(root, wanted, found)
    if not usable:
        raise DataError(
            f"{root}: no usable example in the format {name}: {_why(report, questions)}"
        )
    # The rows themselves are the cache key: any change of a file that changes a row, and an image
    # that came or went, gives another table. The files are parsed again only to write a new one;
    # questions made from captions, which are in memory, are not made again.
    again = rows if questions else _Again(path, name, request)
    stamp = f"{_CACHE_VERSION} {digest.hexdigest()}"
    return _to_arrow(_Stamped(stamp, again), cache_dir=cache_dir), report


def _check_splits(
    root: str | os.PathLike[str], wanted: tuple[str, ...] | None, found: Counter[str]
) -> None:
    absent = [split for split in wanted or () if split not in found]
    if found and absent:
        there = ", ".join(f"{split} ({count})" for split, count in sorted(found.items()))
        raise SplitError(f"{root}: has no split {', '.join(absent)}; it has {there}")


def _as_questions(rows: Iterable[Example], seed: int, report: Report) -> list[Example]:
    """Turn captioned images into questions; images whose captions give none are reported."""
    from captioner.data.caption_questions import questions_from_captions

    asked, captioned = [], []
    for row in rows:
        (asked if row.question else captioned).append(row)
    made = questions_from_captions(captioned, seed=seed)
    used = {row.image_id for row in made}
    for row in captioned if made else ():
        if row.image_id not in used:
            report.add(NO_QUESTION, row.image_id)
    return asked + made


@dataclass(frozen=True)
class _Again:
    """The usable rows of a data set, read anew by each iteration."""

    root: Path
    name: str
    request: dict[str, Any]

    def __iter__(self) -> Iterator[Example]:
        return read_examples(self.root, self.name, **self.request, report=Report(), found=Counter())


class _Stamped:
    """Rows for `datasets`, which names the cache by what it would pickle: the stamp alone."""

    def __init__(self, stamp: str, rows: Iterable[Example] | None) -> None:
        self.stamp, self.rows = stamp, rows

    def __reduce__(self) -> tuple[type[_Stamped], tuple[str, None]]:
        return _Stamped, (self.stamp, None)  # rows that cannot be iterated, rather than none


def _split_names(splits: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if splits is None:
        return None
    names = [splits] if isinstance(splits, str) else list(splits)
    if not names:
        raise DataError("no split was asked for; name at least one, such as train")
    return tuple(dict.fromkeys(canonical_split(name) for name in names))


def _why(report: Report, questions: bool) -> str:
    nothing = "its captions give no question" if questions else "it holds no rows"
    problems = "; ".join(report.summary().splitlines()) or nothing
    if MISSING_IMAGE in report.problems:
        problems += "; if the images lie elsewhere, name their folder with data.images=PATH"
    return problems


def _to_arrow(rows: _Stamped, *, cache_dir: str | os.PathLike[str] | None) -> datasets.Dataset:
    import datasets  # takes a second, and most commands do not need it

    text = datasets.Value("string")
    features = datasets.Features({f.name: text for f in fields(Example)})
    features |= {"references": datasets.Sequence(text), "rows": datasets.Value("int32")}
    try:
        with hide_progress_bars():
            return datasets.Dataset.from_generator(
                _arrow_rows,
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
    """Within the block, `datasets` draws no progress bars of its own."""
    import datasets

    were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()


def _arrow_rows(rows: _Stamped) -> Iterator[dict[str, Any]]:
    for row in rows.rows:
        yield vars(row)
