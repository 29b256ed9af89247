"""Columns of large tables: iterated in batches, or as Arrow arrays.

`datasets` converts a row, or a column at once, to Python objects. For a million rows, the first is
slow and the second needs hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pyarrow

_BATCH = 10_000


def arrow_column(rows: Any, name: str) -> pyarrow.ChunkedArray:
    """Return a column of a table of `datasets`, or of any other with `rows[name]`."""
    import pyarrow

    if hasattr(rows, "with_format"):
        column = rows.select_columns([name])
        if column._indices is None:
            return column.with_format("arrow")[:].column(0)
        chunks = [table.column(0).chunk(0) for table in iterate_tables(column)]
        return pyarrow.chunked_array(chunks, column.features.arrow_schema.field(0).type)
    return pyarrow.chunked_array([pyarrow.array(list(rows[name]))])


def iterate_tables(rows: Any, size: int = _BATCH) -> Iterator[pyarrow.Table]:
    """Yield the rows of a table of `datasets` as Arrow tables of one chunk, at most `size` each.

    For a selection in ascending order, such as those of `select`, Arrow gathers the rows many times
    as fast as `datasets`, which makes a chunk for each run of rows. The rows of each Arrow table
    are within `size` consecutive rows of the whole table, which bounds the memory.
    """
    indices = None if rows._indices is None else rows._indices.column(0).to_numpy()
    if indices is None or (indices[1:] < indices[:-1]).any():
        view = rows.with_format("arrow")
        for start in range(0, len(rows), size):
            yield view[start : start + size].combine_chunks()
        return
    start = 0
    while start < len(indices):
        first = int(indices[start])
        end = min(start + size, int(indices.searchsorted(first + size)))
        places = indices[start:end].astype("int64")
        span = rows.data.table.slice(first, places[-1] - first + 1)
        yield span.combine_chunks().take(places - first)
        start = end


def iterate_columns(rows: Any, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the values of the columns, row by row."""
    if not hasattr(rows, "with_format"):
        yield from zip(*(rows[name] for name in names), strict=True)
        return
    for batch in iterate_tables(rows.select_columns(list(names))):
        yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)


def unique_texts(*columns: pyarrow.ChunkedArray) -> TextColumn:
    """Return the different texts of columns, in the order of their first occurrences.

    Texts are compared by hashes of 64 bits, which take a fraction of their memory.
    """
    import numpy as np
    import pyarrow

    chunks = [chunk for column in columns for chunk in column.chunks]
    column = pyarrow.chunked_array(chunks, "string")
    hashes = np.fromiter(map(hash, TextColumn(column)), np.int64, len(column))
    _, first = np.unique(hashes, return_index=True)
    return TextColumn(column if len(first) == len(column) else column.take(np.sort(first)))


class TextColumn(Sequence[str]):
    """A sequence of texts that are kept as Arrow arrays."""

    def __init__(self, column: pyarrow.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...

    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        # A negative index of an Arrow array raises an error.
        text: str = self._column[place + len(self) if place < 0 else place].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BATCH):
            yield from self._column.slice(start, _BATCH).to_pylist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
