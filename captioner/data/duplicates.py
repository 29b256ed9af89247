"""Find image files and members of shards with equal bytes without reading most of them."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from captioner.data.columns import TextColumn, arrow_column, unique_texts
from captioner.data.report import Report
from captioner.files import file_digest
from captioner.sources import TAIL, file_name, parse_member, read_member, tail_checksum

if TYPE_CHECKING:
    from datasets import Dataset

LEAKED = "validation image that is byte-identical to a training image (not a test of new images)"
_UNKNOWN = -1


def report_leaks(train: Dataset, val: Dataset, report: Report) -> None:
    """Report validation images that are training images under another name."""
    columns = arrow_column(train, "image"), arrow_column(val, "image")
    groups = group_equal_files(unique_texts(*columns))
    equal = {path for group in groups for path in group}
    trained, validated = (equal.intersection(TextColumn(column)) for column in columns)
    for group in groups:
        first = next((path for path in group if path in trained), None)
        for path in group if first is not None else ():
            if path in validated and path not in trained:
                report.add(LEAKED, f"{file_name(path)} = {file_name(first or '')}")


def group_equal_files(paths: Iterable[str]) -> list[list[str]]:
    """Group the paths whose files have equal bytes; a path may be the address of a member.

    Only files of equal size are opened, and only those with equal ends are read completely. The
    address of a member has its size and a checksum of its end, so that few members are read. Paths
    that cannot be read are left out. The groups are in the order of their first paths.

    Args:
        paths: Paths; the texts of a `TextColumn` must differ.
    """
    unique = paths if isinstance(paths, TextColumn) else list(dict.fromkeys(paths))
    keys = _compare_ends(unique)  # (N,)
    if not keys.size:
        return []
    groups: dict[tuple[int, str], list[str]] = {}
    for key, path in zip(keys.tolist(), unique, strict=True):
        if key != _UNKNOWN:
            try:
                groups.setdefault((key, content_digest(path)), []).append(path)
            except OSError:
                continue
    return [group for group in groups.values() if len(group) > 1]


def content_digest(path: str) -> str:
    """Return the SHA-256 of a file or member in hexadecimal; raise OSError."""
    if member := parse_member(path):
        return hashlib.sha256(read_member(member)).hexdigest()
    return file_digest(path)


def _compare_ends(paths: Sequence[str]) -> NDArray[np.int64]:
    """Return a key of the size and the end of each file, -1 for those that no other one has."""
    values = itertools.chain.from_iterable(map(_measure, paths))
    measured = np.fromiter(values, np.int64, 2 * len(paths)).reshape(-1, 2)  # (N, 2)
    sizes, ends = measured[:, 0], measured[:, 1]
    sizes[~_is_repeated(sizes)] = _UNKNOWN
    if (sizes == _UNKNOWN).all():
        return np.empty(0, np.int64)
    for place, path in enumerate(paths):
        if sizes[place] != _UNKNOWN and ends[place] == _UNKNOWN:
            ends[place] = _tail(path)
    keys = sizes << 32 | ends
    keys[(sizes == _UNKNOWN) | (ends == _UNKNOWN)] = _UNKNOWN
    keys[~_is_repeated(keys)] = _UNKNOWN
    return keys


def _is_repeated(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which values occur more than once."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[places] > 1  # type: ignore[no-any-return]


def _measure(path: str) -> tuple[int, int]:
    """Return the size of a file, and the checksum of its end if that is known; -1 for unknown."""
    if member := parse_member(path):
        return member.size, member.checksum
    try:
        return os.path.getsize(path), _UNKNOWN
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return _UNKNOWN, _UNKNOWN


def _tail(path: str) -> int:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - TAIL))
            return tail_checksum(file.read())
    except OSError:
        return _UNKNOWN
