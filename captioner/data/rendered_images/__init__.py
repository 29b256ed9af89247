"""Rendered images that are not photographs, to train the recognition of such images.

An image derives from (seed, kind, index) only. Texts are set in Pillow's built-in font, so that no
files are needed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from PIL import Image

from captioner.data.rendered_images.canvas import degrade
from captioner.data.rendered_images.documents import draw_chart, draw_screenshot, draw_text
from captioner.data.rendered_images.drawings import draw_blank, draw_drawing, draw_icon
from captioner.data.rendered_images.scenes import draw_scene

RENDERERS: Mapping[str, Callable[[random.Random, Image.Image | None], Image.Image]] = {
    "text": draw_text,
    "screenshot": draw_screenshot,
    "chart": draw_chart,
    "icon": draw_icon,
    "drawing": draw_drawing,
    "rendering": draw_scene,
    "blank": draw_blank,
}
"""The function for each kind of image."""
WITH_PHOTOGRAPH = frozenset({"screenshot"})
"""Kinds whose images may contain a photograph."""


def render_image(
    kind: str, index: int, *, seed: int = 0, photograph: Image.Image | None = None
) -> Image.Image:
    """Return the RGB image number `index` of a kind.

    An image of a kind in `WITH_PHOTOGRAPH` may contain `photograph`.
    """
    rng = random.Random(f"{seed} {kind} {index}")
    return degrade(RENDERERS[kind](rng, photograph), rng)
