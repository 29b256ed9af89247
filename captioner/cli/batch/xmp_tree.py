"""The elements of an XMP packet with their positions, so that a part of its text can be replaced.

Positions are byte offsets in the packet. Text outside of the replaced parts stays identical.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from captioner.errors import ImageError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XML = "http://www.w3.org/XML/1998/namespace"
Name = tuple[str, str]
"""Namespace and local name."""
Edit = tuple[int, int, str]
"""Start and end of a part of a packet, and the text that replaces it."""

_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
_PADDING = b"\0 \t\r\n"


@dataclass
class Element:
    """An element with its positions: `<a b="c">`, the content from `body` to `close`, `</a>`."""

    tag: str
    """The name with its prefix, as it is written."""
    name: Name
    start: int
    body: int
    """End of the start tag."""
    prefixes: dict[str, str]
    """The prefixes that are bound here, with their namespaces."""
    attributes: dict[Name, str]
    spans: dict[Name, tuple[int, int]]
    """Start and end of each attribute with the white space before it."""
    close: int = 0
    end: int = 0
    text: str = ""
    """The text directly in the element."""
    children: list[Element] = field(default_factory=list)

    @property
    def is_empty_tag(self) -> bool:
        """True for `<a/>`, which has no end tag."""
        return self.close == self.body == self.end

    def walk(self) -> Iterator[Element]:
        """Yield this element and all below it, in their order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))

    def read(self) -> str:
        """Return the text in this element and in all below it."""
        return "".join(element.text for element in self.walk())

    def find(self, name: Name) -> list[Element]:
        """Return the children of a name."""
        return [child for child in self.children if child.name == name]


class _Builder:
    """Builds the tree of elements while expat parses a packet."""

    def __init__(self, data: bytes, offset: int) -> None:
        self.data, self.offset = data, offset
        self.open: list[Element] = []
        self.root: Element | None = None
        # The encoding overrides the one in the XML declaration, which may name that of a file.
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.finish
        self.parser.CharacterDataHandler = self.add_text
        self.parser.StartDoctypeDeclHandler = self.reject_doctype

    def start(self, tag: str, values: dict[str, str]) -> None:
        """Open an element whose start tag is at the position of the parser."""
        at = self.parser.CurrentByteIndex + self.offset
        end, places = at + 1 + len(tag.encode()), {}
        while match := _ATTRIBUTE.match(self.data, end):
            places[match[1].decode()] = match.span()
            end = match.end()
        body = self.data.index(b">", end) + 1
        prefixes = self.open[-1].prefixes if self.open else {"xml": XML}
        declared = {key[6:]: value for key, value in values.items() if _is_declaration(key)}
        prefixes = prefixes | declared if declared else prefixes
        names = {
            key: _resolve(key, prefixes, is_element=False)
            for key in values
            if not _is_declaration(key)
        }
        attributes = {name: values[key] for key, name in names.items()}
        spans = {name: places[key] for key, name in names.items()}
        name = _resolve(tag, prefixes, is_element=True)
        element = Element(tag, name, at, body, prefixes, attributes, spans)
        if self.open:
            self.open[-1].children.append(element)
        self.root = self.root or element
        self.open.append(element)

    def finish(self, tag: str) -> None:
        """Close the innermost element."""
        element = self.open.pop()
        if self.data[element.body - 2 : element.body] == b"/>":
            element.close = element.end = element.body
            return
        element.close = self.parser.CurrentByteIndex + self.offset
        element.end = self.data.index(b">", element.close) + 1

    def add_text(self, text: str) -> None:
        """Add text to the innermost element."""
        if self.open:
            self.open[-1].text += text

    def reject_doctype(self, *_: Any) -> None:
        """Raise ImageError."""
        # Entities may expand to gigabytes, or name files.
        raise ImageError("has an XMP packet with a DOCTYPE, which is not read")


def _is_declaration(attribute: str) -> bool:
    return attribute == "xmlns" or attribute.startswith("xmlns:")


def _resolve(tag: str, prefixes: dict[str, str], *, is_element: bool) -> Name:
    """Return the namespace and the local name; an attribute without a prefix has no namespace."""
    prefix, colon, local = tag.rpartition(":")
    if not colon:
        return (prefixes.get("", "") if is_element else ""), tag
    if prefix not in prefixes:
        raise ImageError(f"has an XMP packet that cannot be read (unbound prefix {prefix})")
    return prefixes[prefix], local


def parse_packet(data: bytes) -> Element:
    """Return rdf:RDF of an XMP packet in UTF-8; raise ImageError if it cannot be read."""
    start = len(data) - len(data.removeprefix(b"\xef\xbb\xbf").lstrip(_PADDING))
    builder = _Builder(data, start)
    try:
        data.decode()
        builder.parser.Parse(data[start:].rstrip(_PADDING), True)
    except (UnicodeDecodeError, expat.ExpatError, ValueError) as error:
        raise ImageError(f"has an XMP packet that cannot be read ({error})") from None
    elements = builder.root.walk() if builder.root else iter(())
    rdf = next((element for element in elements if element.name == (RDF, "RDF")), None)
    if rdf is None:
        raise ImageError("has an XMP packet without rdf:RDF")
    return rdf


def apply_edits(data: bytes, edits: list[Edit]) -> bytes:
    """Return a packet with parts replaced; insertions at one place keep their order.

    A line break in an inserted text becomes that of the packet.
    """
    line_break = b"\r\n" if b"\r\n" in data else b"\n"
    parts, at = [], 0
    for start, end, text in sorted(edits, key=lambda edit: edit[:2]):
        parts += [data[at:start], text.encode().replace(b"\n", line_break)]
        at = end
    return b"".join([*parts, data[at:]])


def insert_child(data: bytes, parent: Element, lines: list[str]) -> Edit:
    """Return the edit that appends lines of elements to the children of an element.

    The indentation is that of the last child, or else one space more than that of the parent. If
    they are on the line of another tag, no white space is added.
    """
    last = parent.children[-1] if parent.children else None
    outer = indentation(data, parent.start)
    indent = indentation(data, last.start) if last else outer and f"{outer} "
    text = "".join(indent + (line if indent else line.strip()) for line in lines)
    if last is not None:
        return last.end, last.end, text
    if parent.is_empty_tag:
        slash = data.rindex(b"/", parent.start, parent.body)
        return slash, parent.body, f">{text}{outer}</{parent.tag}>"
    return parent.body, parent.body, text + ("" if parent.close > parent.body else outer)


def indentation(data: bytes, at: int) -> str:
    """Return the line break before a position and the spaces after it; empty if text is there."""
    space = data[max(data.rfind(b"\n", 0, at), 0) : at]
    return space.decode() if space[:1] == b"\n" and not space.strip(b"\n \t") else ""
