"""Any image input (path, bytes, binary file, PIL image, array) -> a clean RGB image, or one error.

Clean: 8-bit RGB, upright (EXIF orientation applied), alpha composited on white, the first frame,
every row decoded, no metadata left. Deep greys are scaled to 8 bits, never clipped:
* 16 bits: 0..65535 -> 0..255 (12-bit TIFF: 0..4095).
* wider integers: 0..255 as they are, 0..65535 as 16 bits;
  floats: 0..1 times 255, 0..255 as they are; both may be overshot by a tenth, as resampling does.
* any other range: minimum..maximum stretched; but refused in an array (a normalised tensor?).
"""

from __future__ import annotations

import importlib
import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image

from captioner.errors import ImageError

_FORMATS = (  # Pillow's name, its plugin, the signature; MPO comes with JPEG
    ("JPEG", "Jpeg", rb"\xff\xd8"),
    ("PNG", "Png", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", "Gif", rb"GIF8"),
    ("WEBP", "WebP", rb"RIFF....WEBP"),
    ("BMP", "Bmp", rb"BM"),
    ("TIFF", "Tiff", rb"II[*+]\0|MM\0[*+]"),
    ("PPM", "Ppm", rb"P[1-7fF]"),
    ("JPEG2000", "Jpeg2K", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  "),
    ("AVIF", "Avif", rb"....ftyp(?:....){0,15}?avi[fs]"),
    ("ICO", "Ico", rb"\0\0\x01\0"),
)
_FOREIGN = (
    ("a git-LFS pointer, not the image itself (run `git lfs pull`)", rb"version https://git-lfs"),
    ("a Photoshop (PSD) file, which is not read", rb"8BPS"),
    ("a PostScript (EPS) or PDF file, which is not read", rb"%!PS|%PDF|\xc5\xd0\xd3\xc6"),
    ("HEIC, JPEG XL or a video, which is not read", rb"....(?:ftyp|JXL )|\xff\x0a|RIFF|\x1aE\xdf"),
    ("an archive, which is not read", rb"PK\x03\x04|\x1f\x8b"),
    ("HTML, XML or SVG text", rb"(?:\xef\xbb\xbf)?\s*<"),
    ("text", rb"(?:[\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]*){4,}\Z"),
)
_FLIPS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90"
_TURNS = {i: Image.Transpose[name] for i, name in enumerate(_FLIPS.split(), 2)}  # EXIF tag 0x0112


def load_image(
    source: str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray,
    *,
    max_pixels: int = 178_956_970,
    min_size: int | None = None,
) -> Image.Image:
    """Turn `source` into a new RGB image (height and width at least 1, no metadata).

    A path must be a regular file: pipes and devices are refused unopened, so nothing blocks. A
    file object is read from its start and left open; a PIL image is taken at its present frame;
    an array is H x W or H x W x 1/3/4 of bool, integers or floats.
    `max_pixels` (width x height) is compared with the header, before anything is decoded;
    `min_size` lets a JPEG be decoded, much faster, at 1/2, 1/4 or 1/8 of its size while both
    sides keep that many pixels.

    Raises ImageError, one printable line naming the file (or <bytes>, <array>, <image>, <file>),
    for whatever cannot be turned into pixels, truncated files included.
    """
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, max_pixels)
        if isinstance(source, Image.Image):
            return _clean(source, max_pixels)
        with _opened(source) as file:
            return _decode(file, max_pixels, min_size)
    except Exception as error:  # Pillow raises a dozen types on bad files: no list is complete
        line = f"{_name(source)}: {_reason(error)}"
        escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        raise ImageError("".join(escaped)) from error


def _name(source: object) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source) or "''"
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    if name and isinstance(name, (str, bytes)):
        return os.fsdecode(name)
    kinds = {"<array>": np.ndarray, "<image>": Image.Image, "<bytes>": (bytes, bytearray)}
    return next((name for name, kind in kinds.items() if isinstance(source, kind)), "<file>")


def _reason(error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)  # raised below, still without the name
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"cannot be read ({error.strerror}); check the path and its permissions"
    detail = f"{type(error).__name__}: {error}".rstrip(": ")
    cause = "too large for memory" if isinstance(error, MemoryError) else "damaged or truncated"
    return f"cannot be decoded ({detail}); it is {cause}, use another copy"


@contextmanager
def _opened(source: object) -> Iterator[BinaryIO]:
    """`source` as a seekable binary file; only a file that was opened here is closed."""
    if isinstance(source, (str, os.PathLike)):
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe, socket or device"
            raise ImageError(f"is a {kind}; name a regular file or pass the bytes")
        if status.st_size == 0:  # not opened: some files in /proc say 0 and block when read
            raise ImageError("is empty; get an intact copy")
        with open(source, "rb") as file:
            yield file
    elif isinstance(source, (bytes, bytearray)):
        yield io.BytesIO(source)
    elif hasattr(source, "read"):
        try:
            source.seek(0)
        except (AttributeError, OSError):  # a pipe or a socket
            source = io.BytesIO(source.read())
        yield source
    else:
        raise ImageError(f"is a {type(source).__name__}; pass a path, bytes, file, image or array")


def _decode(file: BinaryIO, max_pixels: int, min_size: int | None) -> Image.Image:
    head = file.read(512)
    if not isinstance(head, bytes):
        raise ImageError("is open in text mode; open it with mode 'rb'")
    name, plugin = _identify(head)
    try:
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
    except ImportError:
        raise ImageError(f"is {name}, which this Pillow cannot read; upgrade Pillow") from None
    if name == "ICO":  # the only plugin that decodes while it opens
        _check_icon(file, max_pixels)
    if name == "JPEG2000" and b"\xff\xd9" not in (head + file.read()).partition(b"\xff\x93")[2]:
        raise ImageError("is truncated, get an intact copy")  # OpenJPEG leaves lost tiles black
    file.seek(0)
    # The plugin is asked directly: Image.open would import all plugins for some formats, and
    # judge the size by a process-wide limit that is not this module's to change.
    image = Image.OPEN[name][0](file, "")
    _check_size(image.size, max_pixels)
    if min_size is not None:
        image.draft(None, (max(1, min_size), max(1, min_size)))
    return _clean(image, max_pixels)


def _identify(head: bytes) -> tuple[str, str]:
    """Pillow's name of the format that `head` opens with, and of its plugin."""
    for name, plugin, signature in _FORMATS:
        if re.match(signature, head, re.DOTALL):
            return name, plugin
    unknown = f"of an unknown format (first bytes {head[:8].hex(' ')})" if head else "empty"
    found = next((what for what, sign in _FOREIGN if re.match(sign, head, re.DOTALL)), unknown)
    raise ImageError(f"is {found}; expected {', '.join(name for name, _, _ in _FORMATS)}")


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    if min(size) < 1 or size[0] * size[1] > max_pixels:
        raise ImageError(f"has {size[0]} x {size[1]} pixels; expected 1..{max_pixels} (max_pixels)")


def _check_icon(file: BinaryIO, max_pixels: int) -> None:
    """An icon's directory states sizes up to 256; the PNG or BMP inside may be far larger."""
    file.seek(4)
    (count,) = struct.unpack("<H", file.read(2))
    for offset in [struct.unpack("<12xI", file.read(16))[0] for _ in range(count)]:
        file.seek(offset)
        head = file.read(24)
        is_png = head.startswith(b"\x89PNG")
        width, height = struct.unpack(">16x2I" if is_png else "<4x2i12x", head)
        # a bitmap's height counts its mask as well, and is negative when it runs downwards
        _check_size((width, height if is_png else abs(height) // 2), max_pixels)


def _clean(image: Image.Image, max_pixels: int) -> Image.Image:
    """Decode `image` and return a new upright RGB image without metadata."""
    _check_size(image.size, max_pixels)
    raw_mode = tile[0][3] if (tile := getattr(image, "tile", None)) else None
    image.load()  # drops `tile`, which tells the depth of the samples in the file
    rgb = _to_rgb(image, raw_mode)
    try:
        turn = _TURNS.get(image.getexif().get(0x0112))
    except Exception:  # damaged metadata is no reason to lose the picture
        turn = None
    rgb = rgb if turn is None else rgb.transpose(turn)
    rgb.info = {}
    return rgb


def _to_rgb(image: Image.Image, raw_mode: object) -> Image.Image:
    mode = image.mode
    if mode != "F" and not mode.startswith("I"):
        return _on_white(image, raw_mode) if image.has_transparency_data else image.convert("RGB")
    sixteen = mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM"))
    twelve = isinstance(raw_mode, tuple) and "I;12" in raw_mode
    values = np.asarray(image)
    grey = _to_8_bit(values, top=4095 if twelve else 65535 if sixteen else None)
    if getattr(image, "tag_v2", {}).get(262) == 0 and mode == "I;16":
        grey = 255 - grey  # TIFF's "white is zero", which Pillow obeys for 8 bits only
    if isinstance(key := image.info.get("transparency"), int):
        grey = np.where(values == key, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB")


def _to_8_bit(values: np.ndarray, *, top: int | None, stretch: bool = True) -> np.ndarray:
    """Scale 0..top to 0..255; without `top`, by the rules at the head of this module."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # both carry NaN
        raise ImageError("holds NaN or infinite values; expected finite ones, replace them")
    tops, slack = ((1, 255), 0.1) if values.dtype.kind == "f" else ((255, 65535), 0.0)
    fits = (t for t in tops if low >= -slack * min(t, max(high, 1)) and high <= (1 + slack) * t)
    bottom, top = 0.0, top or next(fits, None)
    if top is None:
        if not stretch:
            found = f"{values.dtype} from {low:.6g} to {high:.6g}"
            raise ImageError(f"holds {found}; expected 0..{tops[0]} or 0..{tops[1]}")
        bottom, top = low, high if high > low else low + 1
    wide = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    return np.clip(np.rint((wide - bottom) * (255 / (top - bottom))), 0, 255).astype(np.uint8)


def _on_white(image: Image.Image, raw_mode: object) -> Image.Image:
    """Composite every kind of alpha: a band, a palette's, or one transparent colour (tRNS)."""
    key = image.info.get("transparency")
    # PNG states the transparent sample at the file's depth, Pillow hands out 8-bit pixels.
    scale = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}.get(raw_mode)
    if scale and key is not None:
        key = tuple(int(v * scale) for v in key) if isinstance(key, tuple) else key * scale
        image = image.copy()  # the info may be the caller's
        image.info["transparency"] = key
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _from_array(array: np.ndarray, max_pixels: int) -> Image.Image:
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ImageError(f"has shape {array.shape}; expected HxW, HxWx1, HxWx3 or HxWx4")
    _check_size((array.shape[1], array.shape[0]), max_pixels)
    if array.dtype.kind not in "biuf":
        raise ImageError(f"holds {array.dtype}; expected bool, integers or floats")
    if array.dtype != np.uint8:
        top = 1 if array.dtype.kind == "b" else 65535 if array.dtype == np.uint16 else None
        array = _to_8_bit(array, top=top, stretch=False)
    array = array[..., 0] if array.shape[2:] == (1,) else array
    return _clean(Image.fromarray(np.ascontiguousarray(array)), max_pixels)
