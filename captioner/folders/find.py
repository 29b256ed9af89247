"""From what is named on a command line to the images that are meant."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatch

from captioner.errors import DataError

# fmt: off
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".ico", ".heic", ".heif",
)
# fmt: on
STDIN = "-"
SHEET = ".attention.png"
"""What the name of a sheet of `--attention` ends in."""


def find_images(
    paths: Sequence[str], *, recursive: bool = False, leave_out: Collection[str] = ()
) -> list[str]:
    """Folders to their images, globs to what matches, @lists to their lines, the rest as it is.

    In a folder, images are told by suffix; with `recursive`, also in those below it. Hidden files
    and folders are left out, and links to folders are not followed: a loop of them has no end,
    and anything else would come twice. What leads to no image is kept: it fails by name where the
    others are captioned. What lies at or below a path of `leave_out` is none of the inputs (a run
    names what it writes), nor are `photo.txt` and `photo.attention.png` beside a `photo.jpg`.

    Raises DataError for a list that cannot be read or names nothing, and where nothing is left.
    """
    named = list(_named(paths, recursive))
    written = [os.path.realpath(path) for path in leave_out]
    found = [path for path in named if not _is_in(path, written)] if written else named
    if named and not found:
        what = ", ".join(leave_out)
        raise DataError(f"{', '.join(paths)}: all of it lies in what this run writes ({what})")
    return _without_sidecars(found)


def _named(paths: Sequence[str], recursive: bool) -> Iterator[str]:
    for path in paths:
        found: list[str] = []
        if path == STDIN or os.path.lexists(path):
            found = _in_folder(path, recursive)
        elif path.startswith("@"):
            found = [image for line in _lines(path[1:]) for image in _in_folder(line, recursive)]
        elif "**" in path:
            found = _below(path)
        elif glob.has_magic(path):
            found = [x for match in sorted(glob.glob(path)) for x in _in_folder(match, recursive)]
        yield from found or [path]


def _in_folder(path: str, recursive: bool) -> list[str]:
    """The images of a folder, or the path itself."""
    if not os.path.isdir(path):
        return [path]
    found = _walk(path) if recursive else _files(path, [])
    return sorted(x for x in found if x.lower().endswith(SUFFIXES) or os.path.isdir(x)) or [path]


def _walk(folder: str) -> Iterator[str]:
    """Every file below a folder; a folder that cannot be read is named in their place."""
    waiting = [folder]
    while waiting:
        yield from _files(waiting.pop(), waiting)


def _files(folder: str, folders: list[str]) -> Iterator[str]:
    """The files of a folder, hidden ones left out; the folders in it are added to `folders`."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not os.path.isdir(entry.path):  # and entry.is_dir() raises for a loop
                    yield entry.path
    except OSError:
        yield folder


def _below(pattern: str) -> list[str]:
    """What a pattern with ** matches: files only, and the links to folders are not followed."""
    parts = pattern.replace(os.altsep or os.sep, os.sep).split(os.sep)
    first = next(i for i, part in enumerate(parts) if "**" in part)
    before, rest = os.sep.join(parts[:first]), parts[first:]
    roots = glob.glob(before) if glob.has_magic(before) else [before or os.curdir]
    if not before and pattern.startswith(os.sep):
        roots = [os.sep]
    found = []
    for root in roots:
        for path in _walk(root):
            names = os.path.relpath(path, root).split(os.sep)
            if _matches(names, rest) or os.path.isdir(path):
                found.append(path if before or root == os.sep else os.path.normpath(path))
    return sorted(found)


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the names on the way to a file fit a pattern, in which ** is any number of them."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return _matches(names, pattern[1:]) or (bool(names) and _matches(names[1:], pattern))
    return bool(names) and fnmatch(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _lines(name: str) -> list[str]:
    """The paths in a file, or in stdin, a line each; they are relative to the working folder."""
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                data = file.read()
    except OSError as error:
        raise DataError(f"{name}: the list cannot be read ({error.strerror})") from None
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    found = [os.fsdecode(line) for line in lines if line.strip()]
    found = [os.path.join(os.curdir, path) if path == STDIN else path for path in found]
    if not found:
        raise DataError(f"{name}: the list names nothing; expected a path a line")
    return found


def _is_in(path: str, places: Sequence[str]) -> bool:
    if path == STDIN:
        return False
    real = os.path.realpath(path)
    return any(real == place or real.startswith(place + os.sep) for place in places)


def _without_sidecars(paths: list[str]) -> list[str]:
    """All but the texts and the sheets that earlier runs have put beside the images."""
    beside = {path for path in paths if path.lower().endswith((".txt", SHEET))}
    if not beside:
        return paths
    images = (path for path in paths if path.lower().endswith(SUFFIXES) and path not in beside)
    stems = {os.path.splitext(path)[0] for path in images}
    return [p for p in paths if p not in beside or _stem(p) not in stems]


def _stem(path: str) -> str:
    return path[: -len(SHEET)] if path.lower().endswith(SHEET) else os.path.splitext(path)[0]
