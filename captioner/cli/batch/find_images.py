"""Expand the paths of a command line to images."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from captioner.cli.batch.globs import expand_pattern, is_pattern, list_folder, walk_files
from captioner.cli.output import escape_path, list_paths
from captioner.errors import DataError
from captioner.extras import install_command
from captioner.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES, RAW_SUFFIXES

STDIN = "-"
SHEET = ".attention.png"
"""The end of the name of an attention sheet, which --attention writes."""
SHEET_KEY = "captioner-image"
"""The key of the PNG text in which a sheet names its image."""


@dataclass
class Inputs:
    """The images of a run, and the other files in the given folders and lists."""

    paths: list[str]
    problems: dict[str, str] = field(default_factory=dict)
    """The problem of each path that is not an image: a folder without images, or no match."""
    remarks: list[str] = field(default_factory=list)
    """Messages about skipped files, one line each."""

    def describe_error(self, path: str, error: object) -> str:
        """Return the problem of a path, or else the error; empty if there is no error."""
        if not error:
            return ""
        problem = self.problems.get(path)
        return f"{escape_path(path)}: {problem}" if problem else str(error)


def find_inputs(
    paths: Sequence[str],
    *,
    recursive: bool = False,
    exclude: Collection[str] = (),
    sheets: str | None = None,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
) -> Inputs:
    """Expand folders to their images, patterns to what they match and @lists to their lines.

    A file in a folder is an image if its suffix says so. Hidden files and folders are skipped.
    Links to folders are not followed: they may form a loop, and would give images twice. A path
    without an image is kept, so that the run reports it by its name.

    Args:
        paths: Images, folders, patterns, - (stdin) and @lists.
        recursive: Include images in subfolders.
        exclude: Paths that the run writes. Files at or below them are not inputs, nor are
            `photo.txt`, `photo.xmp` and `photo.attention.png` beside a `photo.jpg`.
        sheets: The folder of --attention. Attention sheets at or below it are not inputs.
        suffixes: The suffixes of the inputs in a folder, those of images or recordings.

    Returns:
        The images in the order of the paths; in a folder, in the order of their names.

    Raises:
        DataError: A list cannot be read or names nothing, or no input is left.
    """
    written = [os.path.realpath(path) for path in exclude]
    finder = _Finder(recursive, written, sheets, suffixes)
    named = [image for path in paths for image in finder.find(path)]
    kept = [path for path in named if not finder.is_written(path)]
    if named and not kept:
        problem = f"all inputs are files that this run writes ({', '.join(exclude)})"
        raise DataError(f"{', '.join(paths)}: {problem}; choose another output folder")
    images = _without_written(kept)
    return Inputs(images, finder.problems, list(finder.remarks(images)))


class _Finder:
    """Expands paths and records the files that are not inputs."""

    def __init__(
        self,
        recursive: bool,
        written: Sequence[str],
        sheets: str | None,
        suffixes: tuple[str, ...],
    ) -> None:
        self.recursive, self.written, self.suffixes = recursive, written, suffixes
        self.sheets = [os.path.realpath(sheets)] if sheets else []
        self.problems: dict[str, str] = {}
        self.others: list[str] = []
        """Files in folders with other suffixes."""
        self.hidden: list[str] = []
        self.folders: list[str] = []
        """Folders that were not searched without `recursive`."""
        self.blank: Counter[str] = Counter()
        """Number of blank lines in each list."""

    def find(self, path: str) -> Iterator[str]:
        """Yield the images of one path of the command line, or the path itself."""
        if is_pattern(path):
            matches = expand_pattern(path)
            if not matches:
                self.problems[path] = "matches no file"
                yield path
            for match in matches:
                yield from self.in_folder(match)
        elif path.startswith("@") and not os.path.lexists(path):
            for line in self.read_list(path[1:]):
                yield from self.in_folder(line)
        else:
            yield from self.in_folder(path)

    def in_folder(self, path: str) -> list[str]:
        """Return the images of a folder, or the path itself if it is not a folder or has none."""
        if path == STDIN or not os.path.isdir(path):
            return [path]
        folders: list[str] = []
        hidden: list[str] = []
        names = walk_files(path, hidden) if self.recursive else list_folder(path, folders, hidden)
        files = [x for x in sorted(names) if not (self.is_written(x) or _is_sheet(x))]
        unreadable = {x for x in files if os.path.isdir(x)}
        self.problems |= dict.fromkeys(unreadable, "is a folder that cannot be read")
        images = [x for x in files if x.lower().endswith(self.suffixes) or x in unreadable]
        others = [x for x in files if not (x.lower().endswith(self.suffixes) or x in unreadable)]
        self.hidden += [x for x in hidden if x.lower().endswith(self.suffixes)]
        folders = [x for x in sorted(folders) if not self.is_written(x)]
        if images:
            self.others += others
            self.folders += folders
            return images
        self.problems[path] = self.explain_empty(folders, others)
        return [path]

    def explain_empty(self, folders: Sequence[str], others: Sequence[str]) -> str:
        """Return a message that a folder has no images, with its other files."""
        problem = "has no inputs" if self.suffixes[-1] in AUDIO_SUFFIXES else "has no images"
        if folders:
            problem += f", but {_count(folders, 'folder')}; --recursive looks into them"
        others, raw_files = self.split_unread(others)
        if raw_files:
            problem += f"; {_explain_raw(raw_files)}"
        if others:
            names = list_paths([os.path.basename(path) for path in others])
            problem += f"; {_count(others, 'file')} with other suffixes ({names})"
        return problem

    def split_unread(self, others: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return files with other suffixes, and apart from them RAW files if LibRaw is missing."""
        is_read = ".jpg" not in self.suffixes or ".dng" in self.suffixes
        raw_files = [x for x in others if x.lower().endswith(RAW_SUFFIXES) and not is_read]
        return [x for x in others if x not in set(raw_files)], raw_files

    def read_list(self, name: str) -> list[str]:
        """Return the paths in a list, or on stdin; they are relative to the working folder."""
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
            raise DataError(f"{name}: the list names nothing; expected one path per line")
        self.blank[name] += len(lines) - len(paths)
        return [os.path.join(os.curdir, path) if path == STDIN else path for path in paths]

    def is_written(self, path: str) -> bool:
        """Return whether the run writes a path, or a folder above it."""
        places = [*self.written, *self.sheets] if path.lower().endswith(SHEET) else self.written
        if path == STDIN or not places:
            return False
        real = os.path.realpath(path)
        return any(real == place or real.startswith(place + os.sep) for place in places)

    def remarks(self, images: Sequence[str]) -> Iterator[str]:
        """Yield messages about the skipped files of a run over these images."""
        others = _without_written([*images, *self.others])[len(images) :]
        others, raw_files = self.split_unread(list(dict.fromkeys(others)))
        if raw_files:
            yield f"skipped {_explain_raw(raw_files)} ({list_paths(raw_files)})"
        if others:
            yield f"skipped {_count(others, 'file')} with other suffixes ({list_paths(others)})"
        if hidden := list(dict.fromkeys(self.hidden)):
            yield f"skipped {_count(hidden, 'hidden image')} ({list_paths(hidden)})"
        if folders := list(dict.fromkeys(self.folders)):
            names, them = list_paths(folders), "them" if len(folders) > 1 else "it"
            yield f"skipped {_count(folders, 'folder')} ({names}); --recursive takes {them}"
        for name, count in self.blank.items():
            if count:
                yield f"{escape_path(name)}: skipped {count} blank line{'s' * (count > 1)}"


def _is_sheet(path: str) -> bool:
    """Return whether a file is an attention sheet, by its name and its PNG text."""
    if not path.lower().endswith(SHEET):
        return False
    try:
        with open(path, "rb") as file:
            return SHEET_KEY.encode() in file.read(1024)
    except OSError:
        return False


def _explain_raw(paths: Sequence[str]) -> str:
    """Return the number of RAW files that are not read, and the command that changes that."""
    return f"{_count(paths, 'RAW file')}, which need rawpy; {install_command('raw')}"


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def _without_written(paths: list[str]) -> list[str]:
    """Return the paths without the texts, XMP and sheets beside the images."""
    beside = {path for path in paths if path.lower().endswith((".txt", ".xmp", SHEET))}
    if not beside:
        return paths
    known = IMAGE_SUFFIXES + RAW_SUFFIXES + AUDIO_SUFFIXES
    images = {path for path in paths if path.lower().endswith(known)} - beside
    images |= {os.path.splitext(path)[0] for path in images}  # photo.txt and photo.jpg.txt
    return [path for path in paths if path not in beside or _image_of(path) not in images]


def _image_of(path: str) -> str:
    """Return the image of a text or of a sheet, with or without its suffix."""
    return path[: -len(SHEET)] if path.lower().endswith(SHEET) else os.path.splitext(path)[0]
