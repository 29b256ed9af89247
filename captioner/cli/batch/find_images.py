"""From what is named on a command line to the images that are meant."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from captioner.cli.batch.globs import expand, is_pattern, list_folder, walk
from captioner.cli.output import listed, printable
from captioner.data.formats.io import IMAGE_SUFFIXES
from captioner.errors import DataError

STDIN = "-"
SHEET = ".attention.png"
"""What the name of a sheet of `--attention` ends in."""
SHEET_KEY = "captioner-image"
"""The text in the PNG of a sheet that says which image it is of."""


@dataclass
class Inputs:
    """The images of a run, and what of the named folders and lists is none of them."""

    paths: list[str]
    problems: dict[str, str] = field(default_factory=dict)
    """Why a path of `paths` is no image: a folder without images, or a pattern without match."""
    remarks: list[str] = field(default_factory=list)
    """What was skipped, a line each."""

    def error_of(self, path: str, error: object) -> str:
        """Return what is wrong with a path: its problem, or else the error; empty without error."""
        if not error:
            return ""
        problem = self.problems.get(path)
        return f"{printable(path)}: {problem}" if problem else str(error)


def find_images(
    paths: Sequence[str], *, recursive: bool = False, leave_out: Collection[str] = ()
) -> list[str]:
    """Return the images of `find_inputs`."""
    return find_inputs(paths, recursive=recursive, leave_out=leave_out).paths


def find_inputs(
    paths: Sequence[str],
    *,
    recursive: bool = False,
    leave_out: Collection[str] = (),
    sheets: str | None = None,
) -> Inputs:
    """Expand folders to their images, globs to what matches, @lists to their lines.

    In a folder, images are told by their suffix; with `recursive`, also those in the folders below
    it. Hidden files and folders are left out, and links to folders are not followed: they may form
    a loop, and would give images twice. A path that leads to no image is kept, to fail by its name
    while the others are captioned.

    Args:
        leave_out: What the run writes. Files at or below these paths are no inputs, nor are
            `photo.txt` and `photo.attention.png` beside a `photo.jpg`.
        sheets: The folder of `--attention`; sheets at or below it are no inputs.

    Raises:
        DataError: A list cannot be read or names nothing, or no input is left.
    """
    finder = _Finder(recursive, [os.path.realpath(path) for path in leave_out], sheets)
    named = [image for path in paths for image in finder.find(path)]
    kept = [path for path in named if not finder.is_written(path)]
    if named and not kept:
        what = ", ".join(leave_out)
        raise DataError(f"{', '.join(paths)}: all of it lies in what this run writes ({what})")
    images = _without_written(kept)
    return Inputs(images, finder.problems, list(finder.remarks(images)))


class _Finder:
    """Expands paths, and remembers what is no input."""

    def __init__(self, recursive: bool, written: Sequence[str], sheets: str | None) -> None:
        self.recursive, self.written = recursive, written
        self.sheets = [os.path.realpath(sheets)] if sheets else []
        self.problems: dict[str, str] = {}
        self.others: list[str] = []
        """Files of folders whose suffix is no image's."""
        self.hidden: list[str] = []
        self.folders: list[str] = []
        """Folders that `recursive` would have searched."""
        self.blank: Counter[str] = Counter()
        """Blank lines of each list."""

    def find(self, path: str) -> Iterator[str]:
        """Yield the images that one path of the command line means, or the path itself."""
        if is_pattern(path):
            matches = expand(path)
            if not matches:
                self.problems[path] = "matches no file"
                yield path
            for match in matches:
                yield from self.in_folder(match)
        elif path.startswith("@") and not os.path.lexists(path):
            for line in self.lines(path[1:]):
                yield from self.in_folder(line)
        else:
            yield from self.in_folder(path)

    def in_folder(self, path: str) -> list[str]:
        """Return the images of a folder, or the path itself if it is no folder or has none."""
        if path == STDIN or not os.path.isdir(path):
            return [path]
        folders: list[str] = []
        hidden: list[str] = []
        files = walk(path, hidden) if self.recursive else list_folder(path, folders, hidden)
        files = [x for x in sorted(files) if not (self.is_written(x) or _is_sheet(x))]
        unreadable = {x for x in files if os.path.isdir(x)}
        self.problems |= dict.fromkeys(unreadable, "is a folder that cannot be read")
        images = [x for x in files if x.lower().endswith(IMAGE_SUFFIXES) or x in unreadable]
        others = [x for x in files if not (x.lower().endswith(IMAGE_SUFFIXES) or x in unreadable)]
        self.hidden += [x for x in hidden if x.lower().endswith(IMAGE_SUFFIXES)]
        folders = [x for x in sorted(folders) if not self.is_written(x)]
        if images:
            self.others += others
            self.folders += folders
            return images
        self.problems[path] = self.why_empty(folders, others)
        return [path]

    def why_empty(self, folders: Sequence[str], others: Sequence[str]) -> str:
        """Return what is in a folder without images."""
        problem = "has no images"
        if folders:
            problem += f", but {_count(folders, 'folder')}; --recursive looks into them"
        if others:
            problem += f"; {_count(others, 'file')} with other suffixes ({_base_names(others)})"
        return problem

    def lines(self, name: str) -> list[str]:
        """Return the paths in a file, or in stdin; they are relative to the working folder."""
        try:
            if name == STDIN:
                data = sys.stdin.buffer.read()
            else:
                with open(name, "rb") as file:
                    data = file.read()
        except OSError as error:
            raise DataError(f"{name}: the list cannot be read ({error.strerror})") from None
        lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
        paths = [os.fsdecode(line) for line in lines if line.strip()]
        if not paths:
            raise DataError(f"{name}: the list names nothing; expected a path a line")
        self.blank[name] += len(lines) - len(paths)
        return [os.path.join(os.curdir, path) if path == STDIN else path for path in paths]

    def is_written(self, path: str) -> bool:
        """Return whether a path lies in what the run writes."""
        places = [*self.written, *self.sheets] if path.lower().endswith(SHEET) else self.written
        if path == STDIN or not places:
            return False
        real = os.path.realpath(path)
        return any(real == place or real.startswith(place + os.sep) for place in places)

    def remarks(self, images: Sequence[str]) -> Iterator[str]:
        """Yield what was skipped beside these images."""
        others = _without_written([*images, *self.others])[len(images) :]
        if others := list(dict.fromkeys(others)):
            yield f"skipped {_count(others, 'file')} with other suffixes ({listed(others)})"
        if hidden := list(dict.fromkeys(self.hidden)):
            yield f"skipped {_count(hidden, 'hidden image')} ({listed(hidden)})"
        if folders := list(dict.fromkeys(self.folders)):
            takes = "takes them" if len(folders) > 1 else "takes it"
            yield f"skipped {_count(folders, 'folder')} ({listed(folders)}); --recursive {takes}"
        for name, count in self.blank.items():
            if count:
                yield f"{printable(name)}: skipped {count} blank line{'s' * (count > 1)}"


def _is_sheet(path: str) -> bool:
    """Return whether a file is a sheet of `--attention`, by its name and what it states."""
    if not path.lower().endswith(SHEET):
        return False
    try:
        with open(path, "rb") as file:
            return SHEET_KEY.encode() in file.read(1024)
    except OSError:
        return False


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def _base_names(paths: Iterable[str]) -> str:
    return listed([os.path.basename(path) for path in paths])


def _without_written(paths: list[str]) -> list[str]:
    """Return all but the texts and the sheets that earlier runs have put beside the images."""
    beside = {path for path in paths if path.lower().endswith((".txt", SHEET))}
    if not beside:
        return paths
    images = {
        path for path in paths if path.lower().endswith(IMAGE_SUFFIXES) and path not in beside
    }
    images |= {os.path.splitext(path)[0] for path in images}  # photo.txt and photo.jpg.txt
    return [path for path in paths if path not in beside or _image_of(path) not in images]


def _image_of(path: str) -> str:
    """Return the image that a text or a sheet is of, with or without its suffix."""
    return path[: -len(SHEET)] if path.lower().endswith(SHEET) else os.path.splitext(path)[0]
