"""Image files written byte by byte, in forms that Pillow does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    rows: bytes,
    *,
    before: bytes = b"",
    packed: bool = False,
    interlaced: bool = False,
) -> bytes:
    """Return a PNG; `before` are chunks before the pixels, and `packed` rows are compressed."""
    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, interlaced)
    data = chunk(b"IHDR", header) + before
    data += chunk(b"IDAT", rows if packed else zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def swap(data: bytes, at: int, new: bytes) -> bytes:
    """Return the data with other bytes at a position, counted from the end if negative."""
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


def interlaced(image: Image.Image) -> bytes:
    """Return an RGB image as an interlaced PNG (the seven passes of Adam7)."""
    a, rows = np.asarray(image), b""
    starts = [(0, 0), (0, 4), (4, 0), (0, 2), (2, 0), (0, 1), (1, 0)]  # row, column
    steps = [(8, 8), (8, 8), (8, 4), (4, 4), (4, 2), (2, 2), (2, 1)]
    for (y, x), (down, right) in zip(starts, steps, strict=True):
        rows += b"".join(b"\0" + row.tobytes() for row in a[y::down, x::right])
    return png(*image.size, 8, 2, rows, interlaced=True)


def tiff(image: Image.Image, order: str = "<", *, tiled: bool = False) -> bytes:
    """Return a 128 x 96 RGB image as a TIFF of one strip or four tiles, in a byte order."""
    a = np.asarray(image)
    tiles = [a[y : y + 48, x : x + 64] for y in (0, 48) for x in (0, 64)]
    parts = [part.tobytes() for part in (tiles if tiled else [a])]
    first = 200  # After the header, at most 12 entries of 12 bytes, and 38 bytes of values.
    offsets = [first + sum(map(len, parts[:i])) for i in range(len(parts))]
    sizes = [len(part) for part in parts]
    values = {256: [128], 257: [96], 258: [8, 8, 8], 259: [1], 262: [2], 277: [3]}
    if tiled:
        values |= {322: [64], 323: [48], 324: offsets, 325: sizes}
    else:
        values |= {273: offsets, 278: [96], 279: sizes}
    entries, longer, at = b"", b"", 8 + 2 + 12 * len(values) + 4
    for tag, numbers in sorted(values.items()):
        wide = tag in (273, 279, 324, 325)
        body = struct.pack(f"{order}{len(numbers)}{'I' if wide else 'H'}", *numbers)
        if len(body) > 4:
            longer, body = longer + body, struct.pack(f"{order}I", at + len(longer))
        entries += struct.pack(f"{order}HHI", tag, 4 if wide else 3, len(numbers))
        entries += body.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}IH", 8, len(values)) + entries + bytes(4) + longer
    return head.ljust(first, b"\0") + b"".join(parts)


def bmp(
    bits: int, body: bytes, *, height: int = 96, packed: int = 0, colours: bytes = b""
) -> bytes:
    """Return a bitmap of 128 columns, in forms that Pillow does not write."""
    header = struct.pack("<I2i2H6I", 40, 128, height, 1, bits, packed, len(body), 0, 0, 0, 0)
    start = 14 + len(header) + len(colours)
    file = struct.pack("<2sI4xI", b"BM", start + len(body), start)
    return file + header + colours + body
