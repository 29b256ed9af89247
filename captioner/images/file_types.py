"""Identify image files by their signature and open them; the size is checked before decoding."""

from __future__ import annotations

import importlib
import re
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import BinaryIO

from PIL import Image

from captioner.errors import ImageError, ImageFormatError, ImageSizeError
from captioner.extras import install_command
from captioner.files import RAW_SUFFIXES
from captioner.images.raw_preview import open_raw

_FORMATS = (  # Pillow's name of the format, its plugin, the signature; JPEG includes MPO
    ("JPEG", "Jpeg", rb"\xff\xd8"),
    ("PNG", "Png", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", "Gif", rb"GIF8"),
    ("WEBP", "WebP", rb"RIFF....WEBP"),
    ("BMP", "Bmp", rb"BM"),
    (
        "RAW",
        "",
        rb"II\*\0.{4}CR|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|....ftypcrx |FOVb|\0MRM|II.{4}HEAP",
    ),
    ("TIFF", "Tiff", rb"II[*+]\0|MM\0[*+]"),
    ("PPM", "Ppm", rb"P[1-7fF]"),
    ("JPEG2000", "Jpeg2K", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  "),
    ("AVIF", "Avif", rb"....ftyp(?:....){0,15}?avi[fs]"),
    ("HEIC", "", rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"),  # from pillow-heif, see _opener
    ("ICO", "Ico", rb"\0\0\x01\0"),
)
_OTHER_TYPES = (
    ("a git-LFS pointer, not the image itself (run `git lfs pull`)", rb"version https://git-lfs"),
    ("a Photoshop (PSD) file, which is not read", rb"8BPS"),
    ("a PostScript (EPS) or PDF file, which is not read", rb"%!PS|%PDF|\xc5\xd0\xd3\xc6"),
    ("JPEG XL, video or audio, which is not read", rb"....(?:ftyp|JXL )|\xff\x0a|RIFF|\x1aE\xdf"),
    ("an archive, which is not read", rb"PK\x03\x04|\x1f\x8b"),
    ("HTML, XML or SVG text", rb"(?:\xef\xbb\xbf)?\s*<"),
    ("text", rb"(?:[\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]*){4,}\Z"),
)


def open_image(
    file: BinaryIO, max_pixels: int, other_formats: Sequence[str] = (), *, source: str = ""
) -> Image.Image:
    """Open a seekable image file and check its size; nothing is decoded yet, except some RAW files.

    `other_formats` are named in the error of an unknown format, in addition to those of images.
    `source` is the name of the file: many RAW files are TIFF, from which the suffix tells them.

    Raises:
        ImageError: The file cannot be read as an image.
        ImageFormatError: Its format is not supported.
        ImageSizeError: It has too many pixels or none.
    """
    head = file.read(512)
    if not isinstance(head, bytes):
        raise ImageError("is open in text mode; open it with mode 'rb'")
    name, plugin = _identify(head, other_formats, is_raw=source.lower().endswith(RAW_SUFFIXES))
    if name == "RAW":
        return open_raw(file, partial(check_size, max_pixels=max_pixels))
    opener = _opener(name, plugin)
    if name == "ICO":  # the only plugin that decodes when it opens a file
        _check_icon(file, max_pixels)
    if name == "JPEG2000" and b"\xff\xd9" not in (head + file.read()).partition(b"\xff\x93")[2]:
        # OpenJPEG would leave the missing tiles black.
        raise ImageError("is truncated, get an intact copy")
    file.seek(0)
    image = opener(file, "")
    check_size(image.size, max_pixels)
    return image


def identify_format(data: bytes) -> str:
    """Return Pillow's name of a file's format from its first bytes; raise ImageFormatError."""
    return _identify(data[:512])[0]


def _opener(name: str, plugin: str) -> Callable[[BinaryIO, str], Image.Image]:
    # The plugin is called directly: Image.open would import all plugins for some formats, and
    # would check the size against a process-wide limit.
    try:
        if name == "HEIC":
            return importlib.import_module("pillow_heif").HeifImageFile
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
    except ImportError:
        needs = install_command("heif") if name == "HEIC" else "upgrade Pillow"
        raise ImageFormatError(f"is {name}, which this Pillow cannot read; {needs}") from None
    return Image.OPEN[name][0]


def _identify(
    head: bytes, other_formats: Sequence[str] = (), *, is_raw: bool = False
) -> tuple[str, str]:
    """Return Pillow's names of the format and of its plugin for a file that starts with `head`.

    With `is_raw`, TIFF and unknown formats are RAW.
    """
    for name, plugin, signature in _FORMATS:
        if re.match(signature, head, re.DOTALL):
            return ("RAW", "") if is_raw and name == "TIFF" else (name, plugin)
    unknown = f"of an unknown format (first bytes {head[:8].hex(' ')})" if head else "empty"
    other = [name for name, signature in _OTHER_TYPES if re.match(signature, head, re.DOTALL)]
    if is_raw and head and not other:
        return "RAW", ""
    expected = ", ".join([*(name for name, _, _ in _FORMATS), *other_formats])
    raise ImageFormatError(f"is {next(iter(other), unknown)}; expected {expected}")


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise ImageSizeError if a size (width, height) has no pixels or more than `max_pixels`."""
    if min(size) < 1 or size[0] * size[1] > max_pixels:
        raise ImageSizeError(
            f"has {size[0]} x {size[1]} pixels; expected 1..{max_pixels} (max_pixels)"
        )


def _check_icon(file: BinaryIO, max_pixels: int) -> None:
    """Check the sizes of the images in an icon, which may exceed the 256 of its directory."""
    file.seek(4)
    (count,) = struct.unpack("<H", file.read(2))
    for offset in [struct.unpack("<12xI", file.read(16))[0] for _ in range(count)]:
        file.seek(offset)
        head = file.read(24)
        is_png = head.startswith(b"\x89PNG")
        width, height = struct.unpack(">16x2I" if is_png else "<4x2i12x", head)
        # a bitmap's height includes its mask and is negative for top-down order
        check_size((width, height if is_png else abs(height) // 2), max_pixels)
