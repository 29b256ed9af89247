"""Expand glob patterns; a part that exists under its name is taken literally."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

ANY = "**"
"""The part of a pattern that matches any number of folders."""


def is_pattern(path: str) -> bool:
    """Return whether a path has wildcards and is not the name of an existing file."""
    if not glob.has_magic(path):
        return False
    return _is_wild(os.path.basename(path)) or not os.path.lexists(path)


def expand_pattern(pattern: str) -> list[str]:
    """Return the sorted files and folders that a pattern matches, without hidden ones.

    A part of the pattern that exists is taken literally, such as the folder in
    `photos [2023]/*.jpg`. A pattern with `**` matches files only, and links to folders are not
    followed.
    """
    drive, tail = os.path.splitdrive(pattern.replace(os.altsep or os.sep, os.sep))
    parts = [part for part in tail.split(os.sep) if part]
    start = drive + os.sep if tail.startswith(os.sep) else drive
    paths = _match(start, parts)
    return sorted(filter(os.path.isdir, paths) if tail.endswith(os.sep) else paths)


def list_folder(folder: str, folders: list[str], hidden: list[str]) -> Iterator[str]:
    """Yield the files of a folder; append its subfolders and hidden names to the given lists.

    A folder that cannot be read is yielded itself, so that the run reports it.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    hidden.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not os.path.isdir(entry.path):  # entry.is_dir() would raise for a loop
                    yield entry.path
    except OSError:
        yield folder


def walk_files(folder: str, hidden: list[str]) -> Iterator[str]:
    """Yield the files below a folder at any depth, as `list_folder` does."""
    waiting = [folder]
    while waiting:
        yield from list_folder(waiting.pop(), waiting, hidden)


def _match(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield the paths in an existing folder that match the parts of a pattern."""
    part, rest = parts[0], parts[1:]
    if ANY in part:
        yield from _below(folder, parts)
        return
    literal = os.path.join(folder, part)
    if not glob.has_magic(part) or (not _is_wild(part) and os.path.lexists(literal)):
        names = [part]
    else:
        names = [name for name in _names(folder) if fnmatch(name, part)]
        names = [name for name in names if part.startswith(".") or not name.startswith(".")]
    for name in names:
        path = os.path.join(folder, name)
        if rest and os.path.isdir(path):
            yield from _match(path, rest)
        elif not rest and os.path.lexists(path):
            yield path


def _below(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield the files below a folder that match parts with `**` among them."""
    for path in walk_files(folder or os.curdir, []):
        names = os.path.relpath(path, folder or os.curdir).split(os.sep)
        if _fits(names, parts) or os.path.isdir(path):
            yield path if folder else os.path.normpath(path)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether the names of the folders and the file of a path match a pattern."""
    if not parts:
        return not names
    if parts[0] == ANY:
        return _fits(names, parts[1:]) or (bool(names) and _fits(names[1:], parts))
    if not names or not (names[0] == parts[0] or fnmatch(names[0], parts[0])):
        return False
    return _fits(names[1:], parts[1:])


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder or os.curdir)
    except OSError:
        return []


def _is_wild(part: str) -> bool:
    """Return whether a part of a path has only wildcards and is always a pattern."""
    return bool(part) and set(part) <= set("*?")
