"""What Pillow decoded -> 8-bit RGB, upright and on white, by the rules of this package's head."""

from __future__ import annotations

import numpy as np
from PIL import Image

from captioner.errors import ImageError

_ROWS = 256
"""At a time, where a step takes memory: a few kB of PNG may be 179 million pixels of a palette."""
_FLIPS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90"
_TURNS = {i: Image.Transpose[name] for i, name in enumerate(_FLIPS.split(), 2)}  # EXIF tag 0x0112


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Decode `image` and return a new upright RGB image without metadata."""
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
    grey = to_8_bit(values, top=4095 if twelve else 65535 if sixteen else None)
    if getattr(image, "tag_v2", {}).get(262) == 0 and mode == "I;16":
        grey = 255 - grey  # TIFF's "white is zero", which Pillow obeys for 8 bits only
    if isinstance(key := image.info.get("transparency"), int):
        grey = np.where(values == key, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB")


def to_8_bit(values: np.ndarray, *, top: int | None, stretch: bool = True) -> np.ndarray:
    """Scale 0..top to 0..255; without `top`, by the rules at the head of this package."""
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
    scaled = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS]
        wide = rows.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
        wide = np.rint((wide - bottom) * (255 / (top - bottom)))
        scaled[start : start + _ROWS] = np.clip(wide, 0, 255)
    return scaled


def _on_white(image: Image.Image, raw_mode: object) -> Image.Image:
    """Composite every kind of alpha: a band, a palette's, or one transparent colour (tRNS)."""
    key = image.info.get("transparency")
    # PNG states the transparent sample at the file's depth, Pillow hands out 8-bit pixels.
    scale = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}.get(raw_mode)
    if scale and key is not None:
        key = tuple(int(v * scale) for v in key) if isinstance(key, tuple) else key * scale
        image = image.copy()  # the info may be the caller's
        image.info["transparency"] = key
    rgb = Image.new("RGB", image.size)
    for top in range(0, image.height, _ROWS):
        strip = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        rgba = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        rgb.paste(rgba.convert("RGB"), (0, top))
    return rgb
