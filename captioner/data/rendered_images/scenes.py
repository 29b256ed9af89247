"""Scenes of computer graphics that imitate photographs: texture, shading, shadows and grain."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from captioner.data.rendered_images.scene_figures import (
    FIGURES,
    Stroke,
    choose_color,
    darken,
    make_tree,
)
from captioner.data.rendered_images.scene_layers import Scene, blur, mix, smooth

GRASS, SAND, SNOW, STONE, WATER = (0.18, 0.36), (0.07, 0.13), (0.5, 0.7), (0, 1), (0.48, 0.62)
"""Ranges of natural hues."""


def draw_scene(rng: random.Random, photograph: Image.Image | None) -> Image.Image:
    """Return a landscape or an interior with figures, which are larger in front."""
    width = rng.randint(300, 448)
    height = round(width * rng.choice((0.66, 0.75, 0.75, 1, 1.33)))
    scene = Scene(rng, (height, width))
    horizon = height * rng.uniform(0.08, 0.6)
    if rng.random() < 0.15:
        _draw_wall(scene)
    else:
        _draw_sky(scene, horizon)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            rng.choice((_draw_hills, _draw_foliage, _draw_houses))(scene, horizon)
    hues = _draw_ground(scene, horizon)
    if rng.random() < 0.35:
        _draw_water(scene, horizon)
    if rng.random() < 0.5:  # out of focus
        scene.pixels = blur(scene.pixels, rng.uniform(0.5, 6))
    if rng.random() < 0.45:
        _draw_blades(scene, hues, rng.uniform(horizon, height * 0.8), rng.randint(500, 3500))
    _draw_figures(scene, horizon)
    if rng.random() < 0.3:
        _draw_blades(scene, hues, rng.uniform(0.75, 0.95) * height, rng.randint(200, 1200))
    return scene.finish()


def _draw_wall(scene: Scene) -> None:
    color, grain = choose_color(scene.rng, saturation=(0, 0.5)), scene.fractal(2, 3, 6)
    light = smooth(scene.x, -scene.size[1], 2 * scene.size[1]) + 0.5
    scene.blend(np.multiply.outer(light + 0.06 * grain, color), np.ones(scene.size))
    if scene.rng.random() < 0.5:
        step = scene.rng.uniform(12, 60)
        lines = smooth(np.cos(2 * math.pi * scene.x / step), 0.9, 1)
        scene.blend(darken(color, 0.7), lines * scene.rng.uniform(0.1, 0.6))


def _draw_sky(scene: Scene, horizon: float) -> None:
    """Fill the image with a gradient, clouds that flatten toward the horizon, and a glow."""
    rng = scene.rng
    sunset = rng.random() < 0.2
    top = choose_color(rng, WATER, saturation=(0.05, 0.7), value=(0.4, 0.95))
    low = choose_color(rng, (0, 0.15) if sunset else WATER, saturation=(0, 0.4), value=(0.7, 1))
    depth = (scene.y / max(horizon, 1)).clip(0, 1)
    scene.blend(top, np.ones(scene.size))
    scene.blend(low, depth ** rng.uniform(0.6, 2))
    rows = rng.uniform(3, 12)
    cover = scene.fractal(rows, rows * rng.uniform(0.3, 1), 6) + rng.uniform(-1.5, 0.8)
    light = rng.uniform(200, 250) + rng.uniform(5, 25) * scene.fractal(6, 5, 4)
    opacity = smooth(cover, 0, rng.uniform(0.6, 2.5)) * rng.uniform(0.4, 1)
    scene.blend(np.repeat(light[..., None], 3, 2), opacity)
    if rng.random() < 0.2:
        x, y, size = rng.uniform(0, scene.size[1]), rng.uniform(0, horizon), rng.uniform(8, 60)
        distance = (scene.x - x) ** 2 + (scene.y - y) ** 2
        scene.blend((255, 248, 225), np.exp(-distance / (2 * size**2)))


def _draw_hills(scene: Scene, horizon: float) -> None:
    """Draw ridges behind one another, paler with distance."""
    rng, (height, _) = scene.rng, scene.size
    color = choose_color(rng, rng.choice((GRASS, WATER, SAND)), saturation=(0.1, 0.6))
    haze = choose_color(rng, WATER, saturation=(0, 0.3), value=(0.7, 0.95))
    count = rng.randint(1, 4)
    for i in range(count):
        ridge = scene.fractal(1, rng.uniform(1.5, 5))[0] * height * rng.uniform(0.01, 0.07)
        top = horizon - height * rng.uniform(0, 0.2) * (count - i) / count + ridge
        relief = 1 + rng.uniform(0.02, 0.2) * scene.fractal(10, 14)
        ground = np.multiply.outer(relief, color)
        layer = mix(ground, haze, np.full(scene.size, 0.8 - i / count / 2))
        scene.blend(layer, smooth(scene.y, top - 1, top + 1))


def _draw_foliage(scene: Scene, horizon: float) -> None:
    """Draw a line of trees or bushes whose edge and tones are noise."""
    rng, (height, width) = scene.rng, scene.size
    color = choose_color(rng, rng.choice((GRASS, GRASS, SAND)), value=(0.15, 0.6))
    cells = rng.uniform(6, 20)
    leaves = scene.fractal(cells * height / width, cells, 6)
    top = horizon - height * rng.uniform(0.02, 0.5) + leaves * height * rng.uniform(0.01, 0.06)
    layer = np.multiply.outer(0.8 + 0.4 * smooth(leaves, -1.5, 1.5), color)
    gaps = smooth(scene.fractal(cells, 2 * cells), rng.uniform(-3, -1), 0.2)
    scene.blend(layer, smooth(scene.y, top - 2, top + 2) * gaps)


def _draw_houses(scene: Scene, horizon: float) -> None:
    """Draw walls with rows of windows."""
    rng, (height, width) = scene.rng, scene.size
    x = rng.uniform(-0.2, 0.5) * width
    while x < width * rng.uniform(0.5, 1.2):
        wide, tall = width * rng.uniform(0.08, 0.4), height * rng.uniform(0.08, 0.5)
        inside = (scene.x > x) & (scene.x < x + wide) & (scene.y > horizon - tall)
        color = choose_color(rng, (0, 0.15), saturation=(0, 0.6), value=(0.3, 0.95))
        wall = np.multiply.outer(1 + 0.07 * scene.fractal(12, 12), color)
        step = rng.uniform(10, 30)
        across, down = (scene.x - x) / step % 1, (scene.y - horizon) / step / 1.3 % 1
        window = (np.abs(across - 0.5) < 0.25) & (np.abs(down - 0.5) < 0.3)
        wall = mix(wall, darken(color, rng.choice((0.3, 0.5, 1.3))), window.astype(np.float32))
        scene.blend(wall, inside.astype(np.float32))
        x += wide * rng.choice((1, 1, 1.4))


def _draw_ground(scene: Scene, horizon: float) -> tuple[float, float]:
    """Draw a plane of grass, sand, snow, stone or planks; return its range of hues."""
    rng, height = scene.rng, scene.size[0]
    hues, saturation, value = rng.choice((
        (GRASS, (0.3, 0.75), (0.3, 0.75)), (GRASS, (0.3, 0.75), (0.3, 0.75)),
        (SAND, (0.15, 0.5), (0.5, 0.95)), (SNOW, (0, 0.12), (0.8, 1)),
        (STONE, (0, 0.15), (0.25, 0.7)), (SAND, (0.3, 0.7), (0.2, 0.6)),
    ))  # fmt: skip
    low = choose_color(rng, hues, saturation=saturation, value=value)
    high = choose_color(rng, hues, saturation=saturation, value=value)
    patches = scene.plane(horizon, rng.uniform(5, 60), rng.uniform(3, 20))
    rough = scene.plane(horizon, rng.uniform(20, 90), rng.uniform(8, 40))
    shape = scene.size
    layer = mix(np.full((*shape, 3), low, np.float32), high, smooth(patches, -1.5, 1.5))
    relief = rough - np.roll(rough, 2, 0) if rng.random() < 0.5 else rough
    layer *= (1 + rng.uniform(0.02, 0.18) * relief)[..., None]
    layer += rng.uniform(0, 14) * scene.fractal(120, 160, 2)[..., None]
    edge = horizon + height * rng.choice((0, 0.01, 0.03)) * scene.fractal(1, 6)[0]
    scene.blend(layer, smooth(scene.y, edge - 1, edge + rng.choice((1, 1, 12))))
    return hues


def _draw_water(scene: Scene, horizon: float) -> None:
    """Draw a sea or a river below the horizon, with ripples, crests, foam and a wet shore."""
    rng, (height, _) = scene.rng, scene.size
    shore = horizon + (height - horizon) * rng.uniform(0.15, 1.1)
    edge = shore + height * rng.uniform(0.005, 0.05) * scene.fractal(1, 3)[0]
    edge = edge + rng.uniform(-0.15, 0.15) * (scene.x[0] - scene.size[1] / 2)
    near = ((scene.y - horizon) / np.maximum(edge - horizon, 1)).clip(0, 1)
    far, close = choose_color(rng, WATER), choose_color(rng, WATER, saturation=(0.1, 0.6))
    ripple = scene.plane(horizon, rng.uniform(30, 90), rng.uniform(6, 20))
    layer = mix(np.full((*scene.size, 3), far, np.float32), close, near)
    layer += (rng.uniform(4, 30) * ripple * (0.3 + near))[..., None]
    foam = scene.fractal(24, 20)
    for _ in range(rng.randint(0, 5)):
        place, thick = rng.uniform(0.1, 0.95), rng.uniform(1, 9)
        crest = scene.y - horizon - (edge - horizon) * place - 4 * scene.fractal(1, 6, 4)[0]
        band = smooth(1 - np.abs(crest) / thick + 0.4 * foam, 0.2, 1)
        layer = mix(layer, darken(close, 0.5), 0.4 * np.roll(band, -round(thick), 0))
        layer = mix(layer, (246, 249, 250), band * rng.uniform(0.5, 1))
    below = smooth(scene.y, horizon - 1, horizon + 1)
    wet = below * (1 - smooth(scene.y - edge, 0, rng.uniform(5, 50)))
    scene.blend(scene.pixels * 0.7, wet)
    scene.blend(layer, below * (1 - smooth(scene.y, edge - 1, edge + 1)))
    lace = smooth(1 - np.abs(scene.y - edge) / rng.uniform(2, 8) + 0.5 * foam, 0.3, 1)
    scene.blend((248, 249, 248), below * lace * rng.choice((0, 0.6, 0.9)))


def _draw_blades(scene: Scene, hues: tuple[float, float], top: float, count: int) -> None:
    """Draw blades of grass from the row `top` to the lower edge, longer in front."""
    rng, (height, width) = scene.rng, scene.size
    image = Image.fromarray(scene.pixels.clip(0, 255).astype(np.uint8))
    image = image.resize((2 * width, 2 * height))
    pen = ImageDraw.Draw(image)
    base, bent = choose_color(rng, hues, saturation=(0.2, 0.7)), rng.gauss(0, 0.2)
    longest, spread = rng.uniform(0.02, 0.09) * height, rng.uniform(0.15, 0.5)
    for y in sorted(top + (height * 1.05 - top) * rng.random() for _ in range(count)):
        near = (y - top) / (height - top + 1)
        x, length = rng.uniform(0, width), longest * (0.2 + near) * rng.uniform(0.5, 1.2)
        lean = rng.gauss(bent, spread) * length
        path = [(x, y), (x + 0.3 * lean, y - 0.6 * length), (x + lean, y - length)]
        color = darken(base, rng.uniform(0.55, 1.35))
        pen.line([(2 * a, 2 * b) for a, b in path], color, max(1, round(2.5 * near)))
    resized = image.resize((width, height), Image.Resampling.BOX)
    scene.pixels = np.asarray(resized, np.float32)


def _draw_figures(scene: Scene, horizon: float) -> None:
    """Draw figures from the farthest to the nearest."""
    rng, height = scene.rng, scene.size[0]
    count = rng.choice((0, 1, 1, 1, 2, 2, 3, 4, 6))
    kinds = [rng.choice(FIGURES) for _ in range(rng.randint(1, 2))]
    nearest = rng.uniform(0.2, 0.9) * height
    for foot in sorted(rng.uniform(horizon + 0.1 * height, height) for _ in range(count)):
        near = (foot - horizon) / (height - horizon)
        make = rng.choice(kinds)
        size = nearest * (0.25 + 0.75 * near) * rng.uniform(0.8, 1.2)
        _draw_figure(scene, make(rng), foot, size, leafy=make is make_tree)


def _draw_figure(
    scene: Scene, strokes: Sequence[Stroke], foot: float, size: float, *, leafy: bool
) -> None:
    """Draw a figure with its shadow, shading, and the texture of cloth, fur or leaves."""
    rng = scene.rng
    x = rng.uniform(0.05, 0.95) * scene.size[1]
    colors, opacity = _draw_strokes(scene, strokes, (x, foot), size)
    _draw_shadow(scene, opacity, x, foot, size)
    rough = rng.random() < 0.5 or leafy
    if rough:
        edge = rng.uniform(0.05, 0.3) * scene.fractal(60, 80, 3).clip(-1, 1)
        ragged = blur(opacity, size * 0.008) + edge
        base = strokes[-1].color if leafy else strokes[len(strokes) // 2].color
        colors, opacity = mix(colors, base, 1 - opacity), smooth(ragged, 0.35, 0.65)
    rows, columns = rng.choice(((30, 60), (140, 50), (50, 140), (90, 90)))
    texture = 1 + rng.uniform(0.02, 0.22 if rough else 0.1) * scene.fractal(rows, columns, 3)
    radius = size * rng.uniform(0.015, 0.05)
    light = scene.shade(opacity, radius, rng.uniform(0.6, 2.2))
    light = light * scene.shade(opacity, radius / 3, rng.uniform(0, 1))
    scene.blend(colors * (light * texture)[..., None], opacity)


def _draw_strokes(
    scene: Scene, strokes: Sequence[Stroke], foot: tuple[float, float], size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the colors and the opacity of strokes; `foot` is the place of the origin."""
    height, width = scene.size
    image = Image.new("RGBA", (2 * width, 2 * height))
    pen = ImageDraw.Draw(image)
    for points, widths, color in strokes:
        track = np.array([(foot[0] + size * x, foot[1] + size * y) for x, y in points])
        steps = np.linspace(0, len(points) - 1, 24 * (len(points) - 1))
        places = range(len(points))
        for step in steps:
            x, y = (2 * np.interp(step, places, track[:, axis]) for axis in (0, 1))
            r = size * np.interp(step, places, widths)
            pen.ellipse((x - r, y - r, x + r, y + r), color)
    drawn = np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32)
    return drawn[..., :3], drawn[..., 3] / 255


def _draw_shadow(scene: Scene, opacity: np.ndarray, x: float, foot: float, size: float) -> None:
    """Darken the ground below a figure, or where the light casts its shape."""
    rng, (height, width) = scene.rng, scene.size
    if rng.random() < 0.5:
        wide, flat = size * rng.uniform(0.2, 0.7), size * rng.uniform(0.02, 0.08)
        shadow = np.exp(-(((scene.x - x) / wide) ** 2) - ((scene.y - foot) / flat) ** 2)
    else:
        stretch = rng.uniform(1.5, 4)
        lean = math.cos(scene.light) * rng.uniform(0.3, 1.5)
        mirrored = Image.fromarray((opacity[::-1] * 255).astype(np.uint8))
        matrix = (1, lean, -lean * foot, 0, stretch, (height - foot) - stretch * foot)
        cast = mirrored.transform((width, height), Image.Transform.AFFINE, matrix)
        shadow = blur(np.asarray(cast, np.float32) / 255, rng.uniform(1, 4))
    scene.blend(scene.pixels * (0.39, 0.39, 0.44), shadow * rng.uniform(0.4, 0.95))
