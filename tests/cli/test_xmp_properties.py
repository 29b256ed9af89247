"""Properties in XMP packets: all bytes outside of the changed properties stay the same."""

from __future__ import annotations

import difflib
import random
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from sidecar_shapes import COMPACT, DARKTABLE_4, DARKTABLE_5, DIGIKAM, EXIFTOOL, SHAPES

from captioner.cli.batch.xmp_properties import (
    DC,
    EXTENSION,
    OWN,
    WRITER,
    Entry,
    Origin,
    read_property,
    read_text,
    write_entry,
)
from captioner.cli.batch.xmp_tree import RDF
from captioner.errors import ImageError

TEXT = "a dog & a “cat” <run>"
ORIGIN = Origin("bundled", "1.0", "0123456789abcdef", "2026-01-02T03:04:05+00:00")
ENTRY = Entry(TEXT, ("dog", "beach"), ORIGIN)
LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def write(packet: str, entry: Entry = ENTRY, *, overwrite: bool = False) -> str:
    """Return a packet with an entry that replaces no description; it must be well-formed."""
    data, kept = write_entry(packet.encode(), entry, overwrite=overwrite)
    assert kept == ""
    assert data is not None
    ET.fromstring(data)
    return data.decode()


def items(packet: str, name: str) -> list[tuple[str | None, str | None]]:
    """Return language and text of the list items of a property of Dublin Core."""
    (element,) = ET.fromstring(packet.encode()).iter(f"{{{DC}}}{name}")
    return [(item.get(LANG), item.text) for item in element.iter(f"{{{RDF}}}li")]


def removed(before: str, after: str) -> list[str]:
    """Return the lines that a change has removed."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line[2:].strip() for line in lines if line.startswith("- ")]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_entry_is_written_and_only_its_properties_change(shape):
    before = SHAPES[shape]
    after = write(before, overwrite=True)
    assert read_text(after.encode()) == TEXT
    assert {"dog", "beach"} <= {text.lower() for _, text in items(after, "subject")}
    assert read_property(after.encode(), WRITER) == "captioner 1.0 (bundled)"
    assert read_property(after.encode(), (OWN, "Date")) == ORIGIN.date
    gone = {
        "digiKam": ['<rdf:li xml:lang="x-default">a photograph by Ann</rdf:li>'],
        "exiftool": ["<photoshop:CaptionWriter>Ann</photoshop:CaptionWriter>"],
    }.get(shape, [])
    assert shape == "compact" or removed(before, after) == gone
    if not gone:  # Without what was inserted, the packet is the old one, byte for byte.
        left = iter(after)
        assert all(character in left for character in before)
    # The same entry of a later run changes nothing, not even the date.
    later = replace(ENTRY, origin=replace(ORIGIN, date="2030-01-01T00:00:00+00:00", version="2"))
    assert write(after, later) == after


def test_a_description_of_others_is_kept_and_keywords_are_added():
    data, kept = write_entry(DIGIKAM.encode(), ENTRY)
    assert kept == "a photograph by Ann"
    after = data.decode()
    assert removed(DIGIKAM, after) == []
    expected = [("de-DE", "ein Hund"), ("x-default", kept), ("fr-FR", "un chien")]
    assert items(after, "description") == expected
    assert [text for _, text in items(after, "subject")] == ["Strand", "dog", "beach"]
    # The writer is that of the description.
    assert read_property(data, WRITER) == ""
    assert read_property(data, (OWN, "Model")) == "bundled"
    assert write_entry(data, ENTRY) == (data, kept)


def test_other_languages_and_their_order_are_kept():
    after = write(DIGIKAM, overwrite=True)
    expected = [("de-DE", "ein Hund"), ("x-default", TEXT), ("fr-FR", "un chien")]
    assert items(after, "description") == expected
    only_german = re.sub(r"\s*<rdf:li xml:lang=\"(x-d|fr).*", "", DIGIKAM)
    assert write_entry(only_german.encode(), ENTRY).kept == "ein Hund"
    after = write(only_german, overwrite=True)
    assert items(after, "description") == [("x-default", TEXT), ("de-DE", "ein Hund")]
    assert removed(only_german, after) == []


def test_existing_keywords_are_not_repeated():
    after = write(DARKTABLE_5)
    assert [text for _, text in items(after, "subject")] == ["zebra", "Dog", "beach"]
    hierarchy = re.search(r"<lr:hierarchicalSubject>.*</lr:hierarchicalSubject>", after, re.S)
    assert hierarchy[0] in DARKTABLE_5
    entry = Entry(keywords=("Zebra", "cat", "cat", " "))
    assert [text for _, text in items(write(after, entry), "subject")][2:] == ["beach", "cat"]


FORMS = {
    "attribute": ('dc:description="%s" dc:subject="Ann" photoshop:CaptionWriter="x"', ""),
    "single quotes": ("dc:description='%s' dc:subject = 'Ann'", ""),
    "text": ("", "<dc:description>%s</dc:description><dc:subject>Ann</dc:subject>"),
    "empty": (
        'photoshop:CaptionWriter=""',
        "<dc:description/><dc:subject><rdf:Bag/></dc:subject>",
    ),
    "empty list": (
        "",
        "<dc:description><rdf:Alt></rdf:Alt></dc:description><dc:subject/><photoshop:CaptionWriter/>",
    ),
    "empty item": (
        "",
        "<dc:description><rdf:Alt><rdf:li xml:lang='x-default'/></rdf:Alt></dc:description>",
    ),
    "no language": (
        "",
        "<dc:description><rdf:Alt><rdf:li>%s</rdf:li></rdf:Alt></dc:description>",
    ),
    "sequence": ("", "<dc:subject><rdf:Seq><rdf:li>Ann</rdf:li></rdf:Seq></dc:subject>"),
    "cdata": (
        "",
        "<dc:description><rdf:Alt><rdf:li xml:lang='x-default'><![CDATA[%s]]></rdf:li></rdf:Alt>"
        "</dc:description>",
    ),
}


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_properties(form, line_break):
    attributes, elements = FORMS[form]
    packet = f"""<?xml version='1.0'?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- > -->
<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" {attributes} a:b=">" xmlns:a="urn:a"
 xmlns:dc="{DC}" xmlns:photoshop="{WRITER[0]}">
 <a:c>kept</a:c>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>""".replace("\n", line_break)
    if "%s" in packet:
        packet = packet.replace("%s", "a boat")
        assert write_entry(packet.encode(), ENTRY).kept == "a boat"
    after = write(packet, overwrite=True)
    assert items(after, "description") == [("x-default", TEXT)]
    expected = ["Ann"] * ("Ann" in packet) + ["dog", "beach"]
    assert [text for _, text in items(after, "subject")] == expected
    assert read_property(after.encode(), WRITER) == "captioner 1.0 (bundled)"
    assert after.count("CaptionWriter=") + after.count("</photoshop:CaptionWriter>") == 1
    assert "<a:c>kept</a:c>" in after
    assert 'a:b=">"' in after
    assert "boat" not in after
    if line_break == "\r\n":
        assert "\n" not in after.replace("\r\n", "")
    assert write(after) == after


@pytest.mark.parametrize(
    "packet",
    [
        f'<rdf:RDF xmlns:rdf="{RDF}"/>',
        f'<RDF xmlns="{RDF}"></RDF>',
        f'<x><rdf:RDF xmlns:rdf="{RDF}">\n</rdf:RDF></x>',
        f'<rdf:RDF xmlns:rdf="{RDF}" xmlns:dc="urn:other"><rdf:Description/></rdf:RDF>',
        "\0 \n" + COMPACT + "\n" + " " * 20 + "\0",
        "\ufeff" + DARKTABLE_4,
    ],
)
def test_packets_without_properties(packet):
    data, _ = write_entry(packet.encode(), ENTRY)
    assert read_text(data) == TEXT
    assert read_property(data, (OWN, "Version")) == "1.0"
    if packet[0] not in "\0\ufeff":
        assert items(data.decode(), "description") == [("x-default", TEXT)]


def test_a_new_packet_is_complete_and_an_empty_entry_writes_none():
    data, _ = write_entry(None, replace(ENTRY, extension="CR2"))
    assert items(data.decode(), "description") == [("x-default", TEXT)]
    assert read_property(data, EXTENSION) == "CR2"
    assert write_entry(None, Entry(origin=ORIGIN)) == (None, "")
    assert write_entry(EXIFTOOL.encode(), Entry(origin=ORIGIN)).data == EXIFTOOL.encode()


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        ("", "cannot be read"),
        (DARKTABLE_4[:900], "cannot be read"),
        (DARKTABLE_4.replace("</darktable:history>", "", 1), "cannot be read"),
        (DARKTABLE_4.replace('xmlns:darktable="', 'xmlns:other="'), "unbound prefix darktable"),
        (DARKTABLE_4.replace("Rating", "\x00Rating"), "cannot be read"),
        (DARKTABLE_4.replace("a &amp; b", "a &undefined; b"), "cannot be read"),
        (DARKTABLE_4.replace("<x:", '<!DOCTYPE x [<!ENTITY a "b">]><x:', 1), "DOCTYPE"),
        ("<x/>", "without rdf:RDF"),
    ],
)
def test_damaged_packets_raise_one_error(packet, message):
    with pytest.raises(ImageError, match=message):
        write_entry(packet.encode(), ENTRY)


def test_random_damage_raises_only_the_error_of_images():
    draw = random.Random(0)
    for _ in range(400):
        data = bytearray(draw.choice(list(SHAPES.values())).encode())
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.choice(b"<>/\"'= &\x00\xffa")
        try:
            written, _ = write_entry(bytes(data), ENTRY, overwrite=True)
        except ImageError:
            continue
        assert read_text(written) == TEXT


def test_a_description_with_qualifiers_is_kept():
    item = '<rdf:li rdf:parseType="Resource"><rdf:value>mine</rdf:value></rdf:li>'
    packet = DARKTABLE_4.replace(
        "<darktable:masks_history>",
        f'<dc:description xmlns:dc="{DC}"><rdf:Alt>{item}</rdf:Alt></dc:description>'
        "<darktable:masks_history>",
    )
    data, kept = write_entry(packet.encode(), Entry(TEXT))
    assert (data.decode(), kept) == (packet, "mine")


def test_deeply_nested_properties_are_kept():
    deep = "<a>" * 20000 + "</a>" * 20000
    packet = DARKTABLE_4.replace("<rdf:Seq/>", deep)
    assert deep in write_entry(packet.encode(), ENTRY).data.decode()
