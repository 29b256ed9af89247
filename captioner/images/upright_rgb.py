"""Convert a decoded image to upright 8-bit RGB on white, by the rules of the package docstring."""

from __future__ import annotations

import numpy as np
from PIL import Image

from captioner.errors import ImageError

_ROWS = 256
"""Rows converted at a time, to limit memory: a few kB of PNG may hold 179 million pixels."""
_NAMES = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90"
_TRANSPOSES = {i: Image.Transpose[name] for i, name in enumerate(_NAMES.split(), 2)}
_ORIENTATION = 0x0112  # EXIF tag


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an image and return a new upright RGB image without metadata."""
    raw_mode = tile[0][3] if (tile := getattr(image, "tile", None)) else None
    image.load()  # drops `tile`, which states the bit depth in the file
    rgb = _to_rgb(image, raw_mode)
    try:
        turn = _TRANSPOSES.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # ignore damaged metadata
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
    gray = to_8_bit(values, top=4095 if twelve else 65535 if sixteen else None)
    if getattr(image, "tag_v2", {}).get(262) == 0 and mode == "I;16":
        gray = 255 - gray  # TIFF's "white is zero", which Pillow applies to 8 bits only
    if isinstance(key := image.info.get("transparency"), int):
        gray = np.where(values == key, np.uint8(255), gray)
    return Image.fromarray(gray).convert("RGB")


def to_8_bit(values: np.ndarray, *, top: int | None, stretch: bool = True) -> np.ndarray:
    """Scale gray or color values, integers or floats of any shape, to 8 bits.

    `top` is the value that becomes 255; by default it follows from the package's rules.

    Raises:
        ImageError: Values are not finite, or outside the known ranges without `stretch`.
    """
    bottom, limit = (0.0, float(top)) if top else _value_range(values, stretch)
    scaled = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS]
        wide = rows.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
        wide = np.rint((wide - bottom) * (255 / (limit - bottom)))
        scaled[start : start + _ROWS] = np.clip(wide, 0, 255)
    return scaled


def _value_range(values: np.ndarray, stretch: bool) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # NaN appears in both
        raise ImageError("holds NaN or infinite values; expected finite ones, replace them")
    tops, slack = ((1, 255), 0.1) if values.dtype.kind == "f" else ((255, 65535), 0.0)
    for top in tops:
        if low >= -slack * min(top, max(high, 1)) and high <= (1 + slack) * top:
            return 0, top
    if not stretch:
        limits = f"{values.dtype} from {low:.6g} to {high:.6g}"
        raise ImageError(f"holds {limits}; expected 0..{tops[0]} or 0..{tops[1]}")
    return low, high if high > low else low + 1


def _on_white(image: Image.Image, raw_mode: object) -> Image.Image:
    """Composite every kind of transparency: an alpha band, a palette's, or one color (tRNS)."""
    key = image.info.get("transparency")
    # PNG stores the transparent color at the file's bit depth; Pillow's pixels have 8 bits.
    scale = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}.get(str(raw_mode))
    if scale and key is not None:
        key = tuple(int(v * scale) for v in key) if isinstance(key, tuple) else key * scale
        image = image.copy()  # `info` may belong to the caller
        image.info["transparency"] = key
    rgb = Image.new("RGB", image.size)
    for top in range(0, image.height, _ROWS):
        strip = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        rgba = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        rgb.paste(rgba.convert("RGB"), (0, top))
    return rgb
