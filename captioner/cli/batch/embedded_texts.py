"""Read the descriptions and keywords that an image has in IPTC (IIM) and EXIF, outside its XMP.

Most programs prefer XMP to both. IPTC's IIM standard (version 4.2) defines the data sets, EXIF 2.32
the tag ImageDescription, and Windows the tags XPComment and XPKeywords.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image, IptcImagePlugin
from PIL.TiffImagePlugin import IPTC_NAA_CHUNK, ImageFileDirectory_v2, TiffImageFile

from captioner.cli.batch.xmp_properties import clean_text
from captioner.files import RAW_SUFFIXES

_CAPTION, _KEYWORDS = (2, 120), (2, 25)  # Record and data set of IIM.
_IMAGE_DESCRIPTION, _XP_COMMENT, _XP_KEYWORDS = 0x010E, 0x9C9C, 0x9C9E
_FORMATS = ["JPEG", "PNG", "WEBP"]
_TIFF = re.compile(rb"II[*+]\0|MM\0[*+]|IIR[OS]|MMOR|IIU\0")
"""The signatures of TIFF and of RAW files that are TIFF with another signature (ORF and RW2)."""

_DEFAULT = re.compile(
    r"""ascii | default | untitled | null | image | jpeg | exif[ _]jpeg[ _]picture
    | sony\ dsc | my\ beautiful\ picture | digital\ still\ ?camera | DCIM\\.* | <.*>
    | (olympus|minolta|samsung|kodak|konica\ minolta|casio|sanyo|vivitar|polaroid)?
      \ ?digital\ (still\ )?camera
    | (created|made)\ with\ gimp | file\ written\ by\ adobe\ photoshop.* | screenshot
    | ImageJ=.* | \{"(shape|axes)".*""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""Descriptions that cameras and programs write into every file."""


@dataclass(frozen=True)
class EmbeddedTexts:
    """What an image has in IPTC and EXIF; each text is on one line, without repetitions."""

    descriptions: tuple[str, ...] = ()
    """Without those that cameras and programs write into every file."""
    keywords: tuple[str, ...] = ()


def read_embedded_texts(path: str) -> EmbeddedTexts:
    """Return the descriptions and keywords in the IPTC and EXIF of an image.

    Formats are JPEG, PNG, WebP and TIFF with the RAW formats derived from it; of other RAW files,
    the preview is read if `rawpy` is installed. A block that is damaged is ignored.
    """
    iptc: Mapping[Any, Any] = {}
    exif: Mapping[int, Any] = {}
    # Damaged files make Pillow and LibRaw raise errors of many types.
    with suppress(Exception), open(path, "rb") as file:
        head = file.read(16)
        file.seek(0)
        if _TIFF.match(head):
            exif = _read_directory(file, head)
            with suppress(Exception):
                iptc = _read_tiff_iptc(exif)
        else:
            source = _extract_preview(path) if path.lower().endswith(RAW_SUFFIXES) else file
            with Image.open(source, formats=_FORMATS) as image:
                with suppress(Exception):
                    iptc = IptcImagePlugin.getiptcinfo(image) or {}
                # Pillow decodes a whole PNG to look for EXIF after the pixels.
                if image.format != "PNG" or _has_png_exif(path):
                    exif = image.getexif()
    descriptions = [*_texts(iptc, _CAPTION), *_texts(exif, _IMAGE_DESCRIPTION)]
    descriptions += _texts(exif, _XP_COMMENT)
    keywords = [*_texts(iptc, _KEYWORDS)]
    keywords += [word for text in _texts(exif, _XP_KEYWORDS) for word in text.split(";")]
    return EmbeddedTexts(
        tuple(text for text in _clean(descriptions) if not _DEFAULT.fullmatch(text)),
        tuple(_clean(keywords)),
    )


def _has_png_exif(path: str) -> bool:
    """Return whether a PNG may have EXIF, as a chunk or as a text of ImageMagick."""
    with open(path, "rb") as file:
        data = file.read()
    return b"eXIf" in data or b"Raw profile type" in data


def _read_directory(file: BinaryIO, head: bytes) -> ImageFileDirectory_v2:
    """Return the first directory of a TIFF; the pixels may have a format that Pillow lacks."""
    is_big = 43 in head[2:4]
    magic = {b"II": b"*\0", b"MM": b"\0*"}[head[:2]]
    directory = ImageFileDirectory_v2(head if is_big else head[:2] + magic + head[4:8])
    file.seek(directory.next)
    directory.load(file)
    return directory


def _read_tiff_iptc(directory: ImageFileDirectory_v2) -> Mapping[Any, Any]:
    """Return the IPTC data sets of a TIFF, which Pillow reads from an image only."""
    image = TiffImageFile.__new__(TiffImageFile)
    image.tag_v2 = directory
    return (IptcImagePlugin.getiptcinfo(image) or {}) if IPTC_NAA_CHUNK in directory else {}


def _extract_preview(path: str) -> BinaryIO:
    """Return the JPEG preview of a RAW file, in which some cameras and programs keep its EXIF."""
    import rawpy

    with open(path, "rb") as file, rawpy.imread(file) as raw:
        return io.BytesIO(bytes(raw.extract_thumb().data))


def _texts(block: Mapping[Any, Any], key: Any) -> list[str]:
    """Return the texts of a tag or data set; empty if there is none that can be read."""
    with suppress(KeyError, TypeError, ValueError, struct.error):
        value = block[key]
        values = value if isinstance(value, list) else [value]
        return [_decode(value, key) for value in values if isinstance(value, (str, bytes))]
    return []


def _decode(value: str | bytes, key: Any) -> str:
    """Return a text in UTF-16 (tags of Windows), UTF-8 or else Windows-1252."""
    # Pillow decodes each byte of a text in EXIF as one character.
    data = value.encode("latin-1") if isinstance(value, str) else value
    if key in (_XP_COMMENT, _XP_KEYWORDS):
        return data.decode("utf-16-le", "ignore").partition("\0")[0]
    data = data.partition(b"\0")[0]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _clean(texts: list[str]) -> list[str]:
    """Return the texts that are not blank, each once."""
    return list(dict.fromkeys(filter(None, map(clean_text, texts))))
