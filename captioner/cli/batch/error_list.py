"""The inputs that failed in a run, in a file (--errors-to)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TextIO

from captioner.cli.batch.dedupe import is_binary
from captioner.cli.output import escape_path
from captioner.errors import DataError
from captioner.files import replace_line_breaks


class ErrorList:
    """The inputs that failed, in a file: path and reason, separated by a tab, or JSON lines.

    Without a path, nothing is written. A file that cannot be written, or that exists and is not a
    text file, raises DataError.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path or ""
        self._file: TextIO | None = None
        self._is_new = not os.path.lexists(self._path)
        if path is None:
            return
        if is_binary(path):
            raise DataError(f"{path}: exists and is not text; give --errors-to another name")
        with self._guard():
            self._file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115

    def __enter__(self) -> ErrorList:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        self._file.close()
        if kind is not None and self._is_new and not os.path.getsize(self._path):
            os.unlink(self._path)

    def add(self, image: str, reason: str) -> None:
        """Write one failure to the file."""
        if self._file is None:
            return
        reason = reason.removeprefix(f"{image}: ")
        line = f"{escape_path(image)}\t{replace_line_breaks(reason)}"
        if self._path.lower().endswith((".jsonl", ".ndjson")):
            line = json.dumps({"image": image, "error": reason}, ensure_ascii=False)
        with self._guard():
            self._file.write(f"{line}\n")
            self._file.flush()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error.strerror})") from None
