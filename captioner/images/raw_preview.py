"""Read RAW files of cameras: the largest embedded preview, or else a development at half size."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from captioner.errors import DependencyError, ImageError, ImageFormatError
from captioner.extras import explain_missing

if TYPE_CHECKING:
    from collections.abc import Callable

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = (1, 2, 4, 3, 5, 8, 6, 7)
"""The orientation of EXIF for each of LibRaw's."""


def open_raw(file: BinaryIO, check: Callable[[tuple[int, int]], None]) -> Image.Image:
    """Open a RAW file; the orientation is in the EXIF of the result, or applied.

    A preview without an orientation of its own is stored like the pixels of the sensor, so that the
    rotation in the RAW file applies to it. If a quarter turn remains, but the longer side of the
    preview is not that of the sensor, the preview is upright already.

    Args:
        file: A seekable binary file.
        check: Raises ImageSizeError if a size (width, height) is not accepted.

    Raises:
        ImageFormatError: `rawpy` is not installed.
        ImageError: LibRaw does not support the file, or the file is damaged.
    """
    try:
        with explain_missing("a RAW file"):
            import rawpy
    except DependencyError as error:
        raise ImageFormatError(f"cannot be read: {error}") from None
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            check((raw.sizes.raw_width, raw.sizes.raw_height))
            preview = _read_preview(rawpy, raw)
            if preview is None:
                return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))
            check(preview.size)
            return _set_orientation(preview, raw.sizes)
    except rawpy.LibRawError as error:
        detail = error.args[0] if error.args else type(error).__name__
        detail = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else detail
        problem = f"cannot be read as a RAW file (LibRaw: {detail})"
        hint = "it is damaged, or its camera is not supported; export it as JPEG"
        raise ImageError(f"{problem}; {hint}") from None


def _read_preview(rawpy: Any, raw: Any) -> Image.Image | None:
    """Return the largest preview, None if there is none that can be read."""
    with suppress(rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError, SyntaxError):
        preview = raw.extract_thumb()
        if preview.format == rawpy.ThumbFormat.BITMAP:
            return Image.fromarray(preview.data)
        return JpegImageFile(io.BytesIO(preview.data), "")
    return None


def _set_orientation(preview: Image.Image, sizes: Any) -> Image.Image:
    """Return a preview whose EXIF has the rotation that remains to be applied."""
    exif = preview.getexif()
    is_turned = _TURNS[sizes.flip] >= 5
    if is_turned and (sizes.width - sizes.height) * (preview.width - preview.height) < 0:
        exif[_ORIENTATION] = 1
    elif _ORIENTATION not in exif:
        exif[_ORIENTATION] = _TURNS[sizes.flip]
    return preview
