"""A canvas with random colors, texts and strokes, from which the rendered images are composed."""

from __future__ import annotations

import colorsys
import io
import math
import random
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Color = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
_SYLLABLES = [
    "an",
    "ar",
    "as",
    "be",
    "ca",
    "co",
    "de",
    "di",
    "en",
    "er",
    "es",
    "fi",
    "ga",
    "ka",
    "la",
    "lo",
    "ma",
    "mi",
    "na",
    "no",
    "or",
    "pa",
    "ra",
    "re",
    "ri",
    "ro",
    "sa",
    "se",
    "st",
    "ta",
    "ti",
    "un",
    "ur",
    "va",
    "zu",
]


@lru_cache(64)
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font at a size in pixels."""
    return ImageFont.load_default(size)


class Canvas:
    """An RGB image with the random numbers that decide what is drawn on it.

    Args:
        rng: The only source of random numbers.
        size: Width and height; by default, they are random.
    """

    def __init__(
        self, rng: random.Random, size: tuple[int, int] | None = None, background: Color = WHITE
    ) -> None:
        if size is None:
            width = rng.randint(256, 512)
            size = width, int(width * rng.choice((0.5, 0.66, 0.75, 1, 1, 1.33)))
        self.rng, self.size = rng, size
        self.image = Image.new("RGB", size, background)
        self.draw = ImageDraw.Draw(self.image)

    @property
    def noise(self) -> np.random.Generator:
        """A new generator of arrays, which derives from `rng`."""
        return np.random.default_rng(self.rng.getrandbits(64))

    def color(self, *, saturation: float | None = None, value: float | None = None) -> Color:
        """Return a random color; a given saturation or value is kept."""
        s = self.rng.random() if saturation is None else saturation
        v = self.rng.random() if value is None else value
        red, green, blue = colorsys.hsv_to_rgb(self.rng.random(), s, v)
        return round(255 * red), round(255 * green), round(255 * blue)

    def paper(self) -> tuple[Color, Color]:
        """Return the colors of a background and of the ink on it, with a high contrast."""
        light = self.color(saturation=self.rng.choice((0, 0, 0.05, 0.2)), value=0.97)
        dark = self.color(saturation=self.rng.choice((0, 0, 0.4, 0.9)), value=0.25)
        pairs = [(WHITE, BLACK), (light, dark), (light, dark), (dark, light)]
        return self.rng.choice(pairs)

    def point(self) -> Point:
        """Return a random point."""
        return self.rng.uniform(0, self.size[0]), self.rng.uniform(0, self.size[1])

    def box(self, smallest: float = 0.1, largest: float = 0.5) -> Box:
        """Return a box within the canvas whose sides are these shares of the canvas."""
        width, height = (side * self.rng.uniform(smallest, largest) for side in self.size)
        left = self.rng.uniform(0, self.size[0] - width)
        top = self.rng.uniform(0, self.size[1] - height)
        return left, top, left + width, top + height

    def words(self, count: int) -> str:
        """Return pseudo-words and numbers."""
        return " ".join(_make_word(self.rng) for _ in range(count))

    def write(self, place: Point, text: str, size: float, ink: Color) -> float:
        """Write one line of text at its left upper corner; return its width."""
        font = load_font(max(6, round(size)))
        bold = 1 if size > 14 and self.rng.random() < 0.2 else 0
        self.draw.text(place, text, ink, font, stroke_width=bold)
        return self.draw.textlength(text, font)

    def write_lines(self, box: Box, size: float, ink: Color) -> None:
        """Fill a box with lines of text in paragraphs."""
        left, top, right, bottom = box
        spacing = size * self.rng.uniform(1.15, 1.7)
        letters = max(3, (right - left) / (0.55 * size))
        while top + size < bottom:
            share = 1.0 if self.rng.random() < 0.75 else self.rng.uniform(0.2, 0.9)
            text = self.words(int(letters / 4))[: int(letters * share)]
            self.write((left, top), text, size, ink)
            top += spacing * (1 if share == 1 else self.rng.choice((1, 1.6)))

    def gradient(self, low: Color, high: Color, angle: float) -> Image.Image:
        """Return a linear gradient with the size of the canvas."""
        width, height = self.size
        y, x = np.mgrid[:height, :width].astype(np.float32)
        ramp = x * math.cos(angle) / width + y * math.sin(angle) / height
        ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6)
        colors = np.array(low) + ramp[..., None] * (np.array(high) - np.array(low))
        return Image.fromarray(colors.astype(np.uint8))

    def texture(self, cells: int) -> np.ndarray:
        """Return smooth fractal noise (H, W) within 0..1; `cells` is its coarsest grid."""
        total = np.zeros(self.size[::-1], np.float32)
        noise = self.noise
        for octave in range(4):
            grid = noise.random((cells << octave, cells << octave), np.float32)
            layer = Image.fromarray(grid).resize(self.size, Image.Resampling.BICUBIC)
            total += np.asarray(layer) / 2**octave
        total -= total.min()
        return total / max(float(total.max()), 1e-6)

    def stroke(
        self, points: Sequence[Point], width: float, ink: Color, *, shake: float = 0
    ) -> None:
        """Draw a line through points, optionally as if drawn by hand."""
        if shake:
            points = [
                (x + self.rng.gauss(0, shake), y + self.rng.gauss(0, shake)) for x, y in points
            ]
        self.draw.line(points, ink, max(1, round(width)), joint="curve")

    def paste(self, image: Image.Image, box: Box) -> None:
        """Paste an image, resized to a box."""
        left, top, right, bottom = map(round, box)
        if right > left and bottom > top:
            self.image.paste(image.resize((right - left, bottom - top)), (left, top))


def curve(center: Point, radii: Point, *, start: float = 0, end: float = 1) -> list[Point]:
    """Return points of an ellipse from one share of its circumference to another."""
    angles = (2 * math.pi * (start + (end - start) * i / 24) for i in range(25))
    return [
        (center[0] + radii[0] * math.cos(a), center[1] + radii[1] * math.sin(a)) for a in angles
    ]


def degrade(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return an image as it is often passed on: rescaled, blurred, noisy or compressed."""
    if rng.random() < 0.4:
        scale = rng.uniform(0.5, 2)
        width, height = (max(16, round(side * scale)) for side in image.size)
        image = image.resize((width, height), rng.choice(list(Image.Resampling)))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    if rng.random() < 0.2:
        noise = np.random.default_rng(rng.getrandbits(64)).normal(0, rng.uniform(1, 10), image.size)
        pixels = np.asarray(image, np.float32) + noise.T[..., None]
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randint(30, 95))
        image = Image.open(file).convert("RGB")
    return image


def _make_word(rng: random.Random) -> str:
    if rng.random() < 0.08:
        return f"{rng.uniform(0, 3000):.{rng.choice((0, 0, 1, 2))}f}"
    word = "".join(rng.choices(_SYLLABLES, k=rng.choice((1, 1, 2, 2, 3, 4))))
    word = word.capitalize() if rng.random() < 0.15 else word
    return word + rng.choice(("", "", "", "", "", ",", "."))
