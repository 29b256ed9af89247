"""The inputs that failed, in a file of their own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TextIO

from captioner.cli.batch.dedupe import is_binary
from captioner.cli.output import printable
from captioner.errors import DataError
from captioner.files import replace_line_breaks


def _create(path: str) -> TextIO:
    return open(path, "w", encoding="utf-8", errors="backslashreplace")


class ErrorList:
    """The inputs that failed, in a file: path and reason, tab-separated, or rows of JSON.

    Without a path, nothing is written.

    Raises:
        DataError: The file cannot be written, or is there and no text.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        if path is not None and is_binary(path):
            raise DataError(f"{path}: is there and no text; give --errors-to another name")
        with self._guarded():
            # Closed by __exit__.
            self._file = None if path is None else _create(path)

    def __enter__(self) -> ErrorList:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, image: str, reason: str) -> None:
        """Add one, at once."""
        if self._file is None:
            return
        reason = reason.removeprefix(f"{image}: ")
        line = f"{printable(image)}\t{replace_line_breaks(reason)}"
        if self._path.lower().endswith((".jsonl", ".ndjson")):
            line = json.dumps({"image": image, "error": reason}, ensure_ascii=False)
        with self._guarded():
            self._file.write(f"{line}\n")
            self._file.flush()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error.strerror})") from None
