"""Read the headers of a tar file in order, much faster than `tarfile` for ordinary members.

Source of the format: POSIX.1-2001, "pax Interchange Format". Members of other types, and names or
sizes in extended headers, are left to `tarfile`.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK = 512
_ZERO = bytes(BLOCK)
_FILES = b"0\07"
# Records of an extended header that change the name, the size or the kind of the next member.
_DECISIVE = re.compile(rb"(?:path|size|hdrcharset|GNU\.sparse[^=]*)=")


class TarMember(NamedTuple):
    """An entry of a tar file."""

    name: str
    offset: int
    """Position of its first byte in the file."""
    size: int
    """Number of bytes."""
    is_file: bool
    """False for links, devices and sparse files, whose bytes are not in one place."""


class TarDamageError(Exception):
    """The rest of a tar file cannot be read; the text is the reason."""


def read_headers(file: BinaryIO, size: int) -> Iterator[TarMember]:
    """Yield the members of a tar file, except folders.

    The consumer may move the position of the file.

    Args:
        file: A seekable file.
        size: Number of its bytes.

    Raises:
        TarDamageError: A header is damaged, or the end of the file is missing. The members before
            are complete.
    """
    at = 0
    while True:
        file.seek(at)
        header = file.read(BLOCK)
        if header == _ZERO:
            return
        if len(header) < BLOCK:
            raise TarDamageError(f"it ends at byte {size} without the marker of its end")
        kind = header[156:157]
        length = _parse_size(header)
        if length is None:
            raise TarDamageError(f"the header at byte {at} is damaged")
        start = at + BLOCK
        if start + length > size:
            raise TarDamageError(f"it ends at byte {size}, within the member at byte {at}")
        following = start + (length + BLOCK - 1) // BLOCK * BLOCK
        if kind == b"x" and not _DECISIVE.search(file.read(length)):
            at = following  # other records, such as the time: the next header holds the name
        elif kind in _FILES and length >= 0:
            name = _parse_name(header)
            if not name.endswith("/"):  # a folder in the format before POSIX
                yield TarMember(name, start, length, True)
            at = following
        else:
            member, at = _read_other(file, at, size)
            if member is not None:
                yield member


def _parse_size(header: bytes) -> int | None:
    """Return the size in a header; None if the header is damaged, -1 if it is above 8 GiB."""
    try:
        if sum(header) - sum(header[148:156]) + 256 != int(header[148:156].rstrip(b"\0 "), 8):
            return None
        if header[124] & 0x80:
            return -1
        return int(header[124:136].rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return None


def _parse_name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _read_other(file: BinaryIO, at: int, size: int) -> tuple[TarMember | None, int]:
    """Return the member at a position, None for a folder, and the position of the next header."""
    file.seek(at)
    try:
        with tarfile.open(fileobj=file, mode="r:", errorlevel=2) as tar:
            info = tar.next()
            following = tar.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise TarDamageError(f"the header at byte {at} is damaged ({error})") from None
    if info is None or info.offset_data + info.size > size:
        raise TarDamageError(f"it ends at byte {size}, within the member at byte {at}")
    if info.isdir():
        return None, following
    is_file = info.isreg() and not info.issparse()
    return TarMember(info.name, info.offset_data, info.size, is_file), following
