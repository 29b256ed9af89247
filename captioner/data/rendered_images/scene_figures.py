"""Figures of scenes: people, animals, plants and things, as tapering strokes.

A figure has the height 1 and stands at the origin; y points downward.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from captioner.data.rendered_images.canvas import Color, Point

SKIN, HAIR = (0.03, 0.1), (0.02, 0.13)
COATS = (0.03, 0.13)
"""Ranges of hues."""


class Stroke(NamedTuple):
    """A line through points whose width changes from point to point."""

    points: Sequence[Point]
    widths: Sequence[float]
    color: Color


def choose_color(
    rng: random.Random, hues: tuple[float, float] = (0, 1), *,
    saturation: tuple[float, float] = (0.05, 0.85), value: tuple[float, float] = (0.15, 0.95),
) -> Color:  # fmt: skip
    """Return a random color within ranges of hue, saturation and value."""
    levels = colorsys.hsv_to_rgb(rng.uniform(*hues), rng.uniform(*saturation), rng.uniform(*value))
    red, green, blue = (round(255 * level) for level in levels)
    return red, green, blue


def darken(color: Color, factor: float) -> Color:
    """Return a color with another brightness."""
    red, green, blue = (min(255, round(level * factor)) for level in color)
    return red, green, blue


def walk(start: Point, *steps: tuple[float, float]) -> list[Point]:
    """Return the joints of a limb from steps (angle, length); the angle 0 points downward."""
    points = [start]
    for angle, length in steps:
        x, y = points[-1]
        points.append((x + length * math.sin(angle), y + length * math.cos(angle)))
    return points


def make_person(rng: random.Random) -> list[Stroke]:
    """Return a person who stands, walks, runs, sits or raises the arms."""
    skin = choose_color(rng, SKIN, saturation=(0.25, 0.6), value=(0.3, 0.95))
    hair = choose_color(rng, HAIR, value=(0.05, 0.7))
    top, trousers = choose_color(rng), choose_color(rng, value=(0.08, 0.8))
    wide = rng.uniform(0.75, 1.3)
    turn, gait = rng.choice((-1, 1)), rng.choice((0.08, 0.3, 0.6, 1.0))
    hip, neck = (0.0, -0.5), (turn * rng.uniform(-0.04, 0.1), -0.82)
    strokes = []
    short = rng.random() < 0.4
    for side in (-1, 1):
        swing = side * gait * rng.uniform(0.3, 1)
        bend = rng.uniform(0, 1.2) * gait
        leg = walk((0.045 * wide * side, hip[1]), (swing, 0.25), (swing - turn * bend, 0.22))
        leg = [*leg, (leg[-1][0] + 0.05 * turn, leg[-1][1] + 0.012)]
        tone = 0.8 if side < 0 else 1
        cloth, bare = darken(trousers, tone), darken(skin, tone)
        widths = [0.13 * wide, 0.085 * wide, 0.055, 0.045]
        strokes.append(Stroke(leg, widths, bare if short else cloth))
        if short:
            strokes.append(Stroke(leg[:2], [0.14 * wide, 0.11 * wide], cloth))
    if rng.random() < 0.25:  # a skirt or a coat
        hem = -rng.uniform(0.15, 0.4)
        strokes.append(Stroke([(0, -0.62), (0, hem)], [0.17 * wide, 0.27 * wide], trousers))
    body = [hip, (neck[0] / 2, -0.66), (neck[0], -0.77)]
    strokes.append(Stroke(body, [0.17 * wide, 0.18 * wide, 0.15 * wide], top))
    strokes.append(Stroke([(neck[0], -0.8), (neck[0], -0.88)], [0.06, 0.055], skin))
    for side in (-1, 1):
        raised = rng.random() < 0.2
        angle = side * rng.uniform(0.05, 0.5 + gait) if not raised else side * rng.uniform(1.6, 3)
        arm = walk((neck[0] + side * 0.075 * wide, -0.78), (angle, 0.16), (angle * 0.6, 0.15))
        sleeve = top if rng.random() < 0.6 else skin
        strokes.append(Stroke(arm, [0.07 * wide, 0.055, 0.04], skin))
        strokes.append(Stroke(arm[:2], [0.075 * wide, 0.06], darken(sleeve, 0.92)))
    head = (neck[0] + 0.01 * turn, -0.925)
    strokes.append(Stroke([head, (head[0], -0.9)], [0.115, 0.1], skin))
    crown = [(head[0] - 0.02 * turn, -0.955), (head[0] - 0.035 * turn, rng.uniform(-0.95, -0.8))]
    strokes.append(Stroke(crown, [0.11, 0.08], hair))
    return strokes


def make_animal(rng: random.Random) -> list[Stroke]:
    """Return an animal with four legs, seen from the side: dogs, horses, cattle, cats."""
    hues = rng.choice((COATS, COATS, COATS, (0, 1)))
    coat = choose_color(rng, hues, saturation=(0.0, 0.65), value=(0.08, 0.95))
    far, dark = darken(coat, 0.62), darken(coat, rng.uniform(0.3, 0.9))
    turn, deep = rng.choice((-1, 1)), rng.uniform(0.25, 0.5)
    reach, leg_length = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.6)
    back, gait = -leg_length - deep / 3, rng.choice((0.1, 0.4, 0.9))
    front, rear = (turn * reach, back), (-turn * reach, back + rng.uniform(-0.05, 0.05))
    strokes: list[Stroke] = []

    def add_legs(color: Color, shift: float) -> None:
        for x, y in (front, rear):
            angle, bend = rng.uniform(-gait, gait), rng.uniform(-0.8, 0.8) * gait
            steps = ((angle, leg_length * 0.55), (angle + bend, leg_length * 0.5))
            leg = walk((x * 0.9 + shift, y + deep / 5), *steps)
            leg.append((leg[-1][0] + turn * 0.06, leg[-1][1]))
            strokes.append(Stroke(leg, [deep * 0.55, deep * 0.26, deep * 0.17, 0.05], color))

    add_legs(far, 0.05)
    tail = walk(rear, *((-turn * rng.uniform(0.3, 2.6), 0.16) for _ in range(3)))
    strokes.append(Stroke(tail, [0.09, 0.07, 0.06, 0.03], coat))
    belly = rng.uniform(0.7, 1.05)
    strokes.append(Stroke([rear, (0, back), front], [deep, deep * belly, deep * 1.1], coat))
    add_legs(coat, 0)
    rise, size = rng.uniform(1.8, 2.7), rng.uniform(0.6, 1)
    neck = walk(front, (turn * rise, rng.uniform(0.2, 0.45)))
    strokes.append(Stroke(neck, [deep * 0.8, deep * 0.55 * size], coat))
    head, muzzle = neck[-1], walk(neck[-1], (turn * rng.uniform(1.1, 1.9), 0.24 * size))
    strokes.append(Stroke(muzzle, [deep * 0.65 * size, deep * 0.35 * size], coat))
    tip = muzzle[-1]
    strokes.append(Stroke([tip, (tip[0] + 0.015 * turn, tip[1])], [0.06, 0.05], (25, 20, 20)))
    ear = walk(head, (-turn * rng.choice((0.2, 0.4, 2.7, 3.0)), 0.17 * size))
    strokes.append(Stroke(ear, [0.13 * size, rng.uniform(0.03, 0.12)], dark))
    eye = (head[0] + 0.06 * turn, head[1] - 0.05)
    strokes.append(Stroke([eye, eye], [0.04, 0.04], (20, 14, 10)))
    return strokes


def make_bird(rng: random.Random) -> list[Stroke]:
    """Return a bird that stands or flies."""
    feathers, turn = choose_color(rng), rng.choice((-1, 1))
    body = [(-0.35 * turn, -0.35), (0, -0.45), (0.25 * turn, -0.6)]
    strokes = [Stroke([(0, -0.3), (0.02, 0)], [0.04, 0.03], (90, 70, 40))]
    strokes.append(Stroke(body, [0.1, 0.38, 0.25], feathers))
    strokes.append(Stroke([(0.3 * turn, -0.75), (0.5 * turn, -0.72)], [0.24, 0.03], feathers))
    wing = walk((0.1 * turn, -0.5), (-turn * rng.uniform(1, 3), 0.35), (-turn * 1.5, 0.3))
    strokes.append(Stroke(wing, [0.22, 0.2, 0.05], darken(feathers, rng.uniform(0.5, 1.3))))
    return strokes


def make_boat(rng: random.Random) -> list[Stroke]:
    """Return a boat with a mast and, mostly, a sail."""
    hull, sail = choose_color(rng), choose_color(rng, saturation=(0, 0.4), value=(0.7, 1))
    strokes = [Stroke([(-0.4, -0.08), (0, -0.06), (0.45, -0.1)], [0.1, 0.17, 0.08], hull)]
    strokes.append(Stroke([(0, -0.1), (0, -1)], [0.03, 0.015], (110, 90, 70)))
    if rng.random() < 0.8:
        strokes.append(Stroke([(0.15, -0.2), (0.03, -0.95)], [0.3, 0.02], sail))
    return strokes


def make_tree(rng: random.Random) -> list[Stroke]:
    """Return a tree or a bush: a trunk with branches and masses of leaves."""
    bark = choose_color(rng, COATS, saturation=(0.1, 0.5), value=(0.15, 0.5))
    leaves = choose_color(rng, rng.choice(((0.2, 0.38), (0.2, 0.38), (0.05, 0.15))))
    strokes = [Stroke([(0, 0), (rng.gauss(0, 0.03), -0.5)], [0.1, 0.06], bark)]
    for _ in range(rng.randint(3, 12)):
        x, y = rng.gauss(0, 0.16), -rng.uniform(0.4, 0.9)
        strokes.append(Stroke([(0, -0.35), (x, y)], [0.05, 0.02], bark))
        blob, wide = [(x, y), (x + rng.gauss(0, 0.05), y)], rng.uniform(0.15, 0.4)
        strokes.append(Stroke(blob, [wide, wide], darken(leaves, rng.uniform(0.6, 1.3))))
    return strokes


def make_thing(rng: random.Random) -> list[Stroke]:
    """Return a ball, a post, a rock or a vehicle."""
    color, form = choose_color(rng), rng.choice(("ball", "post", "rock", "vehicle"))
    if form == "ball":
        return [Stroke([(0, -0.5), (0, -0.5)], [1, 1], color)]
    if form == "post":
        return [Stroke([(0, 0), (0, -1)], [0.08, 0.08], color)]
    if form == "rock":
        gray = choose_color(rng, COATS, saturation=(0, 0.3), value=(0.25, 0.8))
        spots = [(rng.gauss(0, 0.4), -rng.uniform(0, 0.6)) for _ in range(6)]
        return [Stroke([spot, spot], [0.7, 0.7], gray) for spot in spots]
    strokes = [
        Stroke([(-0.7, -0.32), (0.75, -0.3)], [0.4, 0.36], color),
        Stroke([(-0.45, -0.6), (0.3, -0.6)], [0.42, 0.42], color),
        Stroke([(-0.4, -0.62), (0.25, -0.62)], [0.24, 0.24], (70, 90, 105)),
    ]
    for x in (-0.5, 0.55):
        strokes.append(Stroke([(x, -0.14), (x, -0.14)], [0.34, 0.34], (25, 25, 27)))
        strokes.append(Stroke([(x, -0.14), (x, -0.14)], [0.16, 0.16], (150, 150, 155)))
    return strokes


FIGURES: Sequence[Callable[[random.Random], list[Stroke]]] = (
    make_person, make_person, make_person, make_animal, make_animal, make_animal,
    make_bird, make_boat, make_tree, make_thing,
)  # fmt: skip
