"""Open the source of an image or a recording: a path, bytes, a binary file or a shard's member.

The address of a member is a text, such as `/data/000.tar::512+1834+9af3c2d1::dogs/1.jpg`: the file
or URL that holds it, the offset and the size of its bytes, a checksum of its end, and its name. So
a member is read without its archive being searched, and takes the place of a path.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from captioner.errors import CaptionerError
from captioner.extras import explain_missing

TAIL = 4096
"""Bytes at the end of a file or member that its checksum depends on."""
_PLACE = re.compile(r"::(\d+)\+(\d+)\+([0-9a-f]{8})::")


class Member(NamedTuple):
    """A part of a file that holds an image or a recording."""

    container: str
    """Absolute path of a local file, or a URL that fsspec reads."""
    offset: int
    size: int
    """Number of bytes."""
    checksum: int
    """CRC-32 of the last `TAIL` bytes."""
    name: str

    @property
    def address(self) -> str:
        """The text that takes the place of a path."""
        place = f"{self.offset}+{self.size}+{self.checksum:08x}"
        return f"{self.container}::{place}::{self.name}"

    @property
    def readable(self) -> str:
        """The file and the name, for messages."""
        return f"{self.container}::{self.name}"


def parse_member(path: str) -> Member | None:
    """Return the member with an address; None for a path."""
    match = _PLACE.search(path)
    if match is None:
        return None
    offset, size, checksum = match.groups()
    container, name = path[: match.start()], path[match.end() :]
    return Member(container, int(offset), int(size), int(checksum, 16), name)


def is_member(path: str) -> bool:
    """Return whether a text is the address of a member."""
    return _PLACE.search(path) is not None


def tail_checksum(data: bytes) -> int:
    """Return the checksum of the end of a file or member."""
    return zlib.crc32(data[-TAIL:])


def is_url(path: str) -> bool:
    """Return whether a text is a URL, such as `s3://bucket/000.tar` or `simplecache::s3://...`."""
    return re.match(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://", path) is not None


def read_member(member: Member) -> bytes:
    """Return the bytes of a member; raise OSError.

    A member of a remote file is read with one range request.
    """
    start, end = member.offset, member.offset + member.size
    if is_url(member.container):
        with explain_missing(f"reading {member.container}"):
            import fsspec
        system, path = fsspec.core.url_to_fs(member.container)
        data: bytes = system.cat_file(path, start=start, end=end)
    else:
        with open(member.container, "rb", buffering=0) as file:
            file.seek(start)
            data = file.read(member.size)
    if len(data) < member.size:
        raise OSError(f"ends at byte {start + len(data)} instead of {end}")
    return data


def normalize(path: str, folder: str | os.PathLike[str] = "") -> str:
    """Return a path below a folder, normalized; an absolute path, and a URL, are not below it.

    In the address of a member, this concerns the file that holds it.
    """
    if member := parse_member(path):
        return member._replace(container=normalize(member.container, folder)).address
    return path if is_url(path) else os.path.normpath(os.path.join(folder, path))


def short_name(path: str) -> str:
    """Return the name of a file, or of a member with that of its file, for messages.

    Folders are left out: `000.tar::a.jpg`.
    """
    if member := parse_member(path):
        return f"{os.path.basename(member.container)}::{member.name}"
    return os.path.basename(path)


def file_name(path: str) -> str:
    """Return the name of a file, or that of a member, without folders."""
    member = parse_member(path)
    return os.path.basename(member.name if member else path)


@contextmanager
def open_source(
    source: Any, error: type[CaptionerError], empty: type[CaptionerError], expected: str
) -> Iterator[BinaryIO]:
    """Yield a source as a seekable binary file; close it only if it was opened here.

    Args:
        source: A path to a regular file (pipes and devices are rejected unopened, so that nothing
            blocks), the address of a member, bytes, or a file object (read from its start).
        error: The type of the error for a source that cannot be opened.
        empty: The type of the error for an empty file.
        expected: The accepted types of sources, for the message.
    """
    member = parse_member(source) if isinstance(source, str) else None
    if member is not None:
        if member.size == 0:
            raise empty("is empty; get an intact copy")
        yield io.BytesIO(read_member(member))
    elif isinstance(source, (str, os.PathLike)):
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
    """Return the name of a path, member, bytes or file for messages; None for other objects."""
    if isinstance(source, (str, os.PathLike)):
        member = parse_member(source) if isinstance(source, str) else None
        return member.readable if member else os.fsdecode(source) or "''"
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
