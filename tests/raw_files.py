"""Small RAW files (DNG) that LibRaw opens: a mosaic of red, green and blue, and a preview."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
_FORMS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SRATIONAL: "i"}
_CAMERA_FROM_XYZ = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def make_dng(
    preview: bytes | None,
    *,
    mosaic: np.ndarray | None = None,
    orientation: int = 1,
    xmp: bytes = b"",
) -> bytes:
    """Return a DNG with a mosaic of 16-bit integers (H, W), in rows of RG and GB, and a preview.

    `preview` is a JPEG, `orientation` that of EXIF, and `xmp` the packet in the first directory.
    """
    mosaic = np.full((64, 96), 2000, "<u2") if mosaic is None else mosaic.astype("<u2")
    matrix = [x for value in _CAMERA_FROM_XYZ for x in (int(value * 10000), 10000)]
    raw: dict[int, tuple[int, list[int] | bytes]] = {
        254: (LONG, [0]), 256: (LONG, [mosaic.shape[1]]), 257: (LONG, [mosaic.shape[0]]),
        258: (SHORT, [16]), 259: (SHORT, [1]), 262: (SHORT, [32803]), 277: (SHORT, [1]),
        273: (LONG, mosaic.tobytes()), 278: (LONG, [mosaic.shape[0]]), 279: (LONG, [mosaic.nbytes]),
        33421: (SHORT, [2, 2]), 33422: (BYTE, bytes([0, 1, 1, 2])), 50714: (SHORT, [0]),
        50717: (LONG, [4095]),
    }  # fmt: skip
    first: dict[int, tuple[int, list[int] | bytes]] = {
        271: (ASCII, b"Example\0"), 272: (ASCII, b"Example One\0"), 274: (SHORT, [orientation]),
        50706: (BYTE, bytes([1, 4, 0, 0])), 50707: (BYTE, bytes([1, 1, 0, 0])),
        50708: (ASCII, b"Example One\0"), 50721: (SRATIONAL, matrix),
        50728: (RATIONAL, [1, 1, 1, 1, 1, 1]), 50778: (SHORT, [21]),
    }  # fmt: skip
    if xmp:
        first[700] = (BYTE, xmp)
    if preview is None:
        return _write_tiff([first | raw])
    with Image.open(io.BytesIO(preview)) as image:
        width, height = image.size
    first |= {
        254: (LONG, [1]), 256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [8, 8, 8]),
        259: (SHORT, [7]), 262: (SHORT, [6]), 277: (SHORT, [3]), 273: (LONG, preview),
        278: (LONG, [height]), 279: (LONG, [len(preview)]),
    }  # fmt: skip
    return _write_tiff([first, raw])


def _write_tiff(directories: list[dict[int, tuple[int, list[int] | bytes]]]) -> bytes:
    """Return a TIFF; directories after the first are SubIFDs. Bytes at tag 273 are the strip."""
    data = bytearray(b"II*\0" + bytes(4))
    offset = 0
    for tags in reversed(directories):
        tags = tags | ({330: (LONG, [offset])} if offset else {})
        entries = b""
        for tag, (form, values) in sorted(tags.items()):
            if tag == 273:
                values = [_append(data, values)]
            packed = values if isinstance(values, bytes) else _pack(form, values)
            count = len(packed) // struct.calcsize(_FORMS[form])
            count //= 2 if form in (RATIONAL, SRATIONAL) else 1
            if len(packed) > 4:
                packed = struct.pack("<I", _append(data, packed))
            entries += struct.pack("<HHI", tag, form, count) + packed.ljust(4, b"\0")
        offset = _append(data, struct.pack("<H", len(tags)) + entries + bytes(4))
    data[4:8] = struct.pack("<I", offset)
    return bytes(data)


def _pack(form: int, values: list[int]) -> bytes:
    return struct.pack(f"<{len(values)}{_FORMS[form]}", *values)


def _append(data: bytearray, part: bytes) -> int:
    """Append a part at an even offset; return the offset."""
    data += bytes(len(data) % 2)
    data += part
    return len(data) - len(part)
