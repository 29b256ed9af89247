"""Draw the example images procedurally: `python examples/draw.py [FOLDER]`.

The images imitate photographs: they have shading, texture, blurred backgrounds and grain, so that a
model trained on photographs recognizes them. Seeds are fixed, so every run draws the same pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 640, 480
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
Rng = np.random.Generator
Color = tuple[int, int, int]
Stroke = tuple[Sequence[tuple[float, float]], Sequence[float], Color]  # points, widths, color


def noise(rng: Rng, cells: tuple[float, float], octaves: int = 5) -> np.ndarray:
    """Return fractal value noise (H, W) in about -1..1; `cells` is the coarsest grid (H, W)."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for octave in range(octaves):
        shape = [min(int(cell * 2**octave) + 2, 2 * HEIGHT) for cell in cells]
        grid = Image.fromarray(rng.uniform(-1, 1, shape).astype(np.float32))
        layer = grid.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        total += np.asarray(layer) / 2 ** (0.9 * octave)
    return total


def smooth(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a smooth step from 0 at `low` to 1 at `high`."""
    part = np.clip((values - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)


def blend(low: Color, high: Color, weight: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) from color `low` at weight 0 to `high` at weight 1."""
    return mix(np.full((HEIGHT, WIDTH, 3), low, np.float32), high, np.clip(weight, 0, 1))


def mix(one: np.ndarray, other: np.ndarray | Sequence[float], weight: np.ndarray) -> np.ndarray:
    """Blend two images or colors (H, W, 3) by a weight (H, W)."""
    return one + (np.asarray(other, np.float32) - one) * weight[..., None]


def blur(values: np.ndarray, radius: float) -> np.ndarray:
    """Blur values (H, W) within 0..1 or an image (H, W, 3) within 0..255 (Gaussian)."""
    scale = 255 if values.ndim == 2 else 1
    picture = Image.fromarray(np.clip(values * scale, 0, 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32) / scale


def reduce_size(image: Image.Image) -> np.ndarray:
    """Reduce a drawing at a multiple of the size to (H, W) or (H, W, 3)."""
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), np.float32)


def ground(rng: Rng, horizon: float, cells: tuple[float, float]) -> np.ndarray:
    """Return noise on a plane from the lower edge to `horizon`, finer with distance."""
    flat = noise(rng, cells, 6)
    depth = (HEIGHT - horizon) / np.maximum(Y - horizon, 0.7)
    column = WIDTH / 2 + (X - WIDTH / 2) * np.minimum(depth, 12) * 0.5
    # mirror the plane at the edges
    row = HEIGHT - 1 - np.abs(depth * 150 % (2 * HEIGHT) - HEIGHT)
    column = WIDTH - 1 - np.abs(column % (2 * WIDTH) - WIDTH)
    return flat[row.astype(int).clip(0), column.astype(int).clip(0)]


def sky(rng: Rng, horizon: float) -> np.ndarray:
    """Return a blue gradient with clouds that flatten toward the horizon (H, W, 3)."""
    blue = blend((76, 140, 210), (200, 224, 240), Y / horizon)
    cover = smooth(noise(rng, (7, 4), 7) + 0.25 * (1 - Y / horizon), 0.05, 0.95)
    light = 236 + 16 * noise(rng, (6, 5), 4)
    return mix(blue, np.stack([light, light + 2, light + 5], -1), 0.85 * cover)


def body(strokes: Sequence[Stroke]) -> tuple[np.ndarray, np.ndarray]:
    """Draw tapering strokes in order; return colors (H, W, 3) and opacity (H, W)."""
    layer = Image.new("RGBA", (3 * WIDTH, 3 * HEIGHT))
    draw = ImageDraw.Draw(layer)
    for points, widths, color in strokes:
        tracks = [*zip(*points, strict=True), widths]
        for step in np.linspace(0, len(points) - 1, 40 * len(points)):
            x, y, r = (3 * np.interp(step, range(len(points)), track) for track in tracks)
            draw.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), fill=color)
    return (drawn := reduce_size(layer))[..., :3], drawn[..., 3] / 255


def shade(colors: np.ndarray, opacity: np.ndarray, radius: float, strength: float) -> np.ndarray:
    """Shade a flat figure as a round one, with light from the upper left."""
    down, right = np.gradient(blur(opacity, radius))
    light = 1 + strength * radius * (0.8 * right + 0.6 * down)
    return np.clip(colors * np.clip(light, 0.35, 1.5)[..., None], 0, 255)


def finish(rng: Rng, picture: np.ndarray) -> Image.Image:
    """Apply the effects of lens and film: slight blur, vignette, contrast and grain."""
    edges = (2 * X / WIDTH - 1) ** 2 + (2 * Y / HEIGHT - 1) ** 2
    picture = blur(picture, 0.6) * (1 - 0.16 * edges)[..., None]
    grain = rng.normal(0, 3.2, (HEIGHT, WIDTH, 1)) + rng.normal(0, 1.5, (HEIGHT, WIDTH, 3))
    picture = mix(picture, picture.mean(-1, keepdims=True), np.full((HEIGHT, WIDTH), 0.12))
    curve = 8 + 0.95 * picture + 7 * np.sin((picture - 128) / 128 * np.pi)
    return Image.fromarray(np.clip(curve + grain, 0, 255).astype(np.uint8))


def person(x: float, foot: float, size: float, step: float, *dress: Color) -> list[Stroke]:
    """Return the strokes of a walking person from behind, `size` pixels tall, feet at (x, foot).

    `dress` holds the colors of skin, hair, shirt and trousers.
    """
    skin, hair, shirt, trousers = dress
    strokes: list[Stroke] = []

    def stroke(color: Color, *track: tuple[float, float, float]) -> None:
        """Add a stroke through points (across, up, width), in units of the person's size."""
        points = [(x + across * size, foot - up * size) for across, up, _ in track]
        strokes.append((points, [width * size for *_, width in track], color))

    for side in (-1, 1):
        go = side * step
        hip, knee = (0.05 * side, 0.5, 0.11), (0.05 * side + 0.4 * go, 0.27, 0.08)
        ankle = (0.05 * side + go, 0.03, 0.045)
        stroke(skin, hip, knee, ankle, (ankle[0] + 0.03, 0.015, 0.035))
        stroke(trousers, (*hip[:2], 0.125), (*knee[:2], 0.105))
        shoulder, elbow = (0.115 * side, 0.79, 0.064), (0.15 * side - 0.2 * go, 0.62, 0.051)
        stroke(skin, shoulder, elbow, (0.17 * side - 0.5 * go, 0.45, 0.038))
        stroke(shirt, (*shoulder[:2], 0.072), (0.135 * side, 0.71, 0.078))
        stroke(shirt, (0.055 * side, 0.77, 0.1), (0.035 * side, 0.5, 0.115))
    stroke(shirt, (-0.1, 0.785, 0.07), (0.1, 0.785, 0.07))
    stroke(trousers, (-0.04, 0.5, 0.12), (0.04, 0.5, 0.12))
    stroke(skin, (0, 0.9, 0.085), (0, 0.8, 0.06))
    stroke(hair, (-0.004, 0.94, 0.112), (-0.004, 0.915, 0.1))
    if step < 0:
        stroke(hair, (0, 0.93, 0.1), (0, 0.8, 0.11), (0.01, 0.74, 0.06))
    return strokes


def shore(rng: Rng, horizon: float) -> np.ndarray:
    """Return sky, sea, breaking waves and sand (H, W, 3)."""
    edge = 318 + 0.045 * (X - 320) + 7 * noise(rng, (0, 3), 4)
    near = ((Y - horizon) / (edge - horizon)).clip(0, 1)
    ripple = ground(rng, horizon - 6, (60, 14))
    sea = blend((38, 84, 128), (104, 160, 166), near**1.4)
    sea += (24 * ripple * (0.35 + near))[..., None]
    sea = mix(sea, (250, 252, 252), 0.7 * smooth(ripple, 1.0, 1.7))
    foam = noise(rng, (30, 24), 5)
    for place, thick in ((0.34, 2.2), (0.58, 5.0), (0.82, 8.5)):
        crest = Y - horizon - (edge - horizon) * place - 5 * place * noise(rng, (0, 7), 4)
        band = smooth(1 - np.abs(crest) / thick + 0.45 * foam, 0.25, 0.9)
        shadow = smooth(1 - np.abs(crest + 1.4 * thick) / (1.6 * thick), 0, 1)
        sea = mix(sea, (30, 86, 110), 0.45 * shadow)
        sea = mix(sea, (244, 248, 249), 0.95 * band * smooth(noise(rng, (0, 5), 3), -0.6, 0.2))
    prints = ground(rng, horizon, (70, 24))
    rough = 9 * ground(rng, horizon, (26, 10)) + 12 * noise(rng, (160, 200), 2)
    rough += 16 * (np.roll(prints, 2, 0) - prints) - 10 * smooth(prints, 0.5, 1.2)
    wet = 1 - smooth(Y - edge - 9 * noise(rng, (0, 4), 3), 14, 46)
    sand = blend((218, 194, 156), (146, 128, 108), 0.85 * wet) + rough[..., None]
    sand = mix(sand, (176, 196, 208), 0.3 * wet * (1 - smooth(Y - edge, 0, 30)))
    picture = mix(sea, sand, smooth(Y, edge - 1, edge + 1))
    lace = smooth(1 - np.abs(Y - edge) / 6 + 0.6 * foam, 0.3, 0.9)
    picture = mix(picture, (246, 248, 247), 0.92 * lace)
    return mix(sky(rng, horizon), picture, smooth(Y, horizon - 0.8, horizon + 0.8))


def cast_shadow(opacity: np.ndarray, foot: float) -> np.ndarray:
    """Return the shadow (H, W) of a standing figure, to the right and toward the camera."""
    upside_down = Image.fromarray((opacity[::-1] * 255).astype(np.uint8))
    lean = (1, -1.4, 1.4 * foot, 0, 3.4, (HEIGHT - foot) - 3.4 * foot)
    cast = upside_down.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, lean)
    return blur(np.asarray(cast, np.float32) / 255, 2.5)


def beach(seed: int = 3) -> Image.Image:
    """Draw two people who walk along a beach."""
    rng = np.random.default_rng(seed)
    picture = blur(shore(rng, 186), 0.8)
    man = ((198, 142, 108), (58, 40, 30), (196, 44, 40), (38, 48, 84))
    woman = ((214, 160, 128), (96, 62, 34), (236, 236, 230), (58, 96, 150))
    for x, foot, size, step, dress in ((268, 420, 232, 0.05, man), (360, 426, 214, -0.035, woman)):
        colors, opacity = body(person(x, foot, size, step, *dress))
        picture = mix(picture, picture * (0.5, 0.5, 0.58), 0.8 * cast_shadow(opacity, foot))
        wrinkle = 1 + 0.09 * noise(rng, (30, 60), 3)[..., None]
        picture = mix(picture, shade(colors * wrinkle, opacity, 6, 1.1), opacity)
    return finish(rng, picture)


def blades(rng: Rng, picture: np.ndarray, top: float, count: int) -> np.ndarray:
    """Draw grass blades from row `top` to the lower edge, longer in front."""
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).resize((1280, 960))
    draw = ImageDraw.Draw(image)
    for foot in np.sort(top + (HEIGHT + 25 - top) * rng.random(count) ** 0.8):
        near = (foot - 150) / (HEIGHT - 150)
        x, length = rng.uniform(-10, WIDTH + 10), (6 + 26 * near) * rng.uniform(0.5, 1.2)
        lean = rng.normal(0.1, 0.35) * length
        tone = rng.normal(12, 22) + 12 * near  # the nearer, the brighter
        fill = tuple(int(c) for c in np.clip([92 + tone, 138 + tone, 44 + 0.6 * tone], 0, 255))
        path = [(x, foot), (x + 0.35 * lean, foot - 0.6 * length), (x + lean, foot - length)]
        draw.line([(2 * a, 2 * b) for a, b in path], fill, max(1, round(2.6 * near)))
    return reduce_size(image)


def hound() -> list[Stroke]:
    """Return the strokes of a dog that gallops to the right, far legs first."""
    coat, far, dark = (130, 84, 48), (80, 52, 32), (58, 38, 24)
    return [
        ([(262, 286), (222, 320), (190, 326), (168, 350)], [46, 28, 17, 13], far),
        ([(398, 284), (438, 310), (470, 306), (490, 316)], [36, 24, 16, 13], far),
        ([(236, 236), (196, 214), (164, 188), (150, 168)], [20, 15, 12, 7], coat),
        ([(262, 250), (320, 252), (390, 250)], [84, 78, 92], coat),
        ([(250, 262), (244, 304), (212, 332), (200, 366), (214, 372)], [70, 42, 22, 15, 13], coat),
        ([(398, 268), (426, 320), (462, 340), (482, 352)], [60, 32, 19, 15], coat),
        ([(404, 240), (436, 204), (452, 186)], [80, 62, 52], coat),
        ([(450, 178), (466, 176)], [58, 54], coat),
        ([(474, 184), (504, 194), (514, 196)], [38, 27, 22], coat),
        ([(484, 204), (506, 210)], [14, 8], (170, 74, 76)),
        ([(514, 188), (519, 190)], [12, 10], (24, 18, 16)),
        ([(444, 164), (430, 184), (428, 204)], [22, 27, 16], dark),
        ([(477, 171), (478, 171.5)], [7, 7], (22, 14, 10)),
    ]


def dog(seed: int = 5) -> Image.Image:
    """Draw a brown dog that runs through grass."""
    rng = np.random.default_rng(seed)
    leaves, patches = noise(rng, (9, 12), 5), ground(rng, 130, (30, 8))
    trees = blend((30, 56, 28), (120, 156, 76), smooth(leaves, -0.7, 1.2))
    trees = mix(trees, (214, 228, 222), smooth(noise(rng, (9, 14), 4) - Y / 130, 0.1, 0.7))
    grass = blend((74, 122, 40), (146, 178, 74), smooth(patches, -1.1, 1.2))
    meadow = blur(mix(trees, grass, smooth(Y + 6 * leaves, 142, 158)), 5)
    picture = blades(rng, meadow, 235, 5000)
    colors, opacity = body(hound())
    shadow = np.exp(-(((X - 330) / 150) ** 2) - ((Y - 376) / 16) ** 2)
    picture = mix(picture, picture * (0.32, 0.4, 0.35), 0.9 * shadow)
    ragged = smooth(blur(opacity, 1.6) + 0.22 * noise(rng, (70, 90), 3), 0.4, 0.62)
    coat = 1 + 0.2 * noise(rng, (150, 60), 3) + 0.06 * noise(rng, (8, 10), 3)
    colors = mix(colors, (130, 84, 48), 1 - opacity)  # for the ragged edge
    lit = shade(shade(colors, opacity, 16, 1.7), opacity, 5, 0.5) * coat[..., None]
    picture = mix(picture, lit, ragged)
    return finish(rng, blades(rng, picture, 362, 1500))


PICTURES = {"beach.jpg": beach, "dog.jpg": dog}

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    for name, draw in PICTURES.items():
        draw().save(folder / name, quality=86)
