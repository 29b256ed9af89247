"""The XMP packets in JPEG, PNG and WebP files, whose pixels do not change.

Adobe's XMP specification, part 3, defines where the packet is: in an APP1 segment of JPEG, in an
iTXt chunk `XML:com.adobe.xmp` of PNG and in a chunk `XMP ` of WebP.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

from captioner.cli.batch.xmp_properties import Changed, Entry, read_text, write_entry
from captioner.errors import ImageError

Change = Callable[[bytes | None], bytes | None]
"""From the XMP packet of a file to the new packet; None is no packet."""

Replace = Callable[[bytes | None], bytes]
"""As `Change`, with an empty packet for None."""

_LARGEST = 2**20
"""Maximum size of a packet in bytes; that of a photograph has a few thousand."""

_APP1 = b"http://ns.adobe.com/xap/1.0/\0"
_ITXT = b"XML:com.adobe.xmp\0"
_XMP, _ALPHA = 0x04, 0x10  # Flags in the VP8X chunk of WebP.


def read_packet(data: bytes) -> bytes | None:
    """Return the XMP packet of an image file, None if it has none; raise ImageError."""
    packets: list[bytes | None] = []

    def store(packet: bytes | None) -> bytes | None:
        packets.append(packet)
        return packet

    _rewrite(data, store)
    return packets[0]


def read_description(data: bytes) -> str:
    """Return the XMP description of an image file, empty if it has none; raise ImageError."""
    packet = read_packet(data)
    return "" if packet is None else read_text(packet)


def write_metadata(data: bytes, entry: Entry, *, overwrite: bool = False) -> Changed:
    """Return the bytes of an image file with an entry in its XMP packet.

    A file that has the entry is returned as it is.

    Raises:
        ImageError: XMP is not supported for the format, or the file or its packet is damaged.
    """
    kept = ""

    def change(packet: bytes | None) -> bytes | None:
        nonlocal kept
        changed, kept = write_entry(packet, entry, overwrite=overwrite)
        return changed

    return Changed(_rewrite(data, change), kept)


def _rewrite(data: bytes, change: Change) -> bytes:
    """Return the bytes of an image file with a new XMP packet; raise ImageError."""
    is_same = False

    def check(packet: bytes | None) -> bytes:
        nonlocal is_same
        if packet is not None and len(packet) > _LARGEST:
            raise ImageError(f"has an XMP packet of more than {_LARGEST} bytes")
        new = change(packet)
        is_same = new == packet
        return new or b""

    try:
        if data.startswith(b"\xff\xd8"):
            written = _jpeg(data, check)
        elif data.startswith(b"\x89PNG\r\n\x1a\n"):
            written = _png(data, check)
        elif re.match(rb"RIFF....WEBP", data, re.DOTALL):
            written = _webp(data, check)
        else:
            problem = "has a format without support for XMP; expected JPEG, PNG or WebP"
            raise ImageError(f"{problem}; --xmp-sidecar writes it to a file beside the image")
    except (struct.error, IndexError, zlib.error):
        raise ImageError("is damaged or truncated; XMP cannot be written to it") from None
    return data if is_same else written


def _jpeg(data: bytes, change: Replace) -> bytes:
    at, start, end, packet = 2, None, None, None
    indexed = False
    while (marker := data[at + 1]) not in (0xD9, 0xDA):  # End of image, or start of the pixels.
        if data[at] != 0xFF:
            raise IndexError
        # Fill bytes and markers without data.
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        (size,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + size]
        if marker == 0xE1 and body.startswith(_APP1) and packet is None:
            # Offsets in an index of further images (MPF) are relative to the index.
            if indexed:
                problem = "has its XMP after an index of images, which a new one would break"
                raise ImageError(problem)
            start, end, packet = at, at + 2 + size, body[len(_APP1) :]
        elif start is None and not (marker == 0xE0 or body.startswith(b"Exif\0")):
            start = end = at
        indexed = indexed or (marker == 0xE2 and body.startswith(b"MPF\0"))
        at += 2 + size
    start, end = (at, at) if start is None else (start, end)
    body = _APP1 + change(packet)
    if len(body) > 0xFFFD:
        raise ImageError(f"would have {len(body)} bytes of XMP; a JPEG segment holds 65533")
    return data[:start] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[end:]


def _png(data: bytes, change: Replace) -> bytes:
    at, packet, kept, kind = 8, None, [data[:8]], b""
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + size]
        if len(chunk) != 12 + size:
            raise IndexError
        at += len(chunk)
        if kind == b"iTXt" and chunk[8:].startswith(_ITXT):
            packet = _itxt(chunk[8 + len(_ITXT) : -4])
        else:
            kept.append(chunk)
    body = b"iTXt" + _ITXT + bytes(4) + change(packet)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"".join([*kept[:2], chunk, *kept[2:], data[at:]])


def _itxt(body: bytes) -> bytes:
    """Return the text of an iTXt chunk from the bytes after its keyword."""
    packed, rest = body[0], body[2:]
    text = rest.split(b"\0", 2)[2]  # Language and translated keyword come first.
    return zlib.decompressobj().decompress(text, _LARGEST + 1) if packed else text


def _webp(data: bytes, change: Replace) -> bytes:
    (size,) = struct.unpack_from("<I", data, 4)
    end, at, packet = 8 + size, 12, None
    if len(data) < end:
        raise IndexError
    chunks: list[tuple[bytes, bytes]] = []
    while at < end:
        name, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        if len(body) != size:
            raise IndexError
        at += 8 + size + size % 2
        if name == b"XMP ":
            packet = body
        else:
            chunks.append((name, body))
    if chunks[0][0] != b"VP8X":
        chunks.insert(0, (b"VP8X", _vp8x(*chunks[0])))
    head = chunks[0][1]
    chunks[0] = (b"VP8X", bytes([head[0] | _XMP]) + head[1:])
    chunks.append((b"XMP ", change(packet)))
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for name, body in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body + data[end:]


def _vp8x(name: bytes, body: bytes) -> bytes:
    """Return the VP8X chunk, which a simple WebP lacks and metadata need."""
    if name == b"VP8L":
        (bits,) = struct.unpack_from("<I", body, 1)
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    elif name == b"VP8 ":
        sizes = struct.unpack_from("<2H", body, 6)
        width, height, alpha = *((x & 0x3FFF) - 1 for x in sizes), 0
    else:
        raise IndexError
    sizes = width.to_bytes(3, "little") + height.to_bytes(3, "little")
    return bytes([_ALPHA * alpha, 0, 0, 0]) + sizes
