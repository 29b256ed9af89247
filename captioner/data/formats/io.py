"""Text, CSV and JSON input shared by the readers.

A broken row is reported and skipped. A file that cannot be read as a whole raises DataError.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from captioner.data.report import BAD_ROW, UNCLOSED_QUOTE, Report
from captioner.errors import DataError
from captioner.files import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from captioner.data.shards.shard_cache import ShardCache

_SUFFIX = "|".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
# A quoted field with an image file name on a later line: a missing closing quotation mark has
# merged two rows.
_IMAGE_IN_LINE = re.compile(
    rf"(?:^|[,;|])\s*\"?[^\s,;|\"][^,;|\"]*\.(?:{_SUFFIX})\"?\s*(?:[,;|]|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Source:
    """The input of a reader."""

    root: Path
    """Folder of the data set."""
    files: tuple[Path, ...]
    """Annotation files, as the `find_*` function of the format returned them."""
    images: Path | None
    """Folder of the images if the user has given one."""
    report: Report
    """Receives the rows that cannot be used."""
    phrases: tuple[str, ...] = ()
    """Templates of the captions of labels."""
    shards: tuple[str, ...] = ()
    """Paths or URLs of shards if the user has given a URL or a pattern, in the place of `files`."""
    cache: ShardCache | None = None
    """Local cache of shards."""
    keep_leaks: bool = False
    """Whether rows of an image in several splits are kept in each; otherwise in the first."""


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file, with or without a byte order mark.

    Bytes that are not UTF-8 become lone surrogates, so that a single row is reported as bad text
    and the other rows are still read.

    Raises:
        DataError: The file cannot be opened or is UTF-16.
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
    """Yield `(file:line, text)` for each line that is not blank, without its line ending."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            # str.splitlines would also split at U+2028 inside a caption.
            line = line.rstrip("\r\n")
            if line.strip():
                yield f"{path.name}:{number}", line


def read_json(
    path: Path, *, kind: type = dict, hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Read a JSON document of a kind, dict or list, with `hook` as the object hook of `json.load`.

    Raises:
        DataError: The file is not complete JSON or holds another type.
    """
    with open_text(path) as file:
        try:
            document = json.load(file, object_hook=hook)
        except (ValueError, RecursionError) as error:
            detail = f"is not complete JSON ({error})"
            raise DataError(f"{path}: {detail}; download or write it again") from error
    if not isinstance(document, kind):
        expected = "list" if kind is list else "object"
        actual = type(document).__name__
        raise DataError(f"{path}: holds a {actual}, expected a JSON {expected}")
    return document


def get_list(document: dict[str, Any], key: str, path: Path, *, kind: str) -> list[Any]:
    """Return the list under a key of a JSON object.

    Raises:
        DataError: There is no such list, so the file is probably no `kind` file.
    """
    rows = document.get(key)
    if not isinstance(rows, list):
        keys = ", ".join(sorted(document)[:8]) or "nothing"
        raise DataError(f'{path}: has no list "{key}" (it holds: {keys}); is it a {kind} file?')
    return rows


def read_head(path: Path, *, size: int = 4096) -> str:
    """Return the first `size` bytes as text for format detection; empty if unreadable."""
    try:
        with open(path, "rb") as file:
            return file.read(size).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def read_header(path: Path) -> str:
    """Return the first line of a file in lower case; empty if unreadable."""
    return read_head(path).split("\n", 1)[0].strip().lower()


def read_csv(
    path: Path, report: Report, *, delimiter: str, row: re.Pattern[str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Yield `(file:line, fields)` for each row of a CSV file that is not blank, header included.

    With a tab as the delimiter, quotation marks are ordinary characters. Otherwise a quoted field
    may hold delimiters, quotation marks and line breaks.

    Rows with broken quoting are reported and skipped. A missing closing quotation mark merges
    all rows up to the next quotation mark into one field; this is recognized by a later line of
    the field that matches `row`, by default a line that names an image file.
    """
    pattern = row or _IMAGE_IN_LINE
    with open_text(path) as file:
        lines = _LineRecorder(file)
        rows = csv.reader(
            lines,
            delimiter=delimiter,
            strict=True,
            quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        )
        while True:
            start = rows.line_num + 1
            lines.recorded.clear()
            fields: list[str] | None
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error:
                fields = None
            consumed = [line for line in lines.recorded if line.strip()]
            where = f"{path.name}:{start}"
            if fields is None or any(pattern.search(line) for line in consumed[1:]):
                if len(consumed) > 1:
                    where += f"-{rows.line_num}, {len(consumed)} rows"
                kind = UNCLOSED_QUOTE if len(consumed) > 1 else BAD_ROW
                report.add(kind, where, rows=len(consumed))
            elif any(field.strip() for field in fields):
                yield where, fields


class _LineRecorder:
    """Iterates over the lines of a file and keeps those read since `recorded` was cleared."""

    def __init__(self, file: TextIO) -> None:
        self._file, self.recorded = file, list[str]()

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.recorded.append(line)
            yield line


def list_files(folder: Path, suffix: str = "") -> list[Path]:
    """Return the visible files directly in a folder, sorted; empty if it cannot be read.

    With a suffix in lower case, only the files that end in it, in any case; this is fast in a
    folder with many images.
    """
    try:
        with os.scandir(folder) as entries:
            visible = (entry for entry in entries if not entry.name.startswith("."))
            named = (entry for entry in visible if entry.name.lower().endswith(suffix))
            names = sorted(entry.name for entry in named if is_file(entry))
    except OSError:
        return []
    return [folder / name for name in names]


def list_folders(folder: Path) -> list[Path]:
    """Return the visible folders directly in a folder, sorted; empty if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            visible = (entry for entry in entries if not entry.name.startswith("."))
            names = sorted(entry.name for entry in visible if is_folder(entry))
    except OSError:
        return []
    return [folder / name for name in names]


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file; False for a link to itself, which is no OSError."""
    return os.path.isfile(entry) if entry.is_symlink() else entry.is_file()


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder; False for a link to itself, which is no OSError."""
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def walk_files(root: Path) -> Iterator[Path]:
    """Yield the visible files in a folder and its subfolders, in a fixed order.

    Symbolic links to folders are not followed.
    """
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))
