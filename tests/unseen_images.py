"""Images of kinds that are not rendered for training: maps, scores, codes, tables, comics, plans.

They share no code with `captioner.data.rendered_images`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

SIZE = 400, 320
PALETTE = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")
Pen = ImageDraw.ImageDraw


def draw_map(pen: Pen, rng: random.Random) -> None:
    """Draw a street map: blocks, parks, a river and roads of several widths with names."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), "#f2efe9")
    for _ in range(rng.randint(2, 6)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        pen.rectangle((x, y, x + rng.uniform(30, 110), y + rng.uniform(30, 90)), "#c8facc")
    river = [
        (x, height * 0.5 + 60 * math.sin(x / 70 + rng.random())) for x in range(0, width + 40, 40)
    ]
    pen.line(river, "#aad3df", rng.randint(10, 30), joint="curve")
    for wide, color in ((9, "#ffffff"), (9, "#ffffff"), (12, "#fcd6a4"), (15, "#e892a2")):
        for _ in range(rng.randint(2, 5)):
            start = (rng.choice((0, width)), rng.uniform(0, height))
            end = (rng.uniform(0, width), rng.choice((0, height)))
            pen.line((start, end), "#999999", wide + 2)
            pen.line((start, end), color, wide)
    for name in ("Mill Road", "Park Lane", "Station", "Old Town", "River Walk")[
        : rng.randint(2, 5)
    ]:
        pen.text((rng.uniform(0, width - 60), rng.uniform(0, height - 12)), name, "#555555")


def draw_handwriting(pen: Pen, rng: random.Random) -> None:
    """Draw lines of connected loops like handwriting, on ruled paper."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), rng.choice(("#ffffff", "#fdfbf0", "#f4f1e4")))
    ink = rng.choice(("#1a237e", "#222222", "#0d47a1"))
    step = rng.randint(28, 44)
    for y in range(step, height, step):
        pen.line((0, y + 6, width, y + 6), "#c5d5ea")
        x = 18.0
        while x < width - 40:
            length, points = rng.uniform(25, 80), []
            slant, tall = rng.uniform(0.1, 0.4), rng.uniform(6, 9)
            for i in range(int(length)):
                phase = i * 0.75
                lift = tall * math.sin(phase) * (1 + 0.7 * math.sin(phase * 0.37 + y))
                points.append((x + i + 3 * math.cos(phase) + slant * lift, y - lift / 1.5 - 3))
            pen.line(points, ink, 2, joint="curve")
            x += length + rng.uniform(10, 20)


def draw_score(pen: Pen, rng: random.Random) -> None:
    """Draw sheet music: staves with bar lines, notes and stems."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), "#fffffa")
    gap = rng.randint(6, 9)
    for top in range(20, height - 6 * gap, 10 * gap):
        for line in range(5):
            pen.line((15, top + line * gap, width - 15, top + line * gap), "black")
        x = 40.0
        while x < width - 30:
            y = top + rng.randint(-1, 9) * gap / 2
            head = (x, y - gap / 2, x + 1.3 * gap, y + gap / 2)
            pen.ellipse(head, None if rng.random() < 0.2 else "black", "black", 2)
            up = y > top + 2 * gap
            stem = x + (1.3 * gap if up else 0)
            pen.line((stem, y, stem, y + (-3.5 if up else 3.5) * gap), "black", 2)
            x += rng.choice((20, 20, 32, 45))
            if rng.random() < 0.15:
                pen.line((x, top, x, top + 4 * gap), "black", 2)
                x += 14


def draw_code(pen: Pen, rng: random.Random) -> None:
    """Draw a matrix code with its finder patterns, or a barcode with its number."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), "white")
    if rng.random() < 0.5:
        count = rng.choice((21, 25, 29, 33))
        cell = 280 / count
        left, top = (width - 280) / 2, (height - 280) / 2

        def square(row: int, column: int, size: int, color: str) -> None:
            x, y = left + column * cell, top + row * cell
            pen.rectangle((x, y, x + size * cell - 1, y + size * cell - 1), color)

        for row in range(count):
            for column in range(count):
                if rng.random() < 0.5:
                    square(row, column, 1, "black")
        for row, column in ((0, 0), (0, count - 7), (count - 7, 0)):
            for inset, color in ((-1, "white"), (0, "black"), (1, "white"), (2, "black")):
                square(row + inset, column + inset, 7 - 2 * inset, color)
        return
    x = 40.0
    while x < width - 40:
        bar = rng.choice((2, 2, 4, 6))
        pen.rectangle((x, 50, x + bar, height - 80), "black")
        x += bar + rng.choice((2, 2, 4, 6))
    number = " ".join(str(rng.randint(0, 9)) for _ in range(13))
    pen.text((60, height - 70), number, "black", ImageFont.load_default(22))


def draw_table(pen: Pen, rng: random.Random) -> None:
    """Draw a spreadsheet with lettered columns, numbered rows and numbers."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), "white")
    columns, step = rng.randint(4, 8), rng.randint(16, 26)
    cell, font = (width - 30) / columns, ImageFont.load_default(11)
    pen.rectangle((0, 0, width, step), "#e8eaed")
    pen.rectangle((0, 0, 30, height), "#e8eaed")
    for column in range(columns):
        x = 30 + column * cell
        pen.line((x, 0, x, height), "#c0c0c0")
        pen.text((x + cell / 2, 3), "ABCDEFGH"[column], "#333333", font)
        for row, y in enumerate(range(step, height, step), 1):
            pen.line((0, y, width, y), "#c0c0c0")
            pen.text((8, y + 3), str(row), "#333333", font)
            if rng.random() < 0.8:
                pen.text((x + 4, y + 3), f"{rng.uniform(-500, 9000):.2f}"[:7], "black", font)


def draw_comic(pen: Pen, rng: random.Random) -> None:
    """Draw comic panels: figures with faces, and speech bubbles with words."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), "white")
    rows, columns, font = rng.randint(1, 2), rng.randint(2, 3), ImageFont.load_default(11)
    for row in range(rows):
        for column in range(columns):
            left, top = 6 + column * (width - 6) / columns, 6 + row * (height - 6) / rows
            right, bottom = left + (width - 6) / columns - 8, top + (height - 6) / rows - 8
            pen.rectangle((left, top, right, bottom), rng.choice(PALETTE), "black", 3)
            pen.rectangle((left + 3, bottom - 30, right - 3, bottom - 3), rng.choice(PALETTE))
            x, y = rng.uniform(left + 30, right - 30), bottom - 65
            pen.polygon(
                ((x, y), (x - 22, bottom - 4), (x + 22, bottom - 4)), rng.choice(PALETTE), "black"
            )
            pen.ellipse(
                (x - 17, y - 25, x + 17, y + 12), rng.choice(("#ffcd94", "#8d5524")), "black", 2
            )
            for eye in (-6, 6):
                pen.ellipse((x + eye - 2, y - 12, x + eye + 2, y - 7), "black")
            pen.arc((x - 8, y - 8, x + 8, y + 6), 20, 160, "black", 2)
            pen.ellipse((left + 8, top + 6, right - 8, top + 48), "white", "black", 2)
            words = rng.choice(("HELLO THERE", "WHAT IS IT?", "OH NO!", "LOOK OUT", "HA HA HA"))
            pen.text((left + 22, top + 20), words, "black", font)


def draw_plot(pen: Pen, rng: random.Random) -> None:
    """Draw functions over axes with arrows and ticks, as in a textbook."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), "white")
    x0, y0 = width * rng.uniform(0.3, 0.6), height * rng.uniform(0.4, 0.6)
    pen.line((10, y0, width - 10, y0), "black", 2)
    pen.line((x0, height - 10, x0, 10), "black", 2)
    pen.polygon(((width - 4, y0), (width - 14, y0 - 5), (width - 14, y0 + 5)), "black")
    pen.polygon(((x0, 4), (x0 - 5, 14), (x0 + 5, 14)), "black")
    for x in range(20, width - 20, 30):
        pen.line((x, y0 - 3, x, y0 + 3), "black")
    for color in rng.sample(PALETTE, rng.randint(1, 3)):
        a, b, c = rng.uniform(20, 90), rng.uniform(0.01, 0.06), rng.uniform(-0.002, 0.002)
        points = [
            (x, y0 - a * math.sin(b * (x - x0)) - c * (x - x0) ** 2)
            for x in range(10, width - 10, 3)
        ]
        pen.line(points, color, 2)
        pen.text((rng.uniform(20, width - 90), rng.uniform(10, 60)), "f(x) = sin bx", color)


def draw_flowchart(pen: Pen, rng: random.Random) -> None:
    """Draw boxes and diamonds with labels, joined by arrows."""
    width, height = SIZE
    pen.rectangle((0, 0, *SIZE), "white")
    columns, rows = rng.randint(2, 4), rng.randint(2, 4)
    fill = rng.choice(("#dae8fc", "#fff2cc", "#d5e8d4", "#ffffff"))
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
            w, h = 0.33 * width / columns, 0.25 * height / rows
            if row + 1 < rows:
                end = (row + 1.25) * height / rows
                pen.line((x, y, x, end), "black", 2)
                pen.polygon(((x, end), (x - 4, end - 8), (x + 4, end - 8)), "black")
            if column + 1 < columns and rng.random() < 0.5:
                pen.line((x, y, x + width / columns, y), "black", 2)
            if rng.random() < 0.3:
                pen.polygon(((x - w, y), (x, y - h), (x + w, y), (x, y + h)), fill, "black")
            else:
                pen.rounded_rectangle((x - w, y - h, x + w, y + h), 6, fill, "black")
            pen.text(
                (x - 16, y - 6), rng.choice(("Start", "Input", "Check", "Save", "End")), "black"
            )


def draw_floor_plan(pen: Pen, rng: random.Random) -> None:
    """Draw rooms with thick walls, doors, furniture and sizes."""
    width, height = SIZE
    paper, ink = rng.choice((("white", "black"), ("#f7f7f2", "#333333"), ("#1d3b6f", "white")))
    pen.rectangle((0, 0, *SIZE), paper)
    xs = [20, rng.randint(110, 170), rng.randint(220, 290), width - 20]
    ys = [20, rng.randint(110, 200), height - 20]
    for left, right in pairwise(xs):
        for top, bottom in pairwise(ys):
            if rng.random() < 0.9:
                pen.rectangle((left, top, right, bottom), None, ink, 5)
            pen.arc((right - 40, bottom - 40, right, bottom), 180, 270, ink, 2)
            x, y = rng.uniform(left + 8, right - 45), rng.uniform(top + 8, bottom - 45)
            pen.rectangle((x, y, x + 35, y + rng.uniform(15, 35)), None, ink, 1)
            pen.text((left + 12, bottom - 20), f"{rng.uniform(2, 9):.2f} m", ink)


def draw_board(pen: Pen, rng: random.Random) -> None:
    """Draw a board game or a crossword: a grid with stones or letters."""
    count = rng.choice((8, 8, 11, 13))
    pen.rectangle((0, 0, *SIZE), rng.choice(("white", "#dddddd", "#30404d")))
    cell = 300 / count
    light, dark = rng.choice((("#f0d9b5", "#b58863"), ("white", "black"), ("#eeeed2", "#769656")))
    font = ImageFont.load_default(max(8, int(cell * 0.6)))
    for row in range(count):
        for column in range(count):
            x, y = 50 + column * cell, 10 + row * cell
            even = (row + column) % 2 == 0 if count == 8 else rng.random() < 0.75
            pen.rectangle((x, y, x + cell, y + cell), light if even else dark, "#444444")
            if rng.random() < 0.4 and count == 8:
                stone = rng.choice(("white", "#222222", "#cc3333"))
                pen.ellipse((x + 5, y + 5, x + cell - 5, y + cell - 5), stone, "black", 2)
            elif even and count > 8 and rng.random() < 0.6:
                pen.text((x + cell / 4, y + 2), rng.choice("AEIORSTNL"), "black", font)


def draw_flag(pen: Pen, rng: random.Random) -> None:
    """Draw a flag: stripes with a disc, cross or canton."""
    width, height = SIZE
    colors = ("#ce1126", "#002868", "#ffffff", "#fcd116", "#007a3d", "#000000", "#0057b7")
    count = rng.randint(2, 7)
    across = rng.random() < 0.5
    for i, color in enumerate(rng.choices(colors, k=count)):
        start, end = i / count, (i + 1) / count
        box = (
            (start * width, 0, end * width, height)
            if across
            else (0, start * height, width, end * height)
        )
        pen.rectangle(box, color)
    form = rng.choice(("disc", "cross", "canton", "triangle"))
    color = rng.choice(colors)
    if form == "disc":
        pen.ellipse((130, 90, 270, 230), color)
    elif form == "cross":
        pen.rectangle((110, 0, 150, height), color)
        pen.rectangle((0, 140, width, 180), color)
    elif form == "canton":
        pen.rectangle((0, 0, 170, 150), color)
    else:
        pen.polygon(((0, 0), (150, height / 2), (0, height)), color)


RENDERERS: Mapping[str, Callable[[Pen, random.Random], None]] = {
    "map": draw_map,
    "handwriting": draw_handwriting,
    "score": draw_score,
    "code": draw_code,
    "table": draw_table,
    "comic": draw_comic,
    "plot": draw_plot,
    "flowchart": draw_flowchart,
    "floor plan": draw_floor_plan,
    "board": draw_board,
    "flag": draw_flag,
}


def draw_unseen(kind: str, index: int) -> Image.Image:
    """Return the RGB image number `index` of a kind."""
    rng = random.Random(f"{kind} {index}")
    image = Image.new("RGB", SIZE)
    RENDERERS[kind](ImageDraw.Draw(image), rng)
    return image
