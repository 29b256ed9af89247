"""The rows of a run in a file: JSON lines or CSV, one row for each image.

Rows are appended in the order of the images and handed to the system one by one: a kill loses at
most the line that is being written, and the next run cuts off what is left of it. A run under other
settings (see `captioner.cli.batch.run_record`) does not go on with the file.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from captioner.cli.batch.run_record import read_meta, write_meta
from captioner.errors import DataError
from captioner.files import csv_line, open_replacement

Row = dict[str, Any]
CAPTIONED = ("image", "caption", "score", "error")
ANSWERED = ("image", "question", "answer", "confidence", "error")
IN_A_FILE = ("same_as", "sha256")
"""Columns of a CSV of captions, one of answers, and what a file has besides."""


class RowFile:
    """Rows that are appended to a file, and those of an earlier run.

    What is kept in memory of a row is its path, its place and its digest.

    Args:
        columns: Those of a CSV; without them, the file is JSONL.
        settings: What the rows depend on.
        resume: The file may have rows already, made under the same settings.
        retry: Rows with an error count as missing.
        tell: Is given messages for the user.

    Raises:
        DataError: The file cannot be written, or the run cannot go on with its rows.
    """

    def __init__(
        self,
        path: str,
        *,
        columns: Sequence[str] | None,
        settings: Mapping[str, Any],
        resume: bool,
        retry: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.path, self.columns = path, columns
        self.failed: dict[str, None] = {}
        """The images whose row has an error, in their order."""
        self.known: dict[bytes, str] = {}
        """The first image of each content."""
        self._places: dict[str, int] = {}
        self._digests: dict[str, bytes] = {}
        self._same: dict[str, str] = {}
        self._redo: set[str] = set()
        self._lines, self._end = 0, 0
        with self._guarded():
            size = os.path.getsize(path) if os.path.exists(path) else 0
            if size and not resume:
                raise DataError(
                    f"{path}: is there already ({size} bytes); go on with it by --resume, or give"
                    " --output another name"
                )
            base = read_meta(path, settings) if size else None
            self.base = base or os.getcwd()
            """The folder that the paths in the rows are relative to."""
            if size:
                self._read(tell)
            if base is None:
                write_meta(path, settings, self.base)
            self._file = open(path, "ab")  # noqa: SIM115
        self._mark(self.failed if retry else ())
        if columns and not self._end:
            self._write(f"{csv_line(columns)}\n".encode())

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the images that have a row."""
        return iter(self._places)

    def has(self, image: str) -> bool:
        """Return whether an image has a row that is not to be replaced."""
        return image in self._places and image not in self._redo

    def has_failed(self, image: str) -> bool:
        """Return whether an image has such a row, and that has an error."""
        return image in self.failed and self.has(image)

    def digest(self, image: str) -> bytes | None:
        """Return the digest of the content that the row of an image was made of."""
        return self._digests.get(image)

    def row(self, image: str) -> Row:
        """Return the row of an image."""
        with open(self.path, "rb") as file:
            file.seek(self._places[image])
            return self._parse(file.readline())

    def caption(self, image: str) -> str | None:
        """Return the caption in the row of an image; None if it has none."""
        return self.row(image).get("caption") if image in self._places else None

    def mark_outdated(self, images: Collection[str]) -> None:
        """Have the rows of images replaced, whose files have changed.

        Rows that repeat them are of the former content: they repeat another row then, or none.
        """
        self._mark(images)
        for image, first in list(self._same.items()):
            if first in images and image not in self._redo:
                row = self.row(image)
                del row["same_as"]
                content = row.pop("sha256", "")
                owner = self.known.get(bytes.fromhex(content), image)
                row |= {"same_as": owner} if owner != image else {}
                self.append(row | ({"sha256": content} if content else {}))

    def append(self, row: Row) -> None:
        """Write a row; by its `sha256` the next run knows whether the file has changed."""
        start = self._end
        self._write(self._format(row))
        self._note(row, start)
        self._redo.discard(row["image"])

    def repeat(self, image: str, first: str) -> Row:
        """Return the row of an image whose bytes are those of another that has a row."""
        row = self.row(first)
        content = row.pop("sha256")
        if row.get("error"):
            row["error"] = row["error"].replace(first, image, 1)
        return row | {"image": image, "same_as": first, "sha256": content}

    def close(self) -> None:
        """Close the file; put the last row of an image in the place of its first."""
        with self._guarded():
            self._file.close()
            if self._lines > len(self._places):
                self._compact()

    def _write(self, line: bytes) -> None:
        with self._guarded():
            self._file.write(line)
            self._file.flush()
        self._end += len(line)

    def _format(self, row: Row) -> bytes:
        if self.columns:
            line = csv_line([row.get(name, "") for name in self.columns])
            return f"{line}\n".encode()
        return (json.dumps(row, ensure_ascii=False) + "\n").encode()

    def _parse(self, line: bytes) -> Row:
        """Return the row on a line; raise ValueError if it is none."""
        if not line.endswith(b"\n"):
            raise ValueError("no end")
        if not self.columns:
            row = json.loads(line)
        else:
            values = next(csv.reader([line.decode()], strict=True))
            row = {k: v for k, v in zip(self.columns, values, strict=True) if v or k == "image"}
        if not isinstance(row, dict) or not isinstance(row.get("image"), str):
            raise ValueError("no row")
        bytes.fromhex(row.get("sha256", ""))
        return row

    def _read(self, tell: Callable[[str], None]) -> None:
        """Read the rows of an earlier run, and cut off a torn last line."""
        header = f"{csv_line(self.columns)}\n".encode() if self.columns else None
        with open(self.path, "r+b") as file:
            for number, line in enumerate(file, 1):
                try:
                    if number > 1 or line != header:
                        self._note(self._parse(line), self._end)
                except (ValueError, csv.Error, RecursionError, TypeError, StopIteration):
                    if file.read(1):
                        raise DataError(
                            f"{self.path}:{number}: is no row of a run; mend the line, or give"
                            " --output another name"
                        ) from None
                    tell(f"{self.path}: its last line was torn and has been cut off")
                    file.truncate(self._end)
                    return
                self._end += len(line)

    def _note(self, row: Row, place: int) -> None:
        image = row["image"]
        self._places[image] = place
        self._lines += 1
        self.failed.pop(image, None)
        if row.get("error"):
            self.failed[image] = None
        for values, key in ((self._digests, "sha256"), (self._same, "same_as")):
            values.pop(image, None)
            if row.get(key):
                values[image] = bytes.fromhex(row[key]) if key == "sha256" else row[key]
        if image in self._digests:
            self.known.setdefault(self._digests[image], image)

    def _mark(self, images: Collection[str]) -> None:
        """Note that rows are to be replaced, and no others made from them."""
        self._redo |= set(images)
        self.known = {}
        for image in self._places:
            if image in self._digests and image not in self._redo:
                self.known.setdefault(self._digests[image], image)

    def _compact(self) -> None:
        missing = set(self._places)
        with (
            open(self.path, "rb") as rows,
            open(self.path, "rb") as last,
            open_replacement(self.path) as new,
        ):
            if self.columns:
                new.write(rows.readline())
            for line in rows:
                if rows.tell() > self._end:  # a line that a full disk has torn
                    break
                image = self._parse(line)["image"]
                if image in missing:
                    missing.remove(image)
                    last.seek(self._places[image])
                    new.write(last.readline())

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be used ({error.strerror}); its rows are whole: mend that and"
                " go on with --resume"
            ) from None
