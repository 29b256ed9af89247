"""Data sets with images that resemble photographs, for the data-quality report."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

THINGS = ("dog", "child", "horse", "boat", "woman", "player", "tree", "street", "ball", "house")
COLORS = ("red", "green", "blue", "white", "black", "brown")


def photo(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Return an image with structures of all sizes, like a photograph."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
        total += np.asarray(grid.resize(size, Image.Resampling.BICUBIC), np.float32) * 6 / cells
    total -= total.min()
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


@cache
def encode_photo(seed: int) -> bytes:
    """Return a photo as JPEG."""
    file = io.BytesIO()
    photo(seed).save(file, "JPEG", quality=90)
    return file.getvalue()


def caption(number: int) -> str:
    """Return one of 600 different captions of normal length."""
    thing, other = THINGS[number % 10], THINGS[(number // 10 + number + 3) % 10]
    color = COLORS[(number // 7) % 6]
    return f"A {color} {thing} is standing near the {other} on a sunny day ."


def write_set(
    folder: Path,
    *,
    images: int = 30,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    extra: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a data set of JSON lines with two captions per image; return the file.

    `changes` replaces keys of single rows, and `extra` adds rows.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for i in range(images):
        name = f"images/{i}.jpg"
        (folder / name).write_bytes(encode_photo(i))
        split = "val" if i % 10 == 9 else "train"
        row = {"image": name, "captions": [caption(2 * i), caption(2 * i + 1)], "split": split}
        rows.append(row | dict((changes or {}).get(i, {})))
    path = folder / "data.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in [*rows, *map(dict, extra)]]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
