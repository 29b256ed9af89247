"""Find image files with equal bytes without reading most files."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable

from captioner.files import file_digest

_TAIL = 4096
"""Bytes at the end of a file that are compared first."""


def group_equal_files(paths: Iterable[str]) -> list[list[str]]:
    """Group the paths whose files have equal bytes.

    Only files of equal size are opened, and only those with equal ends are read completely. Paths
    that cannot be read are left out. The groups are in the order of their first paths.
    """
    groups = _split(dict.fromkeys(paths), os.path.getsize)
    groups = [part for group in groups for part in _split(group, _tail)]
    return [part for group in groups for part in _split(group, file_digest)]


def _split(paths: Iterable[str], key_of: Callable[[str], Hashable]) -> list[list[str]]:
    """Group paths by a key; leave out single paths and those whose key raises an error."""
    groups: dict[Hashable, list[str]] = {}
    for path in paths:
        try:
            groups.setdefault(key_of(path), []).append(path)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            continue
    return [group for group in groups.values() if len(group) > 1]


def _tail(path: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL))
        return file.read()
