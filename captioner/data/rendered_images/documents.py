"""Images of text, screens and charts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image

from captioner.data.rendered_images.canvas import WHITE, Box, Canvas, Color


def draw_text(rng: random.Random, photograph: Image.Image | None) -> Image.Image:
    """Return an image of text: a page, columns, a sign, or a few large words."""
    canvas = Canvas(rng)
    width, height = canvas.size
    background, ink = canvas.paper()
    canvas.draw.rectangle((0, 0, *canvas.size), background)
    if rng.random() < 0.2:  # uneven light on paper
        canvas.image.paste(canvas.gradient(background, canvas.color(value=0.8), rng.random() * 6))
    layout = rng.choice(("page", "page", "columns", "sign", "words"))
    margin = rng.uniform(0.02, 0.12) * width
    if layout in ("page", "columns"):
        size, top = rng.uniform(8, 26), margin
        if rng.random() < 0.6:
            canvas.write((margin, top), canvas.words(3), size * 1.8, ink)
            top += 3 * size
        columns = 1 if layout == "page" else rng.randint(2, 3)
        step = (width - margin) / columns
        for column in range(columns):
            left = margin + column * step
            canvas.write_lines((left, top, left + step - margin, height - margin), size, ink)
    else:
        for _ in range(1 if layout == "sign" else rng.randint(3, 12)):
            size = rng.uniform(0.12, 0.3) * height if layout == "sign" else rng.uniform(10, 50)
            place = canvas.point() if layout == "words" else (margin, height * rng.random() * 0.6)
            canvas.write(
                (place[0] * 0.7, place[1] * 0.95), canvas.words(rng.randint(1, 3)), size, ink
            )
    if rng.random() < 0.35:
        angle = rng.choice((rng.uniform(-8, 8), rng.uniform(-8, 8), 90, 270))
        return canvas.image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=background)
    return canvas.image


def draw_screenshot(rng: random.Random, photograph: Image.Image | None) -> Image.Image:
    """Return a screen with windows, bars, lists, forms, buttons and perhaps a photograph."""
    phone = rng.random() < 0.3
    canvas = Canvas(rng, (rng.randint(220, 280), rng.randint(400, 520)) if phone else None)
    background, ink = canvas.paper()
    accent = canvas.color(saturation=0.8)
    canvas.draw.rectangle((0, 0, *canvas.size), background)
    if not phone and rng.random() < 0.25:  # a desktop behind a window
        canvas.image.paste(canvas.gradient(accent, canvas.color(), rng.random() * 6))
        if photograph is not None and rng.random() < 0.4:
            canvas.paste(photograph, (0, 0, *canvas.size))
        left, top, right, bottom = canvas.box(0.6, 0.9)
        canvas.draw.rectangle((left, top, right, bottom), background, ink)
    else:
        left, top, right, bottom = 0.0, 0.0, *map(float, canvas.size)
    size = rng.uniform(8, 15)
    bar = size * rng.uniform(1.5, 3)
    canvas.draw.rectangle((left, top, right, top + bar), rng.choice((accent, ink, background)))
    _draw_bar(canvas, (left, top, right, top + bar), size, rng.choice((WHITE, ink)))
    top += bar
    if not phone and rng.random() < 0.5:
        side = left + (right - left) * rng.uniform(0.15, 0.3)
        canvas.draw.rectangle((left, top, side, bottom), canvas.color(saturation=0.1, value=0.9))
        canvas.write_lines((left + 6, top + 6, side - 4, bottom), size, canvas.color(value=0.3))
        left = side
    while top + 3 * size < bottom:
        height = min(bottom - top, rng.uniform(2, 14) * size)
        block = left + size, top + size / 2, right - size, top + height
        rng.choice(_BLOCKS)(canvas, block, size, ink, accent, photograph)
        top += height
    return canvas.image


def _draw_bar(canvas: Canvas, box: Box, size: float, ink: Color) -> None:
    left, top, right, bottom = box
    x = left + size
    for _ in range(canvas.rng.randint(1, 6)):
        if canvas.rng.random() < 0.4:
            canvas.draw.ellipse((x, top + size / 2, x + size, top + 1.5 * size), canvas.color())
            x += 2 * size
        else:
            x += (
                canvas.write((x, top + (bottom - top - size) / 2), canvas.words(1), size, ink)
                + size
            )
        if x > right - 4 * size:
            break


Block = Callable[[Canvas, Box, float, Color, Color, "Image.Image | None"], None]


def _draw_paragraph(
    canvas: Canvas, box: Box, size: float, ink: Color, accent: Color, photograph: object
) -> None:
    canvas.write_lines(box, size, ink)


def _draw_buttons(
    canvas: Canvas, box: Box, size: float, ink: Color, accent: Color, photograph: object
) -> None:
    x, top = box[0], box[1]
    while x + 6 * size < box[2]:
        width = canvas.rng.uniform(5, 12) * size
        fill = canvas.rng.choice((accent, None))
        shape = (x, top, min(x + width, box[2]), top + 2 * size)
        canvas.draw.rounded_rectangle(shape, canvas.rng.choice((0, size / 2, size)), fill, accent)
        canvas.write((x + size, top + size / 3), canvas.words(1), size, WHITE if fill else ink)
        x += width + size


def _draw_rows(
    canvas: Canvas, box: Box, size: float, ink: Color, accent: Color, photograph: object
) -> None:
    left, top, right, bottom = box
    columns = canvas.rng.randint(1, 4)
    while top + 2 * size < bottom:
        canvas.draw.line((left, top, right, top), canvas.color(saturation=0.1, value=0.7))
        for column in range(columns):
            x = left + (right - left) * column / columns
            canvas.write((x + size / 2, top + size / 3), canvas.words(1), size, ink)
        top += 2 * size


def _draw_pictures(
    canvas: Canvas, box: Box, size: float, ink: Color, accent: Color, photograph: Image.Image | None
) -> None:
    left, top, right, bottom = box
    count = canvas.rng.randint(1, 4)
    step = (right - left) / count
    for i in range(count):
        tile = left + i * step, top, left + (i + 0.9) * step, bottom
        if photograph is not None and canvas.rng.random() < 0.7:
            canvas.paste(photograph, tile)
        else:
            canvas.draw.rounded_rectangle(tile, size / 2, canvas.color())


_BLOCKS: tuple[Block, ...] = (
    _draw_paragraph, _draw_paragraph, _draw_buttons, _draw_rows, _draw_rows, _draw_pictures
)  # fmt: skip


def draw_chart(rng: random.Random, photograph: Image.Image | None) -> Image.Image:
    """Return a chart: bars, lines, points, areas, a pie, or a grid of colored cells."""
    canvas = Canvas(rng)
    width, height = canvas.size
    background, ink = canvas.paper()
    canvas.draw.rectangle((0, 0, *canvas.size), background)
    left, top = width * rng.uniform(0.05, 0.18), height * rng.uniform(0.05, 0.18)
    right, bottom = width * rng.uniform(0.7, 0.97), height * rng.uniform(0.8, 0.95)
    box, size = (left, top, right, bottom), rng.uniform(8, 14)
    if rng.random() < 0.7:
        canvas.write((left, max(0, top - 1.5 * size)), canvas.words(3), size * 1.2, ink)
    form = rng.choice(_FORMS)
    if form is not _draw_pie:
        _draw_axes(canvas, box, size, ink)
    form(canvas, box)
    if rng.random() < 0.5:  # a legend
        for i in range(rng.randint(2, 5)):
            y = top + 1.6 * size * i
            canvas.draw.rectangle((right - 4 * size, y, right - 3 * size, y + size), canvas.color())
            canvas.write((right - 2.5 * size, y), canvas.words(1), size, ink)
    return canvas.image


def _draw_axes(canvas: Canvas, box: Box, size: float, ink: Color) -> None:
    left, top, right, bottom = box
    grid = canvas.rng.random() < 0.5
    count = canvas.rng.randint(3, 9)
    for i in range(count + 1):
        x, y = left + (right - left) * i / count, bottom - (bottom - top) * i / count
        if grid:
            canvas.draw.line((left, y, right, y), canvas.color(saturation=0, value=0.8))
        canvas.write((x, bottom + 2), str(i * 5), size * 0.8, ink)
        canvas.write((left - 2.5 * size, y - size / 2), f"{i * 10}", size * 0.8, ink)
    canvas.draw.line((left, top, left, bottom, right, bottom), ink, canvas.rng.randint(1, 2))


def _draw_bars(canvas: Canvas, box: Box) -> None:
    left, top, right, bottom = box
    rng, count = canvas.rng, canvas.rng.randint(3, 14)
    colors = [canvas.color() for _ in range(rng.choice((1, 1, 2, 3)))]
    for i in range(count):
        share = rng.random()
        color = colors[i % len(colors)]
        if rng.random() < 0.02 or count % 3:  # vertical, or horizontal in every third chart
            x = left + (right - left) * (i + 0.15) / count
            bar = x, bottom - share * (bottom - top), x + 0.7 * (right - left) / count, bottom
        else:
            y = top + (bottom - top) * (i + 0.15) / count
            bar = left, y, left + share * (right - left), y + 0.7 * (bottom - top) / count
        canvas.draw.rectangle(bar, color)


def _draw_lines(canvas: Canvas, box: Box) -> None:
    left, top, right, bottom = box
    rng = canvas.rng
    for _ in range(rng.randint(1, 5)):
        steps = np.cumsum(canvas.noise.normal(size=rng.randint(5, 60)))
        shares = (steps - steps.min()) / max(float(np.ptp(steps)), 1e-6)
        points = [
            (left + (right - left) * i / len(shares), bottom - float(s) * (bottom - top))
            for i, s in enumerate(shares)
        ]
        color = canvas.color()
        if rng.random() < 0.25:
            canvas.draw.polygon([(left, bottom), *points, (points[-1][0], bottom)], color)
        else:
            canvas.stroke(points, rng.randint(1, 3), color)
        for x, y in points if rng.random() < 0.3 else ():
            canvas.draw.ellipse((x - 3, y - 3, x + 3, y + 3), color)


def _draw_points(canvas: Canvas, box: Box) -> None:
    left, top, right, bottom = box
    rng = canvas.rng
    for _ in range(rng.randint(1, 3)):
        color, radius = canvas.color(), rng.uniform(1, 5)
        center, spread = (rng.random(), rng.random()), rng.uniform(0.05, 0.3)
        for _ in range(rng.randint(15, 150)):
            x, y = (min(max(rng.gauss(c, spread), 0), 1) for c in center)
            x, y = left + x * (right - left), bottom - y * (bottom - top)
            canvas.draw.ellipse((x - radius, y - radius, x + radius, y + radius), color)


def _draw_cells(canvas: Canvas, box: Box) -> None:
    left, top, right, bottom = box
    rows, columns = canvas.rng.randint(3, 15), canvas.rng.randint(3, 15)
    low, high = np.array(canvas.color()), np.array(canvas.color())
    values = canvas.noise.random((rows, columns, 1))
    cells = Image.fromarray((low + values * (high - low)).astype(np.uint8))
    size = max(1, round(right - left)), max(1, round(bottom - top))
    canvas.paste(cells.resize(size, Image.Resampling.NEAREST), box)


def _draw_pie(canvas: Canvas, box: Box) -> None:
    left, top, right, bottom = box
    side = min(right - left, bottom - top)
    circle = (left, top, left + side, top + side)
    angle, rng = 0.0, canvas.rng
    while angle < 360:
        end = min(360.0, angle + rng.uniform(10, 140))
        canvas.draw.pieslice(
            ((left, top), (left + side, top + side)),
            angle,
            end,
            canvas.color(),
            rng.choice((WHITE, None)),
        )
        middle = math.radians((angle + end) / 2)
        x, y = left + side / 2 * (1 + math.cos(middle)), top + side / 2 * (1 + math.sin(middle))
        canvas.write((x, y), canvas.words(1), 10, canvas.color(value=0.3))
        angle = end
    if rng.random() < 0.3:
        inner = tuple(v + side * s for v, s in zip(circle, (0.3, 0.3, -0.3, -0.3), strict=True))
        canvas.draw.ellipse(inner, WHITE)


_FORMS: tuple[Callable[[Canvas, Box], None], ...] = (
    _draw_bars, _draw_bars, _draw_lines, _draw_lines, _draw_points, _draw_cells, _draw_pie
)  # fmt: skip
