"""What every reader needs: the Example, careful text and CSV input, and finding the images."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from captioner.data.report import BAD_ROW, UNCLOSED_QUOTE, Report
from captioner.errors import DataError


@dataclass(frozen=True)
class Source:
    """What a reader is given: the files it found, where to look for images, where to complain."""

    root: Path
    files: tuple[Path, ...]
    images: Path | None
    report: Report


_SPLITS = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy: COCO val images that his split gives back to training
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
}
SPLIT_NAMES = frozenset(_SPLITS)

# fmt: off
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".ico", ".heic", ".heif",
)
# fmt: on

# Names under which the usual archives unpack their photographs (compared in lower case).
_IMAGE_FOLDERS = (
    "flicker8k_dataset",  # the spelling of the official archive
    "flickr8k_dataset",
    "flickr8k_images",
    "flickr30k_images",
    "flickr30k-images",
    "images",
    "image",
    "imgs",
)


def canonical_split(name: str) -> str:
    """Maps a split's name to train, val or test; a name that is none of these stays itself."""
    key = name.strip().lower()
    return _SPLITS.get(key, key or "train")


def split_of_file(path: Path) -> str | None:
    """The split that a file's name states (`val.jsonl`, `train.csv`), or None."""
    return _SPLITS.get(path.stem.lower())


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Opens a UTF-8 text, with or without a BOM; raises DataError if it cannot be opened.

    Bytes that are not UTF-8 come out as lone surrogates, so that one bad row is reported as such
    by `readers` and does not end the reading of all others.
    """
    try:
        with open(path, "rb") as raw:
            start = raw.read(2)
        file = open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if start in (b"\xff\xfe", b"\xfe\xff"):
        file.close()
        raise DataError(f"{path}: is UTF-16 text, expected UTF-8; save it as UTF-8")
    with file:
        yield file


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields `(file:line, text)` for every line that is not blank, without its line end."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            # newline="" keeps "\r\n"; only real line ends go, not U+2028 inside a caption.
            line = line.rstrip("\r\n")
            if line.strip():
                yield f"{path.name}:{number}", line


def read_json(
    path: Path, *, kind: type = dict, hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Reads a JSON object, or a list with `kind=list`; `hook` may replace any object within.

    Raises DataError where the file is torn or holds something else.
    """
    with open_text(path) as file:
        try:
            document = json.load(file, object_hook=hook)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: is not complete JSON ({error}); download or write it again"
            ) from error
    if not isinstance(document, kind):
        expected = "list" if kind is list else "object"
        found = type(document).__name__
        raise DataError(f"{path}: holds a {found}, expected a JSON {expected}")
    return document


def list_in(document: dict[str, Any], key: str, path: Path, *, kind: str) -> list[Any]:
    """The list under a key of a file's JSON object; DataError where it is no `kind` file."""
    rows = document.get(key)
    if not isinstance(rows, list):
        found = ", ".join(sorted(document)[:8]) or "nothing"
        raise DataError(f'{path}: has no list "{key}" (it holds: {found}); is it a {kind} file?')
    return rows


def read_head(path: Path, *, size: int = 4096) -> str:
    """The first characters of a file, to tell its format by; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size).decode("utf-8-sig", "replace")
    except OSError:
        return ""


_SUFFIX = "|".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
# A later line of one quoted field that names an image of its own is a row that the quote consumed.
_IMAGE_IN_LINE = re.compile(
    rf"(?:^|[,;|])\s*\"?[^\s,;|\"][^,;|\"]*\.(?:{_SUFFIX})\"?\s*(?:[,;|]|$)", re.IGNORECASE
)


def read_csv(
    path: Path, report: Report, *, delimiter: str, row: re.Pattern[str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Yield `(file:line, fields)` for each row of a CSV, header included, blank rows left out.

    With tabs as delimiters, a quotation mark is an ordinary character. Otherwise quoted delimiters,
    quotation marks and line breaks are understood. Rows with broken quoting are reported and left
    out: with a quotation mark that is never closed, or is closed by one of a later row, all rows
    from the first to that one. A line inside quotes is a row of its own if it matches `row`, by
    default if it names an image file.
    """
    pattern = row or _IMAGE_IN_LINE
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with open_text(path) as file:
        lines = _Recorded(file)
        rows = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
        while True:
            start = rows.line_num + 1
            lines.recorded.clear()
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error:
                fields = None
            consumed = [line for line in lines.recorded if line.strip()]
            if fields is None or any(pattern.search(line) for line in consumed[1:]):
                kind = UNCLOSED_QUOTE if len(consumed) > 1 else BAD_ROW
                where = f"{path.name}:{start}"
                if len(consumed) > 1:
                    where += f"-{rows.line_num}, {len(consumed)} rows"
                report.add(kind, where, rows=len(consumed))
            elif any(field.strip() for field in fields):
                yield f"{path.name}:{start}", fields


class _Recorded:
    """The lines of a file, kept until `recorded` is cleared."""

    def __init__(self, file: TextIO) -> None:
        self._file, self.recorded = file, list[str]()

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.recorded.append(line)
            yield line


def list_files(folder: Path) -> list[Path]:
    """Return the files directly in a folder, by name, without hidden ones; none if unreadable."""
    try:
        files = (path for path in folder.iterdir() if not path.name.startswith("."))
        return sorted(path for path in files if path.is_file())
    except OSError:
        return []


def walk_files(root: Path) -> Iterator[Path]:
    """Yield the files in a folder and in those below it, in a fixed order.

    Hidden files and folders are left out, and links to folders are not followed.
    """
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


class FolderIndex:
    """Answers "is there such a file?" with one directory listing per folder.

    COCO keeps 120,000 images in a folder: one `scandir` takes a fraction of what as many `stat`
    calls take, above all over a network.
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def holds(self, path: str) -> bool:
        """Whether the file exists; a folder is listed once."""
        folder, name = os.path.split(path)
        if folder not in self._names:
            self._names[folder] = _names_in(folder)
        return name in self._names[folder]


def _names_in(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if not entry.is_dir())
    except (OSError, ValueError):  # ValueError: a NUL in a name from a broken row
        return frozenset()


def find_images(source: Source, names: Sequence[str], *, folders: Sequence[str] = ()) -> Path:
    """Finds the folder below which the images `names` (relative paths) lie.

    As `locate_images`; where none of a sample of the names is found, it is the first likely folder
    that exists, and the missing images are then reported one by one.
    """
    return locate_images(source, names, folders=folders) or _likely(source, folders)[0]


def locate_images(
    source: Source, names: Sequence[str], *, folders: Sequence[str] = ()
) -> Path | None:
    """The first likely folder that holds any of a sample of the names, or None.

    Likely are `source.images` if it is given, otherwise the folders of the annotation file and of
    the data set, and in them `folders` and the usual names, once nested too (some archives unpack
    into `Images/Images`).
    """
    sample = names[:: max(1, len(names) // 16)]
    for folder in _likely(source, folders):
        if any(_is_file(folder, name) for name in sample):
            return folder
    return None


def _likely(source: Source, folders: Sequence[str]) -> list[Path]:
    wanted = (*(name.lower() for name in folders), *_IMAGE_FOLDERS)
    if source.images is not None:
        return [source.images, *_below(source.images, wanted)]
    beside = source.files[0].parent
    bases = list(dict.fromkeys([source.root, beside, beside.parent]))
    named = [folder for base in bases for folder in _below(base, wanted)]
    nested = [inner for folder in named for inner in _below(folder, wanted)]
    return [*named, *nested, *bases]


def _below(base: Path, wanted: Sequence[str]) -> list[Path]:
    """The existing folders `base/name`, compared in lower case, in the order of `wanted`."""
    try:
        with os.scandir(base) as entries:
            present = {entry.name.lower(): entry.name for entry in entries if entry.is_dir()}
    except OSError:
        return []
    found = [base / present[name] for name in wanted if name in present]
    deeper = [base / name for name in wanted if "/" in name and (base / name).is_dir()]
    return found + deeper


def _is_file(folder: Path, name: str) -> bool:
    try:
        return os.path.isfile(folder / name)
    except ValueError:  # a NUL in the name
        return False
