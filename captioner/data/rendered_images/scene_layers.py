"""Fractal noise, blending and shading of the layers of a scene.

Shapes: H, W pixels. Images are float32 (H, W, 3) within 0..255, opacities float32 (H, W) within
0..1.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

Size = tuple[int, int]
"""Height and width."""


class Scene:
    """Pixels (H, W, 3) on which layers are blended from back to front.

    Args:
        rng: The source of random numbers; the arrays of noise derive from it.
        size: H and W.
    """

    def __init__(self, rng: random.Random, size: Size) -> None:
        self.rng, self.size = rng, size
        self.noise = np.random.default_rng(rng.getrandbits(64))
        self.pixels = np.zeros((*size, 3), np.float32)
        self.y, self.x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        self.light = rng.uniform(-math.pi, 0)
        """The direction of the light in the image; it never comes from below."""

    def fractal(self, rows: float, columns: float, octaves: int = 5) -> np.ndarray:
        """Return fractal noise (H, W), mean 0 and deviation 1, from a coarsest grid of cells."""
        total, roughness = np.zeros(self.size, np.float32), self.rng.uniform(0.45, 0.75)
        for octave in range(octaves):
            shape = [min(round(n * 2**octave) + 2, 400) for n in (rows, columns)]
            grid = Image.fromarray(self.noise.standard_normal(shape, np.float32))
            layer = grid.resize(self.size[::-1], Image.Resampling.BICUBIC)
            total += np.asarray(layer) * roughness**octave
        total -= total.mean()
        return total / max(float(total.std()), 1e-6)

    def plane(self, horizon: float, rows: float, columns: float) -> np.ndarray:
        """Return noise on a plane that extends from the lower edge to the row `horizon`."""
        height, width = self.size
        flat = self.fractal(rows, columns, 6)
        depth = (height - horizon) / np.maximum(self.y - horizon, 0.6)  # 1 at the lower edge
        row = _mirror(depth * height * 0.35, height)
        column = _mirror(width / 2 + (self.x - width / 2) * depth.clip(0, 10) * 0.6, width)
        return flat[row, column]

    def blend(self, layer: np.ndarray | Sequence[float], opacity: np.ndarray) -> None:
        """Blend an image or a color over the pixels."""
        self.pixels = mix(self.pixels, layer, opacity)

    def shade(self, opacity: np.ndarray, radius: float, strength: float) -> np.ndarray:
        """Return factors (H, W) of brightness as if a flat shape were round."""
        down, right = np.gradient(blur(opacity, radius))
        slope = -math.cos(self.light) * right - math.sin(self.light) * down
        return (1 + strength * radius * slope).clip(0.3, 1.6)

    def finish(self) -> Image.Image:
        """Return the image, with blur, vignette, tone curve, color cast and grain of a camera."""
        rng, (height, width) = self.rng, self.size
        pixels = self.pixels
        if rng.random() < 0.7:
            pixels = blur(pixels, rng.uniform(0.3, 1.1))
        edges = (2 * self.x / width - 1) ** 2 + (2 * self.y / height - 1) ** 2
        pixels = pixels * (1 - rng.choice((0, 0.1, 0.15, 0.25)) * edges)[..., None]
        gray = pixels.mean(-1, keepdims=True)
        pixels = gray + (pixels - gray) * rng.uniform(0.6, 1.15)
        steps = rng.uniform(-4, 14) * np.sin((pixels - 128) / 128 * np.pi)
        pixels = (pixels + steps) * [rng.uniform(0.93, 1.06) for _ in range(3)]
        pixels = pixels + rng.uniform(-12, 12)
        grain = rng.choice((0, rng.uniform(1, 8), rng.uniform(1, 5)))
        pixels = pixels + self.noise.normal(0, grain, (height, width, 1))
        pixels = pixels + self.noise.normal(0, grain / 2, (height, width, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def mix(one: np.ndarray, other: np.ndarray | Sequence[float], weight: np.ndarray) -> np.ndarray:
    """Blend an image with an image or a color by a weight (H, W)."""
    return one + (np.asarray(other, np.float32) - one) * weight[..., None]


def smooth(values: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Return a smooth step from 0 at `low` to 1 at `high`."""
    share = ((values - low) / (high - low)).clip(0, 1)
    return share * share * (3 - 2 * share)


def blur(values: np.ndarray, radius: float) -> np.ndarray:
    """Blur an opacity or an image (Gaussian)."""
    scale = 255 if values.ndim == 2 else 1
    image = Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / scale


def _mirror(values: np.ndarray, count: int) -> np.ndarray:
    """Return indices below `count` that run forward and backward."""
    return (count - 1 - np.abs(values % (2 * count) - count)).astype(int).clip(0, count - 1)
