"""Descriptions in the XMP metadata of JPEG, PNG and WebP files, whose pixels do not change.

Adobe's XMP specification, part 3, defines where the packet is: in an APP1 segment of JPEG, in an
iTXt chunk `XML:com.adobe.xmp` of PNG and in a chunk `XMP ` of WebP. The text is dc:description
in the language x-default. All other properties of a packet are kept.
"""

from __future__ import annotations

import io
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable
from functools import partial

from captioner.errors import ImageError

Change = Callable[[bytes | None], bytes]
"""From the XMP packet of a file, if it has one, to the new packet."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_PREFIXES = {"x": "adobe:ns:meta/", "rdf": _RDF, "dc": _DC}
_LARGEST = 2**20
"""Maximum size of a packet in bytes; that of a photograph has a few thousand."""

_APP1 = b"http://ns.adobe.com/xap/1.0/\0"
_ITXT = b"XML:com.adobe.xmp\0"
_XMP, _ALPHA = 0x04, 0x10  # Flags in the VP8X chunk of WebP.


class DescriptionExists(Exception):
    """The file already has another description."""


def read_description(data: bytes) -> str:
    """Return the XMP description of an image file, empty if it has none; raise ImageError."""
    packets: list[bytes] = []

    def store(packet: bytes | None) -> bytes:
        packets.extend([packet] if packet is not None else [])
        return b""

    _rewrite(data, store)
    return _text_of(_read(packets[0])[1]) if packets else ""


def write_description(data: bytes, text: str, *, overwrite: bool = False) -> bytes:
    """Return the bytes of an image file with `text` as its description.

    Raises:
        ImageError: XMP is not supported for the format, or the file or its packet is damaged.
        DescriptionExists: There is another description, and `overwrite` is not set.
    """
    return _rewrite(data, partial(_packet, text=text, overwrite=overwrite))


def _rewrite(data: bytes, change: Change) -> bytes:
    """Return the bytes of an image file with a new XMP packet; raise ImageError."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data, change)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data, change)
        if re.match(rb"RIFF....WEBP", data, re.DOTALL):
            return _webp(data, change)
    except (struct.error, IndexError, zlib.error):
        raise ImageError("is damaged or truncated; XMP cannot be written to it") from None
    raise ImageError("has a format without support for XMP; expected JPEG, PNG or WebP")


def _jpeg(data: bytes, change: Change) -> bytes:
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


def _png(data: bytes, change: Change) -> bytes:
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


def _webp(data: bytes, change: Change) -> bytes:
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


def _packet(packet: bytes | None, text: str, *, overwrite: bool) -> bytes:
    """Return a packet with the text and the other properties of the old packet."""
    text = "".join(c for c in " ".join(text.split()) if c.isprintable())
    if packet is None:
        root = ET.Element(f"{{{_PREFIXES['x']}}}xmpmeta")
        rdf = ET.SubElement(root, f"{{{_RDF}}}RDF")
    else:
        root, rdf = _read(packet)
        if _text_of(rdf) not in ("", text) and not overwrite:
            raise DescriptionExists(_text_of(rdf))
    _set(rdf, text)
    for prefix, uri in _PREFIXES.items():
        ET.register_namespace(prefix, uri)
    try:
        body = ET.tostring(root, encoding="unicode")
    except RecursionError:
        raise ImageError("has an XMP packet that is nested too deeply") from None
    head = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    return f'{head}\n{body}\n<?xpacket end="w"?>'.encode()


def _read(packet: bytes) -> tuple[ET.Element, ET.Element]:
    """Return the root of a packet and its rdf:RDF, and register its prefixes for writing."""
    if len(packet) > _LARGEST:
        raise ImageError(f"has an XMP packet of more than {_LARGEST} bytes")
    try:
        text = packet.decode("utf-8-sig").strip("\0 \t\r\n")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # Entities may expand, or read files.
            raise ImageError("has an XMP packet with a DOCTYPE, which is not read")
        for _, (prefix, uri) in ET.iterparse(io.StringIO(text), ["start-ns"]):
            if prefix and not re.fullmatch(r"ns\d+", prefix):
                ET.register_namespace(prefix, uri)
        root = ET.fromstring(text)
    except (UnicodeDecodeError, ET.ParseError) as error:
        raise ImageError(f"has an XMP packet that cannot be read ({error})") from None
    rdf = next(root.iter(f"{{{_RDF}}}RDF"), None)
    if rdf is None:
        raise ImageError("has an XMP packet without rdf:RDF")
    return root, rdf


def _text_of(rdf: ET.Element) -> str:
    """Return the description in x-default, or else in any language; empty if there is none."""
    texts = [node.get(_tag("description"), "") for node in rdf]
    for node in rdf.iterfind(f"*/{_tag('description')}"):
        items = sorted(node.iter(f"{{{_RDF}}}li"), key=lambda li: li.get(_LANG) != "x-default")
        texts += [item.text or "" for item in items] or [node.text or ""]
    return next((" ".join(text.split()) for text in texts if text.strip()), "")


def _set(rdf: ET.Element, text: str) -> None:
    """Set the description in x-default, and keep the other languages."""
    others = []
    for node in rdf:
        node.attrib.pop(_tag("description"), None)
        for old in node.findall(_tag("description")):
            items = old.iter(f"{{{_RDF}}}li")
            others += [li for li in items if li.get(_LANG, "x-default") != "x-default"]
            node.remove(old)
    about = f"{{{_RDF}}}about"
    home = next(iter(rdf), None)
    if home is None:
        home = ET.SubElement(rdf, f"{{{_RDF}}}Description", {about: ""})
    alternatives = ET.SubElement(ET.SubElement(home, _tag("description")), f"{{{_RDF}}}Alt")
    item = ET.SubElement(alternatives, f"{{{_RDF}}}li", {_LANG: "x-default"})
    item.text = text
    alternatives.extend(others)


def _tag(name: str) -> str:
    return f"{{{_DC}}}{name}"
