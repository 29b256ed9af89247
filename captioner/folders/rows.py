"""The rows of a run in a file: JSON lines or CSV, one of each image, never one twice.

Rows are appended in the order of the images and handed to the system one by one: a kill loses at
most the line that is being written, and the next run cuts off what is left of it.

How the rows were made (checkpoint, options, question) stands in FILE.meta.json, and a run under
other settings does not go on with FILE. It is a file beside it since a CSV has no room for a head,
and so that the rows hold nothing but what other programs want of them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from captioner.errors import DataError
from captioner.folders.files import write_whole

Row = dict[str, Any]
CAPTIONED = ("image", "caption", "score", "error")
ANSWERED = ("image", "question", "answer", "confidence", "error")
IN_A_FILE = ("same_as", "sha256")
"""Columns of a CSV of captions, one of answers, and what a file has besides."""


def meta_of(path: str) -> str:
    """The file that says how the rows of another were made."""
    return f"{path}.meta.json"


def one_line(text: str) -> str:
    """The text without line breaks."""
    return text.replace("\r", " ").replace("\n", " ")


def csv_line(values: Sequence[Any]) -> str:
    """One line of CSV, without its end; a line break within a value becomes a space."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([one_line(str(value)) for value in values])
    return out.getvalue()


class RowFile:
    """Rows that are appended to a file, and those of an earlier run.

    `columns` are those of a CSV; without them, it is JSONL. With `resume`, the file may hold rows
    already, made under the same `settings`; with `retry`, those with an error count as missing,
    and are replaced by the new ones when the file is closed. `tell` is given what a person should
    know. What is kept in memory of a row is its path, its place and its digest.

    Raises DataError for a file that cannot be gone on with, or not be written.
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
        self._lines, self._end = 0, 0
        with self._guarded():
            size = os.path.getsize(path) if os.path.exists(path) else 0
            if size and not resume:
                raise DataError(
                    f"{path}: is there already ({size} bytes); go on with it by --resume, or give"
                    " --output another name"
                )
            if size:
                _check_settings(path, settings)
                self._read(tell)
            else:
                write_whole(meta_of(path), json.dumps(settings, indent=2).encode() + b"\n")
            self._file = open(path, "ab")  # noqa: SIM115
        self._retry = set(self.failed) if retry else set()
        self.known = {d: image for d, image in self.known.items() if image not in self._retry}
        if columns and not self._end:
            self._write(f"{csv_line(columns)}\n".encode())

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, image: str) -> bool:
        """Whether there is a row of an image, and it need not be asked about again."""
        return image in self._places and image not in self._retry

    def has_failed(self, image: str) -> bool:
        """Whether an image has a row, and that has an error."""
        return image in self.failed and self.has(image)

    def row(self, image: str) -> Row:
        """The row of an image."""
        with open(self.path, "rb") as file:
            file.seek(self._places[image])
            return self._parse(file.readline())

    def append(self, row: Row) -> None:
        """Write a row; `sha256` in it is for the next run to know the content by."""
        start = self._end
        self._write(self._format(row))
        self._note(row, start)
        self._retry.discard(row["image"])

    def repeat(self, image: str, first: str) -> Row:
        """The row of an image whose bytes are those of another that has a row."""
        row = self.row(first)
        content = row.pop("sha256")
        if row.get("error"):
            row["error"] = row["error"].replace(first, image, 1)
        return row | {"image": image, "same_as": first, "sha256": content}

    def close(self) -> None:
        """Close the file; of the rows of an image, the last is put in the place of the first."""
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
        """The row on a line; ValueError where it is none."""
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
        """Take in the rows of an earlier run, and cut off a torn last line."""
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
        if row.get("sha256"):
            self.known.setdefault(bytes.fromhex(row["sha256"]), image)

    def _compact(self) -> None:
        partial = f"{self.path}.partial"
        missing = set(self._places)
        with (
            open(self.path, "rb") as rows,
            open(self.path, "rb") as last,
            open(partial, "wb") as new,
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
            new.flush()
            os.fsync(new.fileno())
        os.replace(partial, self.path)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be used ({error.strerror}); its rows are whole: mend that and"
                " go on with --resume"
            ) from None


def _check_settings(path: str, settings: Mapping[str, Any]) -> None:
    """Raise DataError where the rows of a file were not made as they would be now."""
    try:
        with open(meta_of(path), encoding="utf-8") as file:
            old = dict(json.load(file))
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{path}: nothing tells how its rows were made ({meta_of(path)} is missing or torn);"
            " give --output another name"
        ) from None
    new = json.loads(json.dumps(settings))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise DataError(
                f"{path}: its rows were made with {name} {old.get(name)!r}, not"
                f" {new.get(name)!r}; give the same options, or --output another name"
            )
