"""Description, keywords and provenance in an XMP packet, whose other bytes do not change.

The properties are dc:description in the language x-default, dc:subject, and photoshop:CaptionWriter
(IPTC's "Description Writer"). Properties in the namespace `captioner` state the model and the date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from captioner.cli.batch.xmp_tree import (
    RDF,
    XML,
    Edit,
    Element,
    Name,
    apply_edits,
    indentation,
    insert_child,
    parse_packet,
)

DC, PHOTOSHOP = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/photoshop/1.0/"
OWN = "urn:captioner:xmp/1.0/"
DESCRIPTION, SUBJECT = (DC, "description"), (DC, "subject")
WRITER = (PHOTOSHOP, "CaptionWriter")
EXTENSION = (PHOTOSHOP, "SidecarForExtension")
"""The suffix of the image that `photo.xmp` belongs to, as Adobe's programs write it."""

_PREFIXES = {DC: "dc", PHOTOSHOP: "photoshop", OWN: "captioner", RDF: "rdf"}
_LANG, _ITEM, _DEFAULT = (XML, "lang"), (RDF, "li"), "x-default"
_LISTS = {(RDF, name) for name in ("Alt", "Bag", "Seq")}
_NEW = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""
    xmlns:dc="{DC}"
    xmlns:photoshop="{PHOTOSHOP}"
    xmlns:captioner="{OWN}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@dataclass(frozen=True)
class Origin:
    """What made a description, and when; each field is a property in the namespace of captioner."""

    model: str
    version: str
    """The version of captioner."""
    revision: str
    """The commit of a checkpoint of the Hub, or else a digest of the checkpoint."""
    date: str
    """The date and time of the run in the format of ISO 8601."""


@dataclass(frozen=True)
class Entry:
    """What a run writes for one image; an empty description or keyword list changes nothing."""

    description: str = ""
    keywords: tuple[str, ...] = ()
    origin: Origin | None = None
    extension: str = ""
    """The suffix of the image without its dot (SidecarForExtension), for a new file."""
    embedded_description: str = ""
    """The description in IPTC or EXIF, which is kept like one in XMP if there is none in XMP."""
    embedded_keywords: tuple[str, ...] = ()
    """The keywords in IPTC and EXIF, which new keywords in XMP would hide."""


class Changed(NamedTuple):
    """A packet or a file after an entry was written."""

    data: bytes | None
    """None if there was no packet and nothing to write."""
    kept: str
    """Another description that was there and has been kept, or an empty text."""


def write_entry(packet: bytes | None, entry: Entry, *, overwrite: bool = False) -> Changed:
    """Write an entry into an XMP packet in UTF-8, or into a new one.

    Keywords are added to those of the packet, after those in IPTC and EXIF. Another description is
    replaced only with `overwrite`. Writer, model and date are written with what they are about: if
    a packet has the description and the keywords already, it is returned as it is.

    Raises:
        ImageError: The packet cannot be read.
    """
    text = clean_text(entry.description)
    data = old = _NEW.encode() if packet is None else packet
    in_packet = read_text(data)
    present = in_packet or entry.embedded_description
    is_kept = bool(text) and present not in ("", text) and not overwrite
    is_written = bool(text) and in_packet != text and not is_kept
    if is_written:
        data = _set_description(data, text)
    keywords = [clean_text(word) for word in entry.keywords]
    data = _add_keywords(data, keywords, entry.embedded_keywords)
    kept = present if is_kept else ""
    if data != old and (origin := entry.origin):
        if is_written:
            data = _set_text(data, WRITER, f"captioner {origin.version} ({origin.model})")
        for name, value in asdict(origin).items():
            data = _set_text(data, (OWN, name.capitalize()), clean_text(value))
    if entry.extension:
        data = _set_text(data, EXTENSION, entry.extension)
    return Changed(packet if data == old else data, kept)


def clean_text(text: str) -> str:
    """Return a text on one line, without characters that XML does not allow."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def read_text(packet: bytes) -> str:
    """Return the description in x-default, or else in any language; empty if there is none."""
    homes = parse_packet(packet).children
    texts = [home.attributes.get(DESCRIPTION, "") for home in homes]
    for element in _elements(homes, DESCRIPTION):
        items = [item for item in element.walk() if item.name == _ITEM]
        items.sort(key=lambda item: item.attributes.get(_LANG) != _DEFAULT)
        texts += [item.read() for item in items] or [element.read()]
    return next((" ".join(text.split()) for text in texts if text.strip()), "")


def read_property(packet: bytes, name: Name) -> str:
    """Return the value of a simple property; empty if there is none."""
    homes = parse_packet(packet).children
    values = [home.attributes[name] for home in homes if name in home.attributes]
    return next(iter([*values, *(element.text for element in _elements(homes, name))]), "").strip()


def read_origin(packet: bytes) -> Origin | None:
    """Return what made a description, None if a packet does not state it."""
    names = [field.name for field in fields(Origin)]
    values = {name: read_property(packet, (OWN, name.capitalize())) for name in names}
    return Origin(**values) if all(values.values()) else None


def _elements(homes: list[Element], name: Name) -> list[Element]:
    return [element for home in homes for element in home.find(name)]


def _set_description(data: bytes, text: str) -> bytes:
    """Return a packet with a description in x-default; those in other languages are kept."""
    rdf = parse_packet(data)
    elements = _elements(rdf.children, DESCRIPTION)
    edits: list[Edit] = [
        (*h.spans[DESCRIPTION], "") for h in rdf.children if DESCRIPTION in h.spans
    ]
    alternatives = _find_list(elements)
    if alternatives is None:
        edits += [(element.start, element.end, "") for element in elements]
        return _add_list(
            data, edits, DESCRIPTION, "Alt", [f' xml:lang="{_DEFAULT}">{escape(text)}']
        )
    edits += [(x.start, x.end, "") for x in elements if alternatives not in x.children]
    item = _list_item(alternatives)
    line = f'<{item} xml:lang="{_DEFAULT}">{escape(text)}</{item}>'
    items = alternatives.find(_ITEM)
    defaults = [x for x in items if x.attributes.get(_LANG, _DEFAULT) == _DEFAULT]
    if defaults:
        edits.append((defaults[0].start, defaults[0].end, line))
        edits += [(item.start, item.end, "") for item in defaults[1:]]
    elif items:  # x-default comes first.
        start = items[0].start
        edits.append((start, start, line + indentation(data, start)))
    else:
        edits.append(insert_child(data, alternatives, [line]))
    return apply_edits(data, edits)


def _add_keywords(data: bytes, keywords: list[str], embedded: Sequence[str]) -> bytes:
    """Return a packet with further keywords; its own keywords and their order are kept.

    Keywords in IPTC and EXIF (`embedded`) come before those that are new to the packet. Without
    new ones, they are not added, so that those deleted from the packet do not return.
    """
    rdf = parse_packet(data)
    elements = _elements(rdf.children, SUBJECT)
    items = [x.read() for element in elements for x in element.walk() if x.name == _ITEM]
    homes = [home for home in rdf.children if SUBJECT in home.spans]
    # Forms that the standard does not allow: an attribute, or text without a list.
    plain = [home.attributes[SUBJECT] for home in homes]
    plain += [element.text for element in elements if not element.children]
    plain = [word for word in map(clean_text, plain) if word]
    known = {clean_text(word).casefold() for word in [*items, *plain]}
    unknown = [word for word in keywords if word and word.casefold() not in known]
    if not unknown:
        return data
    new = []
    for word in [*embedded, *unknown]:
        if word.casefold() not in known:
            known.add(word.casefold())
            new.append(word)
    bag = _find_list(elements)
    if bag is not None:
        item = _list_item(bag)
        lines = [f"<{item}>{escape(word)}</{item}>" for word in new]
        return apply_edits(data, [insert_child(data, bag, lines)])
    edits: list[Edit] = [(*home.spans[SUBJECT], "") for home in homes]
    edits += [(element.start, element.end, "") for element in elements if not element.children]
    return _add_list(data, edits, SUBJECT, "Bag", [f">{escape(word)}" for word in [*plain, *new]])


def _set_text(data: bytes, name: Name, value: str) -> bytes:
    """Return a packet with a simple property, in the form that the packet has it."""
    rdf = parse_packet(data)
    for home in rdf.children:
        if name in home.spans:
            start, end = home.spans[name]
            key = data[start:end].split(b"=")[0].decode()
            return apply_edits(data, [(start, end, f"{key}={quoteattr(value)}")])
    for element in _elements(rdf.children, name):
        if element.is_empty_tag:
            slash = data.rindex(b"/", element.start, element.body)
            edit = (slash, element.body, f">{escape(value)}</{element.tag}>")
        else:
            edit = (element.body, element.close, escape(value))
        return apply_edits(data, [edit])
    data, home = _with_home(data)
    tag, declaration = _tag(home, name)
    return apply_edits(
        data, [insert_child(data, home, [f"<{tag}{declaration}>{escape(value)}</{tag}>"])]
    )


def _add_list(data: bytes, edits: list[Edit], name: Name, kind: str, items: list[str]) -> bytes:
    """Apply edits, then add a property with a list; each item is the rest of its start tag."""
    data, home = _with_home(apply_edits(data, edits))
    tag, declaration = _tag(home, name)
    container, more = _tag(home, (RDF, kind))
    item = _tag(home, _ITEM)[0]
    lines = [f"<{tag}{declaration}{more}>", f" <{container}>"]
    lines += [f"  <{item}{text}</{item}>" for text in items]
    lines += [f" </{container}>", f"</{tag}>"]
    return apply_edits(data, [insert_child(data, home, lines)])


def _with_home(data: bytes) -> tuple[bytes, Element]:
    """Return a packet and its first rdf:Description, which is added if there is none."""
    rdf = parse_packet(data)
    if not rdf.children:
        tag, declaration = _tag(rdf, (RDF, "Description"))
        about = f"{tag.rpartition(':')[0]}:about"
        line = f'<{tag}{declaration} {about}=""/>'
        data = apply_edits(data, [insert_child(data, rdf, [line])])
        rdf = parse_packet(data)
    return data, rdf.children[0]


def _find_list(elements: list[Element]) -> Element | None:
    lists = (child for element in elements for child in element.children if child.name in _LISTS)
    return next(lists, None)


def _list_item(container: Element) -> str:
    """Return the tag of the items of a list, with the prefix of the list."""
    prefix, colon, _ = container.tag.rpartition(":")
    return f"{prefix}{colon}li"


def _tag(home: Element, name: Name) -> tuple[str, str]:
    """Return a tag with a prefix, and the declaration of the prefix if it is not bound."""
    namespace, local = name
    for prefix, bound in home.prefixes.items():
        if prefix and bound == namespace:
            return f"{prefix}:{local}", ""
    prefix = _PREFIXES[namespace]
    return f"{prefix}:{local}", f' xmlns:{prefix}="{namespace}"'
