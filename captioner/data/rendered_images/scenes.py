"""Scenes of computer graphics that imitate photographs: texture, shading, shadows and grain."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from captioner.data.rendered_images.canvas import Canvas, Color, Point

SKY, PLANTS, EARTH, WATER = (0.5, 0.65), (0.2, 0.4), (0.05, 0.14), (0.48, 0.6)
"""Ranges of natural hues."""


def draw_scene(canvas: Canvas) -> None:
    """Draw a sky, one to five layers of ground behind one another, and perhaps figures."""
    rng, (width, height) = canvas.rng, canvas.size
    everywhere = Image.new("L", canvas.size, 255)
    _fill(canvas, everywhere, rng.choice((SKY, SKY, PLANTS, (0, 1))))
    _add_clouds(canvas)
    if rng.random() < 0.4:
        canvas.image.paste(canvas.image.filter(ImageFilter.GaussianBlur(rng.uniform(2, 8))))
    horizon = height * rng.uniform(0.1, 0.6)
    hues = rng.choice((PLANTS, EARTH, WATER, (0, 1)))
    while horizon < height * 0.95:
        wave = canvas.texture(rng.randint(2, 6))[0]
        tops = horizon + (wave - 0.5) * height * rng.choice((0, 0.03, 0.3))
        mask = Image.new("L", canvas.size)
        edge = [(x, float(top)) for x, top in enumerate(tops)]
        ImageDraw.Draw(mask).polygon([(0, height), *edge, (width, height)], 255)
        _fill(canvas, mask.filter(ImageFilter.GaussianBlur(rng.choice((0.5, 1, 6)))), hues)
        hues = rng.choice((hues, PLANTS, EARTH, WATER))
        horizon += height * rng.uniform(0.15, 0.6)
    if rng.random() < 0.4:
        _add_grass(canvas, height * rng.uniform(0.4, 0.8))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        _add_figure(canvas)
    _finish(canvas)


def _natural(canvas: Canvas, hues: tuple[float, float]) -> Color:
    rng = canvas.rng
    hue, value = rng.uniform(*hues), rng.uniform(0.25, 0.95)
    red, green, blue = colorsys.hsv_to_rgb(hue, rng.uniform(0.1, 0.75), value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _fill(canvas: Canvas, mask: Image.Image, hues: tuple[float, float]) -> None:
    """Fill a mask with a gradient of natural colors, and texture."""
    colors = _natural(canvas, hues), _natural(canvas, hues)
    angle = canvas.rng.choice((math.pi / 2, math.pi / 2, canvas.rng.random() * 6))
    canvas.image.paste(_add_texture(canvas, canvas.gradient(*colors, angle)), mask=mask)


def _add_texture(canvas: Canvas, image: Image.Image) -> Image.Image:
    """Return an image whose brightness varies by noise that may be stretched in one direction."""
    rng, cells = canvas.rng, canvas.rng.choice((3, 8, 20, 40))
    light = canvas.texture(cells)
    if rng.random() < 0.5:
        stretch = rng.randint(2, 8)
        axis = rng.choice((0, 1))
        light = np.repeat(light, stretch, axis)[: light.shape[0], : light.shape[1]]
    factor = 1 + rng.uniform(0.1, 0.9) * (light - 0.5)
    pixels = np.asarray(image, np.float32) * factor[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _add_clouds(canvas: Canvas) -> None:
    rng = canvas.rng
    share, light = canvas.texture(rng.randint(2, 5)), rng.choice((250, 250, 60))
    mask = ((share - rng.uniform(0.4, 0.7)) * rng.uniform(1, 6)).clip(0, 1) * 255
    canvas.image.paste((light, light, light), mask=Image.fromarray(mask.astype(np.uint8)))


def _add_grass(canvas: Canvas, top: float) -> None:
    """Draw short, almost vertical strokes of similar colors, larger towards the bottom."""
    rng, (width, height) = canvas.rng, canvas.size
    base = np.array(_natural(canvas, PLANTS if rng.random() < 0.7 else EARTH))
    count = rng.randint(300, 2000)
    for i in range(count):
        y = top + (height - top) * i / count
        size, x = 2 + 12 * (y - top) / (height - top + 1), rng.uniform(0, width)
        red, green, blue = (int(v) for v in (base * rng.uniform(0.6, 1.4)).clip(0, 255))
        end = (x + rng.gauss(0, size / 3), y - size)
        canvas.draw.line((x, y, *end), (red, green, blue))


def _add_figure(canvas: Canvas) -> None:
    """Draw a body of joined capsules, shaded from one side, with a shadow on the ground."""
    rng, (width, height) = canvas.rng, canvas.size
    size = height * rng.uniform(0.05, 0.25)
    x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.4, 0.8) * height
    shadow = Image.new("L", canvas.size)
    drop = (x - size, y + size, x + size * rng.uniform(0.8, 2), y + size * 1.3)
    ImageDraw.Draw(shadow).ellipse(drop, rng.randint(60, 180))
    canvas.image.paste((20, 20, 20), mask=shadow.filter(ImageFilter.GaussianBlur(size / 12 + 1)))
    joint: Point = (x, y)
    hues = rng.choice((EARTH, EARTH, (0, 1)))
    for part in range(rng.randint(3, 9)):
        angle, length = rng.uniform(0, 2 * math.pi), size * rng.uniform(0.3, 1.1)
        end = (joint[0] + length * math.cos(angle), joint[1] + length * math.sin(angle))
        mask = Image.new("L", canvas.size)
        _draw_capsule(ImageDraw.Draw(mask), joint, end, size * rng.uniform(0.08, 0.35))
        mask = mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5)))
        if part == 0 or rng.random() < 0.4:
            hues = rng.choice((hues, (0, 1)))
        _fill(canvas, mask, hues)
        joint = rng.choice((joint, end, (x, y)))


def _draw_capsule(pen: ImageDraw.ImageDraw, start: Point, end: Point, radius: float) -> None:
    pen.line((start, end), 255, max(1, round(2 * radius)))
    for x, y in (start, end):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), 255)


def _finish(canvas: Canvas) -> None:
    """Add a vignette and grain to most scenes."""
    rng, (width, height) = canvas.rng, canvas.size
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = 1 - rng.choice((0, 0.1, 0.25)) * (x * x + y * y) / 2
    light += canvas.noise.normal(0, rng.uniform(0, 0.06), light.shape)
    pixels = np.asarray(canvas.image, np.float32) * light[..., None]
    canvas.image.paste(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
