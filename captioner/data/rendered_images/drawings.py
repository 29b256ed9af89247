"""Icons, drawings and blank images."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from captioner.data.rendered_images.canvas import BLACK, WHITE, Canvas, Color, Point, curve


def draw_icon(rng: random.Random, photograph: Image.Image | None) -> Image.Image:
    """Return a symbol of a few flat shapes, in few colors and antialiased."""
    side = rng.randint(256, 640)
    background = rng.choice((WHITE, WHITE, BLACK, None))
    canvas = Canvas(rng, (side, side))
    canvas.draw.rectangle((0, 0, side, side), background or canvas.color())
    colors = [canvas.color() for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.4:  # a plate behind the symbol
        plate = (0.08 * side, 0.08 * side, 0.92 * side, 0.92 * side)
        radius = side * rng.choice((0, 0.15, 0.42))
        canvas.draw.rounded_rectangle(plate, radius, canvas.color())
    filled = rng.random() < 0.6
    for _ in range(rng.randint(1, 6)):
        color, center = (
            rng.choice(colors),
            (side * rng.uniform(0.3, 0.7), side * rng.uniform(0.3, 0.7)),
        )
        points = _draw_outline(rng, center, side * rng.uniform(0.08, 0.35))
        if filled:
            canvas.draw.polygon(points, color)
        else:
            canvas.stroke([*points, points[0]], side * rng.uniform(0.015, 0.06), color)
    if rng.random() < 0.2:
        canvas.write(
            (side * 0.35, side * 0.3), canvas.words(1)[:2].upper(), side * 0.3, rng.choice(colors)
        )
    return canvas.image.resize((side // 2, side // 2), Image.Resampling.BOX)


def _draw_outline(rng: random.Random, center: Point, radius: float) -> list[Point]:
    """Return the outline of a polygon, star, ellipse, sector, blob, or bar."""
    form = rng.choice(("polygon", "star", "ellipse", "sector", "blob", "bar"))
    if form == "ellipse":
        return curve(center, (radius, radius * rng.choice((1, 1, 0.6))))
    if form == "sector":
        start = rng.random()
        arc = curve(center, (radius, radius), start=start, end=start + rng.uniform(0.2, 0.8))
        return [center, *arc]
    turn, corners = rng.random() * 7, rng.randint(3, 8)
    lengths = [radius] * corners
    if form == "star":
        lengths = [radius, radius * rng.uniform(0.3, 0.7)] * corners
    elif form == "blob":
        lengths = [radius * rng.uniform(0.5, 1.2) for _ in range(corners + 4)]
    elif form == "bar":
        half = radius * rng.uniform(0.1, 0.4)
        corner = math.atan2(half, radius)
        angles = [turn + a for a in (corner, math.pi - corner, math.pi + corner, -corner)]
        return [
            (center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles
        ]
    count = len(lengths)
    return [
        (
            center[0] + length * math.cos(turn + 2 * math.pi * i / count),
            center[1] + length * math.sin(turn + 2 * math.pi * i / count),
        )
        for i, length in enumerate(lengths)
    ]


def draw_drawing(rng: random.Random, photograph: Image.Image | None) -> Image.Image:
    """Return a drawing: flat or shaded shapes, a sketch, a hatching, or a painting."""
    canvas = Canvas(rng)
    canvas.draw.rectangle((0, 0, *canvas.size), canvas.paper()[0])
    style = rng.choice(_STYLES)
    style(canvas)
    image = canvas.image
    if rng.random() < 0.2:
        pixels = np.asarray(image, np.float32) * (0.85 + 0.3 * canvas.texture(3)[..., None])
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image


def _draw_flat_shapes(canvas: Canvas) -> None:
    rng = canvas.rng
    outline = rng.choice((None, BLACK))
    for _ in range(rng.randint(1, 18)):
        points = _draw_outline(rng, canvas.point(), max(canvas.size) * rng.uniform(0.04, 0.35))
        canvas.draw.polygon(points, canvas.color(), outline, width=rng.randint(1, 4))


def _draw_sketch(canvas: Canvas) -> None:
    rng = canvas.rng
    ink = rng.choice((BLACK, canvas.color(value=0.4), canvas.color()))
    if rng.random() < 0.3:
        canvas.draw.rectangle((0, 0, *canvas.size), WHITE)
    for _ in range(rng.randint(2, 14)):
        radius = max(canvas.size) * rng.uniform(0.03, 0.35)
        points = _draw_outline(rng, canvas.point(), radius)
        for _ in range(rng.randint(1, 3)):
            canvas.stroke([*points, points[0]], rng.uniform(1, 4), ink, shake=radius * 0.03)
    for _ in range(rng.randint(0, 10)):
        start = rng.random()
        radii = (canvas.size[0] * rng.random() / 3, canvas.size[1] * rng.random() / 3)
        canvas.stroke(curve(canvas.point(), radii, start=start, end=start + 0.4), 2, ink, shake=1)


def _draw_hatching(canvas: Canvas) -> None:
    rng = canvas.rng
    ink = rng.choice((BLACK, canvas.color(value=0.4)))
    for _ in range(rng.randint(2, 8)):
        center, radius = canvas.point(), max(canvas.size) * rng.uniform(0.1, 0.4)
        points = _draw_outline(rng, center, radius)
        layer = Image.new("L", canvas.size)
        pen, angle, step = ImageDraw.Draw(layer), rng.random() * 6, rng.uniform(3, 10)
        for i in range(round(2 * radius / step)):
            offset = i * step - radius
            x, y = center[0] - offset * math.sin(angle), center[1] + offset * math.cos(angle)
            dx, dy = radius * math.cos(angle), radius * math.sin(angle)
            pen.line((x - dx, y - dy, x + dx, y + dy), 255, rng.choice((1, 1, 2)))
        mask = Image.new("L", canvas.size)
        ImageDraw.Draw(mask).polygon(points, 255)
        layer.paste(0, mask=mask.point(lambda v: 255 - v))
        canvas.image.paste(ink, mask=layer)
        canvas.stroke([*points, points[0]], 2, ink)


def _draw_shaded_shapes(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.image.paste(canvas.gradient(canvas.color(), canvas.color(), rng.random() * 6))
    for _ in range(rng.randint(1, 12)):
        mask = Image.new("L", canvas.size)
        points = _draw_outline(rng, canvas.point(), max(canvas.size) * rng.uniform(0.05, 0.35))
        ImageDraw.Draw(mask).polygon(points, 255)
        if rng.random() < 0.4:
            mask = mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 6)))
        canvas.image.paste(
            canvas.gradient(canvas.color(), canvas.color(), rng.random() * 6), mask=mask
        )


def _draw_painting(canvas: Canvas) -> None:
    """Draw many short strokes whose direction and color vary slowly over the canvas."""
    rng, (width, height) = canvas.rng, canvas.size
    fields = [canvas.texture(rng.randint(2, 4)) for _ in range(3)]
    colors = np.array([canvas.color() for _ in range(4)])
    length, thick = rng.uniform(6, 40), rng.uniform(2, 12)
    for _ in range(rng.randint(300, 1200)):
        x, y = canvas.point()
        turn, mix, light = (float(field[int(y) % height, int(x) % width]) for field in fields)
        color = colors[int(mix * 3.99)] * (0.6 + 0.6 * light) + rng.gauss(0, 12)
        red, green, blue = (int(v) for v in color.clip(0, 255))
        dx, dy = length * math.cos(6 * turn), length * math.sin(6 * turn)
        canvas.stroke([(x, y), (x + dx, y + dy)], thick, (red, green, blue))


_STYLES: tuple[Callable[[Canvas], None], ...] = (
    _draw_flat_shapes, _draw_flat_shapes, _draw_sketch, _draw_sketch, _draw_hatching,
    _draw_shaded_shapes, _draw_painting,
)  # fmt: skip


def draw_blank(rng: random.Random, photograph: Image.Image | None) -> Image.Image:
    """Return an image without content: one color, a gradient, noise, or blurred spots."""
    canvas = Canvas(rng)
    low: Color = rng.choice((BLACK, WHITE, canvas.color(), canvas.color()))
    canvas.draw.rectangle((0, 0, *canvas.size), low)
    form = rng.choice(("color", "gradient", "grain", "noise", "spots"))
    if form == "gradient":
        return canvas.gradient(low, canvas.color(), rng.random() * 6)
    shape = (canvas.size[1], canvas.size[0], rng.choice((1, 3)))
    pixels = np.asarray(canvas.image, np.float64)
    if form == "grain":
        pixels = pixels + canvas.noise.normal(0, rng.uniform(1, 25), shape)
    elif form == "noise":
        pixels = canvas.noise.random(shape) * 255 + np.zeros(3)
    elif form == "spots":
        weight = rng.uniform(0.1, 1) * canvas.texture(rng.randint(2, 4))[..., None]
        pixels = pixels + weight * (np.array(canvas.color()) - pixels)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
