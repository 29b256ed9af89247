"""The rows of a run in a file: JSON lines or CSV, one row per image.

Rows are appended in the order of the images, and each is flushed. If the process is killed, at most
the last line is incomplete, and the next run truncates it. A run with other settings (see
`captioner.cli.batch.run_record`) does not continue the file.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from captioner.cli.batch.run_record import (
    ORIGINS,
    add_origin,
    meta_path,
    read_meta,
    write_meta,
)
from captioner.errors import DataError
from captioner.files import csv_line, format_json, open_replacement

Row = dict[str, Any]
KIND_COLUMNS = ("kind", "kind_probability")
CAPTION_COLUMNS = ("image", "caption", "score", "confidence", "error", *KIND_COLUMNS)
ANSWER_COLUMNS = ("image", "question", "answer", "confidence", "error", *KIND_COLUMNS)
FILE_COLUMNS = ("same_as", "sha256")
"""The columns of CSV about kinds, with captions, with answers, and further columns in a file."""


class RowFile:
    """Rows that are appended to a file, and those of an earlier run.

    Only the path, the position and the digest of each row are kept in memory. Without `columns`,
    the file is JSONL and not CSV. A file that has rows is continued with `resume`, if they depend
    on the same `settings`; with `retry`, rows that have an error are replaced.

    Raises:
        DataError: The file cannot be written, or its rows cannot be continued.
    """

    def __init__(
        self,
        path: str,
        *,
        columns: Sequence[str] | None,
        settings: Mapping[str, Any],
        resume: bool,
        retry: bool,
        notify: Callable[[str], None],
    ) -> None:
        self.path, self.columns = path, columns
        self.failed: dict[str, None] = {}
        """The images whose row has an error, in order; a dict for the order."""
        self.known: dict[bytes, str] = {}
        """The first image with each digest."""
        self._positions: dict[str, int] = {}
        self._digests: dict[str, bytes] = {}
        self._same_as: dict[str, str] = {}
        self._outdated: set[str] = set()
        self._lines, self._end = 0, 0
        self._created = [p for p in (path, meta_path(path)) if not os.path.lexists(p)]
        """The files that did not exist before."""
        with self._guard():
            size = self._size = os.path.getsize(path) if os.path.exists(path) else 0
            if size and not resume:
                hint = "continue it with --resume, or give --output another name"
                raise DataError(f"{path}: exists already ({size} bytes); {hint}")
            base, origins = read_meta(path, settings) if size else (None, [])
            self.base = base or os.getcwd()
            """The folder that the paths in the rows are relative to."""
            if size:
                self._read(notify)
            record = add_origin(settings, origins, self._lines)
            self._file = open(path, "ab")  # noqa: SIM115
            try:
                if base is None or record[ORIGINS] != origins:
                    write_meta(path, record, self.base)
            except OSError:
                self._discard()
                raise
        self._mark(self.failed if retry else ())
        if columns and not self._end:
            self._write(f"{csv_line(columns)}\n".encode())

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if kind is not None and not self._lines:
            self._discard()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the images that have a row."""
        return iter(self._positions)

    def has(self, image: str) -> bool:
        """Return whether an image has a row that will not be replaced."""
        return image in self._positions and image not in self._outdated

    def has_failed(self, image: str) -> bool:
        """Return whether an image has a row that has an error and will not be replaced."""
        return image in self.failed and self.has(image)

    def digest(self, image: str) -> bytes | None:
        """Return the digest that the file of an image had when its row was made."""
        return self._digests.get(image)

    def row(self, image: str) -> Row:
        """Return the row of an image."""
        with open(self.path, "rb") as file:
            file.seek(self._positions[image])
            return self._parse(file.readline())

    def find(self, image: str) -> Row | None:
        """Return the row of an image; None if it has none or the row has no caption."""
        row = self.row(image) if image in self._positions else {}
        return row if "caption" in row else None

    def mark_outdated(self, images: Collection[str]) -> None:
        """Mark the rows of changed images to be replaced.

        Rows that repeat a marked row describe its former content. They are rewritten to repeat
        another row with that content, or none.
        """
        self._mark(images)
        for image, first in list(self._same_as.items()):
            if first in images and image not in self._outdated:
                row = self.row(image)
                del row["same_as"]
                content = row.pop("sha256", "")
                owner = self.known.get(bytes.fromhex(content), image)
                row |= {"same_as": owner} if owner != image else {}
                self.append(row | ({"sha256": content} if content else {}))

    def append(self, row: Row) -> None:
        """Append a row; the next run detects changed files by its `sha256`."""
        start = self._end
        self._write(self._format(row))
        self._record(row, start)
        self._outdated.discard(row["image"])

    def repeat(self, image: str, first: str) -> Row:
        """Return the row of an image with the same content as another that has a row."""
        row = self.row(first)
        content = row.pop("sha256")
        if row.get("error"):
            row["error"] = row["error"].replace(first, image, 1)
        return row | {"image": image, "same_as": first, "sha256": content}

    def close(self) -> None:
        """Close the file; if images have several rows, keep only the last one of each."""
        with self._guard():
            self._file.close()
            if self._lines > len(self._positions):
                self._compact()

    def _discard(self) -> None:
        """Undo the creation of the file and of its settings, after a failure before any row."""
        self._file.close()
        with contextlib.suppress(OSError):
            os.truncate(self.path, self._size)  # without the header of CSV
        for path in self._created:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _write(self, line: bytes) -> None:
        with self._guard():
            self._file.write(line)
            self._file.flush()
        self._end += len(line)

    def _format(self, row: Row) -> bytes:
        if self.columns:
            line = csv_line([row.get(name, "") for name in self.columns])
            return f"{line}\n".encode()
        return (format_json(row) + "\n").encode()

    def _parse(self, line: bytes) -> Row:
        """Return the row on a line; raise ValueError if it is not a row."""
        if not line.endswith(b"\n"):
            raise ValueError("the line has no line ending")
        if not self.columns:
            row = json.loads(line)
        else:
            values = next(csv.reader([line.decode()], strict=True))
            row = {k: v for k, v in zip(self.columns, values, strict=True) if v or k == "image"}
        if not isinstance(row, dict) or not isinstance(row.get("image"), str):
            raise ValueError("the line is not a row")
        bytes.fromhex(row.get("sha256", ""))
        return row

    def _read(self, notify: Callable[[str], None]) -> None:
        """Read the rows of an earlier run, and truncate a partial last line."""
        header = f"{csv_line(self.columns)}\n".encode() if self.columns else None
        with open(self.path, "r+b") as file:
            for number, line in enumerate(file, 1):
                try:
                    if number > 1 or line != header:
                        self._record(self._parse(line), self._end)
                except (ValueError, csv.Error, RecursionError, TypeError, StopIteration):
                    if file.read(1):
                        where, hint = f"{self.path}:{number}", "give --output another name"
                        problem = f"is not a row of a run; correct the line, or {hint}"
                        raise DataError(f"{where}: {problem}") from None
                    notify(f"{self.path}: its last line was incomplete and has been removed")
                    file.truncate(self._end)
                    return
                self._end += len(line)

    def _record(self, row: Row, position: int) -> None:
        image = row["image"]
        self._positions[image] = position
        self._lines += 1
        self.failed.pop(image, None)
        if row.get("error"):
            self.failed[image] = None
        self._same_as.pop(image, None)
        if row.get("same_as"):
            self._same_as[image] = row["same_as"]
        self._digests.pop(image, None)
        if row.get("sha256"):
            digest = self._digests[image] = bytes.fromhex(row["sha256"])
            self.known.setdefault(digest, image)

    def _mark(self, images: Collection[str]) -> None:
        """Mark rows to be replaced, and stop repeating them."""
        self._outdated |= set(images)
        self.known = {}
        for image in self._positions:
            if image in self._digests and image not in self._outdated:
                self.known.setdefault(self._digests[image], image)

    def _compact(self) -> None:
        missing = set(self._positions)
        path = self.path
        with open(path, "rb") as rows, open(path, "rb") as last, open_replacement(path) as new:
            if self.columns:
                new.write(rows.readline())
            for line in rows:
                if rows.tell() > self._end:  # An incomplete line, as a full disk leaves it.
                    break
                image = self._parse(line)["image"]
                if image in missing:
                    missing.remove(image)
                    last.seek(self._positions[image])
                    new.write(last.readline())

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "its rows are complete; correct that and continue with --resume"
            problem = f"cannot be used ({error.strerror})"
            raise DataError(f"{self.path}: {problem}; {hint}") from None
