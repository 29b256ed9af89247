"""Small copies of images for HTML pages."""

from __future__ import annotations

import base64
import io

from captioner.images.loader import ImageInput, load_image


def make_data_uri(source: ImageInput, side: int) -> str:
    """Return a small JPEG of an image as a data URI, for the `src` of an HTML image.

    Args:
        source: The image.
        side: Largest side, in pixels.

    Raises:
        ImageError: The image cannot be decoded.
    """
    image = load_image(source, min_size=side)
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
