"""Descriptions in image files: pixels and other metadata do not change."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from PIL import Image
from tiny import picture

from captioner.cli.batch.xmp import write_metadata
from captioner.cli.batch.xmp_properties import Entry
from captioner.errors import ImageError

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DC = "{http://purl.org/dc/elements/1.1/}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
TEXT = "a dog & a “cat” <run>"
OLD = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:my="http://example.org/my/">
<my:Note>kept</my:Note><dc:creator><rdf:Seq><rdf:li>Ann</rdf:li></rdf:Seq></dc:creator>%s
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
DESCRIPTION = (
    '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">%s</rdf:li>'
    '<rdf:li xml:lang="de">ein Hund</rdf:li></rdf:Alt></dc:description>'
)


def write_description(data: bytes, text: str, *, overwrite: bool = False) -> bytes:
    """Return a file with a description; if another one is kept, the file must not change."""
    after, kept = write_metadata(data, Entry(text), overwrite=overwrite)
    assert not kept or after == data
    return after


def kept_description(data: bytes) -> str:
    return write_metadata(data, Entry(TEXT)).kept


def file_of(kind: str, xmp: bytes | None = None, **options) -> bytes:
    out, image = io.BytesIO(), picture(1)
    if xmp is not None:
        if kind == "PNG":
            from PIL.PngImagePlugin import PngInfo

            options["pnginfo"] = info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=options.pop("zip", False))
        else:
            options["xmp"] = xmp
    if options.pop("alpha", False):
        image.putalpha(77)
    image.save(out, kind, **options)
    return out.getvalue()


def packet_of(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    image.load()
    found = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    return found.encode() if isinstance(found, str) else found


def texts_of(data: bytes) -> dict[str, str]:
    root = ET.fromstring(packet_of(data).decode())
    (found,) = root.iter(f"{DC}description")
    return {li.get(LANG): li.text for li in found.iter(f"{RDF}li")}


def same_pixels(one: bytes, other: bytes) -> bool:
    a, b = (Image.open(io.BytesIO(data)) for data in (one, other))
    return a.mode == b.mode and np.array_equal(np.asarray(a), np.asarray(b))


KINDS = {
    "jpeg": ("JPEG", {}),
    "jpeg with exif": ("JPEG", {"exif": Image.Exif(), "icc_profile": b"p" * 3000, "dpi": (7, 7)}),
    "progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "png with alpha": ("PNG", {"alpha": True}),
    "webp": ("WEBP", {}),
    "webp lossless": ("WEBP", {"lossless": True}),
    "webp with alpha": ("WEBP", {"lossless": True, "alpha": True}),
    "webp lossy with alpha": ("WEBP", {"alpha": True}),
    "webp with profile": ("WEBP", {"icc_profile": b"p" * 301}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_is_written_and_the_pixels_do_not_change(kind):
    before = file_of(KINDS[kind][0], **KINDS[kind][1])
    after = write_description(before, TEXT)
    assert texts_of(after) == {"x-default": TEXT}
    assert same_pixels(before, after)
    image, old = (Image.open(io.BytesIO(data)) for data in (after, before))
    assert image.info.get("icc_profile") == old.info.get("icc_profile")
    assert image.getexif() == old.getexif()
    assert write_description(after, TEXT) == after
    # The longer text leaves no trace.
    longer = write_description(after, TEXT * 50, overwrite=True)
    assert write_description(longer, TEXT, overwrite=True) == after


@pytest.mark.parametrize("options", [{}, {"zip": True}, {"exif": Image.Exif()}])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "there", ["", DESCRIPTION % TEXT.replace("&", "&amp;").replace("<", "&lt;")]
)
def test_other_properties_are_kept(kind, there, options):
    if "zip" in options and kind != "PNG":
        return
    before = file_of(kind, (OLD % there).encode(), **options)
    after = write_description(before, TEXT)
    assert same_pixels(before, after)
    packet = packet_of(after).decode()
    (node,) = ET.fromstring(packet).iter(f"{RDF}Description")
    assert node.get("{http://ns.adobe.com/xap/1.0/}Rating") == "4"
    assert node.findtext("{http://example.org/my/}Note") == "kept"
    assert node.findtext(f"{DC}creator/{RDF}Seq/{RDF}li") == "Ann"
    assert "<my:Note" in packet  # Some readers need the usual prefix.
    expected = {"x-default": TEXT} | ({"de": "ein Hund"} if there else {})
    assert texts_of(after) == expected
    # A file that has the description already is not changed.
    assert after == before or after.count(b"W5M0MpCehiHzreSzNTczkc9d") == 1


@pytest.mark.parametrize(
    "there", [DESCRIPTION % "a boat", "<dc:description>a boat</dc:description>"]
)
def test_another_description_is_replaced_only_with_overwrite(there):
    before = file_of("JPEG", (OLD % there).encode())
    assert write_description(before, TEXT) == before
    assert kept_description(before) == "a boat"
    assert texts_of(write_description(before, TEXT, overwrite=True))["x-default"] == TEXT


def test_a_description_in_an_attribute_is_detected():
    old = OLD.replace("xmp:Rating", 'dc:description="a boat" xmp:Rating') % ""
    before = file_of("PNG", old.encode())
    assert write_description(before, TEXT) == before
    assert kept_description(before) == "a boat"
    assert b"a boat" not in write_description(before, TEXT, overwrite=True)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (BOMB, "DOCTYPE"),
        ("<x:xmpmeta", "cannot be read"),
        ("<x/>", "rdf:RDF"),
        ((OLD % "").replace("kept", "k" * 2**20), "more than"),
    ],
    ids=["bomb", "torn", "foreign", "large"],
)
def test_unreadable_packets_are_not_replaced(packet, message):
    with pytest.raises(ImageError, match=message):
        write_description(file_of("PNG", packet.encode(), zip=True), TEXT)


def test_a_utf16_packet_and_a_long_text_are_errors():
    with pytest.raises(ImageError, match="cannot be read"):
        write_description(file_of("JPEG", (OLD % "").encode("utf-16")), TEXT)
    with pytest.raises(ImageError, match="65533"):
        write_description(file_of("JPEG"), "long " * 20000)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_the_error_of_other_formats_names_the_supported_ones(kind):
    with pytest.raises(ImageError, match="JPEG, PNG or WebP"):
        write_description(file_of(kind), TEXT)


def test_bytes_before_and_after_the_image_are_kept():
    jpeg = file_of("JPEG", exif=Image.Exif()) + b"a trailer"
    assert write_description(jpeg, TEXT).endswith(b"\xff\xd9a trailer")
    filled = jpeg[:2] + b"\xff" * 3 + jpeg[2:]  # Fill bytes before a marker.
    assert texts_of(write_description(filled, TEXT)) == {"x-default": TEXT}
    for kind in ("PNG", "WEBP"):
        assert write_description(file_of(kind) + b"a trailer", TEXT).endswith(b"a trailer")


def test_an_mpf_index_of_images_stays_valid():
    """Offsets in the index are relative to its position."""
    index = b"\xff\xe2" + struct.pack(">H", 6 + 2) + b"MPF\0ab"
    jpeg = file_of("JPEG")
    before = jpeg[:20] + index + jpeg[20:]
    after = write_description(before, TEXT)
    assert after.index(b"MPF\0") - after.index(b"\xff\xdb") == before.index(
        b"MPF\0"
    ) - before.index(b"\xff\xdb")
    packet = after[20 : after.index(b"MPF\0") - 4]
    with pytest.raises(ImageError, match="index"):
        write_description(jpeg[:20] + index + packet + jpeg[20:], "other")


def test_checksums_are_correct():
    data = write_description(file_of("PNG"), TEXT)
    at = data.index(b"iTXt")
    (size,) = struct.unpack(">I", data[at - 4 : at])
    (checksum,) = struct.unpack(">I", data[at + 4 + size : at + 8 + size])
    assert checksum == zlib.crc32(data[at : at + 4 + size])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_files_raise_only_typed_errors(kind):
    draw = random.Random(0)
    data = file_of(kind, (OLD % "").encode())
    for _ in range(300):
        bad = bytearray(data[: draw.randrange(1, len(data))] if draw.random() < 0.5 else data)
        for _ in range(draw.randrange(5)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        with contextlib.suppress(ImageError):
            write_description(bytes(bad), TEXT)
