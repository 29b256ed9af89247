"""Read a data set into a memory-mapped Arrow table of examples."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from captioner.data.example import Example
from captioner.data.example_checks import read_examples
from captioner.data.example_rows import (
    check_splits,
    collect_rows,
    explain_empty,
    select_examples,
)
from captioner.data.report import Report
from captioner.errors import DataError

if TYPE_CHECKING:
    import datasets

_CACHE_VERSION = 5
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
    captions: bool = False,
    seed: int = 0,
    require_answers: bool = True,
    phrases: Sequence[str] = (),
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
        questions: Turn captioned and tagged images into questions (`captioner.data.
            caption_questions`). They follow the questions of the data set, which remain unchanged.
        captions: Turn questions into captions (`captioner.data.question_captions`), one row per
            image. They follow the captions of the data set, which remain unchanged.
        seed: Seed of the questions made from captions and tags.
        require_answers: False keeps questions without answers, as in a test set whose answers are
            not public.
        phrases: Templates of the captions of rows with a label; see `SourceConfig.phrases`.

    Returns:
        A `datasets.Dataset` with the fields of `Example` as columns, in the order of the files,
        and the report on the rows.

    Raises:
        DataError: `root` or `images` does not exist, the format is unknown or not found, a split
            does not exist, or no usable example is left.
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
    if questions or captions:
        made, report = collect_rows(
            root, selection, questions=questions, captions=captions, seed=seed
        )
        keyed = _KeyedRows(_hash_rows(made), lambda: iter(made))
        return _to_arrow(keyed, cache_dir=cache_dir), report
    report, split_counts = Report(), Counter[str]()
    digest = _hash_rows(read_examples(selection, report, split_counts))
    check_splits(root, selection, split_counts)
    if digest == _hash_rows(()):
        raise explain_empty(root, selection, report, questions=False)
    # The files are parsed again only to write a new table.
    keyed = _KeyedRows(digest, lambda: read_examples(selection, Report(), Counter()))
    return _to_arrow(keyed, cache_dir=cache_dir), report


def _hash_rows(rows: Iterable[Example]) -> str:
    """Return the key of a table in the cache: a digest of all rows, in order.

    A change of a file that changes a row, or an image that was added or removed, gives a new table.
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode("utf-8"))
    return f"{_CACHE_VERSION} {digest.hexdigest()}"


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


def _to_arrow(rows: _KeyedRows, *, cache_dir: str | os.PathLike[str] | None) -> datasets.Dataset:
    import datasets  # takes a second, and most commands do not need it

    text = datasets.Value("string")
    features = datasets.Features({f.name: text for f in fields(Example)})
    features |= {name: datasets.Sequence(text) for name in ("references", "tags")}
    features |= {"weights": datasets.Sequence(datasets.Value("float64"))}
    features |= {"rows": datasets.Value("int32")}
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
