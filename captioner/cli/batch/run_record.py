"""The settings that the rows of a file were made with: FILE.meta.json, beside the rows.

They are in a file of their own because CSV has no place for them.
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
"""The key of the folder that image paths in the rows are relative to. Its value is a list of the
path relative to the folder of FILE and the absolute path: one of them is right after FILE alone, or
FILE with the images, was moved or copied."""

ORIGINS = "origins"
"""The key of what made the rows: a list with the version of captioner, and the name and revision of
each checkpoint, of the first run and of each later one that differs. `date` is the time at which
that run began, and `rows` the number of rows that the file had then. --resume does not compare
them."""


def meta_path(path: str) -> str:
    """Return the path of the file with the settings of a file of rows."""
    return f"{path}.meta.json"


def write_meta(path: str, settings: Mapping[str, Any], base: str) -> None:
    """Write the settings of a file of rows, with their origins, if these are known.

    `base` is the folder that its paths are relative to.
    """
    bases = [os.path.abspath(base)]
    with contextlib.suppress(ValueError):  # another drive of Windows
        bases.insert(0, os.path.relpath(base, _folder_of(path)))
    data = json.dumps({**settings, BASE: bases}, indent=2).encode() + b"\n"
    replace_file(meta_path(path), data)


def read_meta(path: str, settings: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
    """Return the folder that the image paths of the rows are relative to, and their origins.

    The folder is None if the file does not name one that exists.

    Raises:
        DataError: The rows were made with other settings, or their settings cannot be read.
    """
    try:
        with open(meta_path(path), encoding="utf-8") as file:
            old = dict(json.load(file))
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{path}: the settings of its rows are unknown ({meta_path(path)} is missing or"
            " damaged); give --output another name"
        ) from None
    bases, origins = old.pop(BASE, None), old.pop(ORIGINS, None)
    new = json.loads(json.dumps(settings))
    new.pop(ORIGINS, None)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            label = "tta" if name == "looks" else name  # the key is that of earlier versions
            values = f"{label} {old.get(name)!r}, not {new.get(name)!r}"
            if name == "checkpoint":  # the values are digests
                values = _compare_checkpoints(origins, settings.get(ORIGINS))
            hint = "give the same options, or --output another name"
            raise DataError(f"{path}: its rows were made with {values}; {hint}")
    folder = _existing(bases if isinstance(bases, list) else [], _folder_of(path))
    return folder, origins if isinstance(origins, list) else []


def _compare_checkpoints(old: Any, new: Any) -> str:
    """Return what differs between the checkpoints of earlier rows and those of this run."""
    first, second = _checkpoint_names(old), _checkpoint_names(new)
    if not first or not second:
        return "another checkpoint"
    if first == second:
        return f"an earlier content of the checkpoint {first}"
    return f"the checkpoint {first}, not {second}"


def _checkpoint_names(origins: Any) -> str:
    """Return the checkpoints of the last origin; empty if they are unknown."""
    try:
        models = [(model["name"], model["revision"]) for model in origins[-1]["checkpoint"]]
    except (IndexError, KeyError, TypeError):
        return ""
    return " + ".join(f"{name}@{commit}" if commit else str(name) for name, commit in models)


def add_origin(settings: Mapping[str, Any], origins: Sequence[Any], rows: int) -> dict[str, Any]:
    """Return the settings with the origins of the earlier rows and, if it differs, of the new ones.

    `rows` is the number of earlier rows.
    """
    new = [{"rows": rows} | origin for origin in settings.get(ORIGINS, ())]
    last = origins[-1] if origins else None
    if isinstance(last, dict) and new and _identify(new[-1]) == _identify(last):
        new = []
    return {k: v for k, v in settings.items() if k != ORIGINS} | {ORIGINS: [*origins, *new]}


def _identify(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return an origin without what differs between runs of one model."""
    return {name: value for name, value in origin.items() if name not in ("rows", "date")}


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


def make_row_names(
    base: str, rows: Iterable[str], to_text: Callable[[str], str]
) -> Callable[[str], str]:
    """Return a function from the path of an image to its name in the row.

    A relative path in a row is relative to `base`, the working folder of the first run. In another
    working folder, paths are converted. `to_text` turns a path into valid Unicode.
    """
    here = os.path.realpath(os.curdir)
    if os.path.realpath(base) == here:
        return to_text
    known = {os.path.normpath(path): path for path in rows if path != STDIN}

    def name(path: str) -> str:
        if path == STDIN or os.path.isabs(path):
            return to_text(path)
        relative = to_text(os.path.relpath(os.path.join(here, path), base))
        return known.get(relative, relative)  # The known name may begin with ./

    return name
