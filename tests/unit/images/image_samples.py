"""Images for the tests of loading, and their comparison."""

from __future__ import annotations

import numpy as np
from PIL import Image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def picture(width: int = 40, height: int = 24, seed: int = 0) -> Image.Image:
    """Return a smooth random image without symmetry."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def differ(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    return int(np.abs(pixels(one) - pixels(other)).max())
