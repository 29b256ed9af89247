"""Files of XMP beside images: their names, their encodings, and changes that keep their content.

Two forms of names are in use: `photo.cr2.xmp` (darktable, digiKam) and `photo.xmp` (Lightroom and
Camera Raw, for RAW files). An existing file of either form is changed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from captioner.cli.batch.xmp import read_packet
from captioner.cli.batch.xmp_properties import (
    EXTENSION,
    Entry,
    clean_text,
    read_property,
    read_text,
    write_entry,
)
from captioner.errors import ImageError
from captioner.files import RAW_SUFFIXES, open_replacement

NamePattern = Literal["full", "stem"]
"""The name of a new file: `photo.cr2.xmp` or `photo.xmp`."""
_LARGEST = 2**24
"""Maximum size of a file in bytes; masks in the settings of a RAW file take a few megabytes."""
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*encoding\s*=\s*["']([\w.-]+)""")


def find_targets(path: str, sharing: Sequence[str], names: NamePattern) -> list[str]:
    """Return the existing files of XMP that belong to an image, or else the name of a new one.

    `photo.xmp` belongs to the image whose suffix it names (photoshop:SidecarForExtension), or else
    to the only image or the only RAW file of that name.

    Args:
        path: The image.
        sharing: The images of the same name and another suffix, with the image itself, or none.
        names: The form of the name of a new file.
    """
    stem = os.path.splitext(path)[0]
    full_names, short_names = ([base + end for end in (".xmp", ".XMP")] for base in (path, stem))
    existing = [name for name in full_names if os.path.lexists(name)][:1]
    short = next((name for name in short_names if os.path.lexists(name)), None)
    if short and short not in existing and _belongs(path, short, sharing):
        existing.append(short)
    if existing:
        return existing
    is_free = names == "stem" and short is None and _is_owner(path, sharing)
    return [short_names[0] if is_free else full_names[0]]


def _belongs(path: str, short: str, sharing: Sequence[str]) -> bool:
    extension = ""
    with contextlib.suppress(ImageError, OSError):
        extension = read_property(_to_utf8(_read(short) or b"")[0], EXTENSION)
    if extension:
        return os.path.splitext(path)[1].lower() == f".{extension.lower()}"
    return _is_owner(path, sharing)


def _is_owner(path: str, sharing: Sequence[str]) -> bool:
    raw_files = [other for other in sharing if other.lower().endswith(RAW_SUFFIXES)]
    return not sharing or [os.path.basename(x) for x in raw_files] == [os.path.basename(path)]


def write_beside(
    path: str, target: str, entry: Entry, *, previous: str | None, overwrite: bool
) -> str:
    """Write an entry for an image into a file of XMP; return a description that was kept, or "".

    A new file begins with the packet in the image, if there is one, because programs that read the
    file ignore that packet. A file that has the entry is not written.

    Args:
        path: The image, which is not changed.
        target: The file of XMP.
        entry: The description and the keywords.
        previous: The description of an earlier run, which may be replaced.
        overwrite: Whether any description may be replaced.

    Raises:
        ImageError: The file is not XMP or cannot be read as such.
        OSError: It cannot be read or written.
    """
    data, inner = _read(target), _read_inner_packet(path)
    old, codec = (inner, "utf-8") if data is None else _to_utf8(data)
    # A description in the image is visible if the file has none.
    packets = (packet for packet in (old, inner) if packet is not None)
    texts = [*map(read_text, packets), entry.embedded_description]
    known = next(filter(None, texts), "")
    may_replace = overwrite or (previous is not None and known == clean_text(previous))
    is_kept = known not in ("", clean_text(entry.description)) and not may_replace
    kept = known if entry.description and is_kept else ""
    if kept:
        entry = replace(entry, description="")
    if data is None:
        if not (entry.description or entry.keywords):
            return kept
        entry = replace(entry, extension=_extension(path, target))
    changed = write_entry(old, entry, overwrite=may_replace).data or b""
    new = changed.decode().encode(codec)
    if new != data:
        like = target if data is not None else None
        with open_replacement(os.path.realpath(target), like=like, times=False) as file:
            file.write(new)
    return kept


def _extension(path: str, target: str) -> str:
    """Return the suffix of an image without its dot if the file of XMP leaves it out."""
    stem, suffix = os.path.splitext(path)
    return suffix[1:].upper() if os.path.splitext(target)[0] == stem else ""


def _read(target: str) -> bytes | None:
    """Return the content of a file of XMP, None if there is none."""
    if not os.path.exists(target):  # A link to a missing file is written through.
        return None
    if not os.path.isfile(target):
        raise ImageError("is not a regular file")
    if os.path.getsize(target) > _LARGEST:
        raise ImageError(f"has more than {_LARGEST} bytes")
    with open(target, "rb") as file:
        return file.read()


def _to_utf8(data: bytes) -> tuple[bytes, str]:
    """Return a packet in UTF-8, and the encoding of the file: UTF-8 or UTF-16."""
    codec = "utf-8"
    if data.startswith((b"\xff\xfe", b"<\0")):
        codec = "utf-16-le"
    elif data.startswith((b"\xfe\xff", b"\0<")):
        codec = "utf-16-be"
    elif (match := _DECLARED.match(data)) and match[1].lower() not in (b"utf-8", b"us-ascii"):
        name = match[1].decode()
        raise ImageError(f"has an XMP packet in the encoding {name}; expected UTF-8 or UTF-16")
    try:
        return data.decode(codec).encode(), codec
    except UnicodeError as error:
        raise ImageError(f"has an XMP packet that cannot be read ({error})") from None


def _read_inner_packet(path: str) -> bytes | None:
    """Return the XMP packet in an image, None if there is none that can be read."""
    with open(path, "rb") as file:
        head = file.read(2)
        data = head + file.read() if head in (b"\xff\xd8", b"\x89P", b"RI") else b""
    with contextlib.suppress(ImageError):
        packet = _read_tiff_packet(path) if head in (b"II", b"MM") else read_packet(data)
        if packet is not None:
            read_text(packet)
        return packet
    return None


def _read_tiff_packet(path: str) -> bytes | None:
    """Return the XMP packet of a TIFF, as many RAW files are."""
    from PIL import Image

    try:
        with Image.open(path, formats=["TIFF"]) as image:
            packet = image.info.get("xmp")
    except Exception:  # damaged files make Pillow raise errors of many types
        return None
    return packet if isinstance(packet, bytes) else None
