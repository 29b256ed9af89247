"""How the rows of a file were made: FILE.meta.json, beside the rows.

It is a file of its own because a CSV has no room for it, and so that the rows hold nothing but what
other programs want of them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from captioner.cli.batch.find_images import STDIN
from captioner.errors import DataError
from captioner.files import replace_file

BASE = "base"
"""The key of the folder that the image paths of the rows are relative to, as seen from the folder
of FILE and as an absolute path: one of them holds after FILE, or all, was moved or copied."""


def meta_of(path: str) -> str:
    """Return the path of the file that states how the rows of another were made."""
    return f"{path}.meta.json"


def write_meta(path: str, settings: Mapping[str, Any], base: str) -> None:
    """Write the settings of a file of rows, and the folder that its paths are relative to."""
    bases = [os.path.abspath(base)]
    with contextlib.suppress(ValueError):  # another drive of Windows
        bases.insert(0, os.path.relpath(base, _folder_of(path)))
    data = json.dumps({**settings, BASE: bases}, indent=2).encode() + b"\n"
    replace_file(meta_of(path), data)


def read_meta(path: str, settings: Mapping[str, Any]) -> str | None:
    """Return the folder that the image paths of the rows are relative to.

    It is None if the file does not state it, or if no such folder is there.

    Raises:
        DataError: The rows were made under other settings, or it is unknown under which.
    """
    try:
        with open(meta_of(path), encoding="utf-8") as file:
            old = dict(json.load(file))
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{path}: nothing tells how its rows were made ({meta_of(path)} is missing or torn);"
            " give --output another name"
        ) from None
    bases = old.pop(BASE, None)
    new = json.loads(json.dumps(settings))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise DataError(
                f"{path}: its rows were made with {name} {old.get(name)!r}, not"
                f" {new.get(name)!r}; give the same options, or --output another name"
            )
    return _existing(bases if isinstance(bases, list) else [], _folder_of(path))


def _existing(bases: Sequence[Any], folder: str) -> str | None:
    """Return the working folder if it is one of the folders, or else the first that exists."""
    here = os.path.realpath(os.curdir)
    paths = [os.path.join(folder, base) for base in bases if isinstance(base, str)]
    paths = [os.path.normpath(path) for path in paths if os.path.isdir(path)]
    if any(os.path.realpath(path) == here for path in paths):
        return here
    return paths[0] if paths else None


def _folder_of(path: str) -> str:
    return os.path.realpath(os.path.dirname(path))


def relative_to(
    base: str, rows: Iterable[str], shown: Callable[[str], str]
) -> Callable[[str], str]:
    """Return a function from the path of an image to the path that its row has.

    A relative path names another file in another working folder: it is made relative to `base`, the
    folder in which the first run was started.

    Args:
        rows: The paths that have a row.
        shown: From a path to text.
    """
    here = os.path.realpath(os.curdir)
    if os.path.realpath(base) == here:
        return shown
    known = {os.path.normpath(path): path for path in rows if path != STDIN}

    def name(path: str) -> str:
        if path == STDIN or os.path.isabs(path):
            return shown(path)
        relative = shown(os.path.relpath(os.path.join(here, path), base))
        return known.get(relative, relative)  # which may begin with ./

    return name
