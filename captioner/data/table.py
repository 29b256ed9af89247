"""Read a data set into a memory-mapped Arrow table of examples."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.data.columns import iterate_tables
from captioner.data.example import Example
from captioner.data.example_checks import read_examples
from captioner.data.example_rows import (
    check_splits,
    collect_rows,
    explain_empty,
    select_examples,
)
from captioner.data.report import Report
from captioner.data.shards.shard_cache import DEFAULT_GB
from captioner.errors import DataError
from captioner.files import write_by_digest

if TYPE_CHECKING:
    import datasets
    import pyarrow

_BATCH = 10_000
"""Rows that are converted together."""


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
    cache_gb: float = DEFAULT_GB,
    optional_splits: Iterable[str] = (),
) -> tuple[datasets.Dataset, Report]:
    """Read a data set from disk into an Arrow table that is memory-mapped.

    Args:
        root: A folder, or the annotation file itself; of shards also a URL or a pattern.
        format: A key of `READERS`, or "auto".
        splits: Splits to read ("dev" and "valid" mean val, "restval" train); None reads all. A data
            set without splits is all train.
        images: Folder of the images if it is none of the usual ones beside the annotations.
        check_images: False for scoring, which needs references only: images may be missing.
        cache_dir: Folder of the Arrow file and of the cache of shards; by default the cache of
            `datasets`.
        questions: Turn captioned and tagged images into questions (`captioner.data.
            caption_questions`). They follow the questions of the data set, which remain unchanged.
        captions: Turn questions into captions (`captioner.data.question_captions`), one row per
            image. They follow the captions of the data set, which remain unchanged.
        seed: Seed of the questions made from captions and tags.
        require_answers: False keeps questions without answers, as in a test set whose answers are
            not public.
        phrases: Templates of the captions of rows with a label; see `SourceConfig.phrases`.
        cache_gb: Most gigabytes of the cache of shards; see `DataConfig.cache_gb`.
        optional_splits: Those of `splits` that the data set need not have; the report names the
            missing ones.

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
        cache_dir=cache_dir,
        cache_gb=cache_gb,
        optional_splits=optional_splits,
    )
    if questions or captions:
        made, report = collect_rows(
            root, selection, questions=questions, captions=captions, seed=seed
        )
        return _to_arrow(made, cache_dir=cache_dir), report
    report, split_counts = Report(), Counter[str]()
    table = _to_arrow(read_examples(selection, report, split_counts), cache_dir=cache_dir)
    check_splits(root, selection, split_counts, report)
    if not len(table):
        raise explain_empty(root, selection, report, questions=False)
    return table, report


def _to_arrow(
    rows: Iterable[Example], *, cache_dir: str | os.PathLike[str] | None
) -> datasets.Dataset:
    """Write rows to a file that is named by a digest of its content, and map it.

    A change of a file that changes a row, or an image that was added or removed, gives a new table.
    """
    import datasets  # takes a second, and most commands do not need it

    text = datasets.Value("string")
    features = datasets.Features({f.name: text for f in fields(Example)})
    features |= {name: datasets.Sequence(text) for name in ("references", "tags")}
    features |= {"weights": datasets.Sequence(datasets.Value("float64"))}
    features |= {"rows": datasets.Value("int32")}
    schema = features.arrow_schema
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE, "captioner")
    values, iterator = attrgetter(*schema.names), iter(rows)
    batches = iter(lambda: list(islice(iterator, _BATCH)), [])
    tables = (_make_table(zip(*map(values, batch), strict=True), schema) for batch in batches)
    return _write_tables(tables, schema, folder)


def _make_table(columns: Iterable[tuple[Any, ...]], schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow

    arrays = [pyarrow.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def copy_rows(rows: datasets.Dataset, **columns: int) -> datasets.Dataset:
    """Write rows, which may be a selection of a table, to a table of their own, and map it.

    The selection is read faster afterwards. `columns` are added, each with one value.

    Raises:
        DataError: The cache cannot be written.
    """
    import datasets
    import pyarrow

    features = rows.features | {name: datasets.Value("int64") for name in columns}
    schema = datasets.Features(features).arrow_schema

    def read_tables() -> Iterator[pyarrow.Table]:
        for table in iterate_tables(rows, _BATCH):
            for name, value in columns.items():
                values = pyarrow.array([value] * len(table), "int64")
                table = table.append_column(name, values)
            yield table.cast(schema)

    folder = Path(datasets.config.HF_DATASETS_CACHE, "captioner")
    return _write_tables(read_tables(), schema, folder)


def _write_tables(
    tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, folder: Path
) -> datasets.Dataset:
    import datasets
    import pyarrow

    try:
        with (
            write_by_digest(folder, ".arrow") as file,
            pyarrow.ipc.new_stream(file, schema) as writer,
        ):
            for table in tables:
                writer.write_table(table)
        return datasets.Dataset.from_file(str(file.path))
    except OSError as error:
        raise DataError(
            f"{folder.parent}: cannot hold the cache of the data ({error.strerror or error});"
            " point HF_HOME at a folder that can be written"
        ) from error
