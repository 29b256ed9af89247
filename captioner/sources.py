"""Open the source of an image or a recording: a path, bytes or a binary file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from captioner.errors import CaptionerError


@contextmanager
def open_source(
    source: Any, error: type[CaptionerError], empty: type[CaptionerError], expected: str
) -> Iterator[BinaryIO]:
    """Yield a source as a seekable binary file; close it only if it was opened here.

    Args:
        source: A path to a regular file (pipes and devices are rejected unopened, so that nothing
            blocks), bytes, or a file object (read from its start).
        error: The type of the error for a source that cannot be opened.
        empty: The type of the error for an empty file.
        expected: The accepted types of sources, for the message.
    """
    if isinstance(source, (str, os.PathLike)):
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe, socket or device"
            raise error(f"is a {kind}; name a regular file or pass the bytes")
        if status.st_size == 0:  # not opened: some files in /proc report size 0 and block
            raise empty("is empty; get an intact copy")
        with open(source, "rb") as file:
            yield file
    elif isinstance(source, (bytes, bytearray)):
        yield io.BytesIO(source)
    elif hasattr(source, "read"):
        try:
            source.seek(0)
        except (AttributeError, OSError):  # a pipe or a socket
            source = io.BytesIO(source.read())
        yield source
    else:
        raise error(f"has the type {type(source).__name__}; pass {expected}")


def source_name(source: object) -> str | None:
    """Return the name of a path, bytes or named file for messages; None for other objects."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source) or "''"
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    if name and isinstance(name, (str, bytes)):
        return os.fsdecode(name)
    return "<bytes>" if isinstance(source, (bytes, bytearray)) else None


def printable_line(text: str) -> str:
    """Return a text with escapes instead of control characters and invalid bytes of names."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_failure(error: Exception) -> str | None:
    """Return the message for an error of the operating system; None for other errors."""
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"cannot be read ({error.strerror}); check the path and its permissions"
    return None
