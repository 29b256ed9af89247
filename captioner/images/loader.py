"""Load an image from any source; every failure is an ImageError that names the source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from captioner.errors import ImageError, ImageFormatError, ImageSizeError
from captioner.images.file_types import check_size, open_image
from captioner.images.upright_rgb import to_8_bit, to_upright_rgb
from captioner.sources import open_source, printable_line, read_failure, source_name

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray
"""A path, the bytes of a file, an open binary file, a PIL image, or an array (H, W[, channels])."""
_SOURCES = "a path, bytes, file, image or array"


def load_image(
    source: ImageInput,
    *,
    max_pixels: int = 178_956_970,
    min_size: int | None = None,
    other_formats: Sequence[str] = (),
) -> Image.Image:
    """Return a new RGB image (height and width at least 1, no metadata).

    Args:
        source: A path to a regular file (pipes and devices are rejected unopened, so that nothing
            blocks), bytes, a file object (read from its start and left open), a PIL image (its
            present frame), or an array of bool, integers or floats, H x W or H x W x 1/3/4.
        max_pixels: Largest width x height, compared with the header before decoding.
        min_size: Decode a JPEG, much faster, at 1/2, 1/4 or 1/8 of its size while both sides keep
            at least this many pixels.
        other_formats: Formats that the caller reads otherwise, which the error of an unknown format
            names, too.

    Raises:
        ImageError: The source cannot be decoded completely (ImageFormatError: its format is not
            supported; ImageSizeError: it has too many pixels or none). The message is one printable
            line with the name of the file, or <bytes>, <array>, <image> or <file>.
    """
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, max_pixels)
        if isinstance(source, Image.Image):
            check_size(source.size, max_pixels)
            return to_upright_rgb(source)
        with open_source(source, ImageError, ImageFormatError, _SOURCES) as file:
            image = open_image(file, max_pixels, other_formats, source=_name(source))
            if min_size is not None:
                image.draft(None, (max(1, min_size),) * 2)  # type: ignore[arg-type]  # may be None
            return to_upright_rgb(image)
    except Exception as error:  # damaged files make Pillow raise errors of many types
        line = f"{_name(source)}: {_reason(error)}"
        raise _error_type(error)(printable_line(line)) from error


def _name(source: object) -> str:
    if isinstance(source, np.ndarray):
        return "<array>"
    other = "<image>" if isinstance(source, Image.Image) else "<file>"
    return source_name(source) or other


def _error_type(error: Exception) -> type[ImageError]:
    if isinstance(error, ImageError):
        return type(error)
    too_large = (MemoryError, Image.DecompressionBombError)  # the second for frames of a GIF
    return ImageSizeError if isinstance(error, too_large) else ImageError


def _reason(error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)  # raised in this package, without the name of the source
    if failure := read_failure(error):
        return failure
    detail = f"{type(error).__name__}: {error}".rstrip(": ")
    too_large = _error_type(error) is ImageSizeError
    cause = "too large for memory" if too_large else "damaged or truncated"
    return f"cannot be decoded ({detail}); it is {cause}, use another copy"


def _from_array(array: np.ndarray, max_pixels: int) -> Image.Image:
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ImageError(f"has shape {array.shape}; expected HxW, HxWx1, HxWx3 or HxWx4")
    check_size((array.shape[1], array.shape[0]), max_pixels)
    if array.dtype.kind not in "biuf":
        raise ImageError(f"holds {array.dtype}; expected bool, integers or floats")
    if array.dtype != np.uint8:
        top = 1 if array.dtype.kind == "b" else 65535 if array.dtype == np.uint16 else None
        array = to_8_bit(array, top=top, stretch=False)
    array = array[..., 0] if array.shape[2:] == (1,) else array
    return to_upright_rgb(Image.fromarray(np.ascontiguousarray(array)))
