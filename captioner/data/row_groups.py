"""The rows of a table about each image.

The numbers are kept in arrays: a dictionary for each of a million images would take half a
gigabyte.

Shapes: R rows, N images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from captioner.data.columns import TextColumn, arrow_column

Integers = NDArray[np.int64]


class RowGroups(Sequence[dict[int, list[int]]]):
    """For each image, the numbers of its rows by source.

    Rows belong together if they have the same image and the same recording. The images are in the
    order of their first rows.

    Args:
        rows: Table with the columns image, audio and source.
    """

    def __init__(self, rows: Any) -> None:
        images, recordings = arrow_column(rows, "image"), arrow_column(rows, "audio")
        numbers, first = _number(TextColumn(images), TextColumn(recordings))  # (R,), (N,)
        self._sources: Integers = np.asarray(arrow_column(rows, "source"), np.int64)  # (R,)
        self._numbers = numbers
        self._order = np.argsort(numbers, kind="stable")  # (R,)
        self._starts = np.searchsorted(numbers[self._order], np.arange(len(first) + 1))  # (N + 1,)
        if len(first) < len(numbers):
            images, recordings = images.take(first), recordings.take(first)
        self.images, self.recordings = TextColumn(images), TextColumn(recordings)
        """The image and the recording of each group."""

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, place: int) -> dict[int, list[int]]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[dict[int, list[int]]]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(f"image {place} of {len(self)}")
        group: dict[int, list[int]] = {}
        rows = self._order[self._starts[place] : self._starts[place + 1]]
        for number, source in zip(rows.tolist(), self._sources[rows].tolist(), strict=True):
            group.setdefault(source, []).append(number)
        return group

    def select(self, source: int) -> list[int]:
        """Return the indices of the images that a source has rows for."""
        selected: list[int] = np.flatnonzero(self._has_rows([source])).tolist()
        return selected

    def list_members(self, sources: Collection[int]) -> list[bool]:
        """Return for each image whether any of the sources has rows for it."""
        members: list[bool] = self._has_rows(sources).tolist()
        return members

    def _has_rows(self, sources: Collection[int]) -> NDArray[np.bool_]:
        result = np.zeros(len(self), np.bool_)
        result[self._numbers[np.isin(self._sources, list(sources))]] = True
        return result


def _number(images: TextColumn, recordings: TextColumn) -> tuple[Integers, Integers]:
    """Return the number of each row's image (R,), and the first row of each image (N,).

    Rows are compared by hashes of 64 bits, which take a fraction of the memory of the texts.
    """
    pairs = zip(images, recordings, strict=True)
    hashes = np.fromiter(map(hash, pairs), np.int64, len(images))
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks[inverse], first[order]
