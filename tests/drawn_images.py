"""Data sets of drawn images: Flickr8k's layout, and questions as JSONL."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

SHAPES = (
    ("red", "circle", "left"),
    ("green", "square", "right"),
    ("blue", "triangle", "left"),
    ("yellow", "circle", "right"),
    ("white", "square", "left"),
    ("purple", "triangle", "right"),
)
"""Color, shape and side of each drawn image."""


def draw(color: str, shape: str, side: str, *, size: int = 64) -> Image.Image:
    """Return an image of a colored shape on the left or right half of a gray square."""
    image = Image.new("RGB", (size, size), (90, 90, 90))
    pen = ImageDraw.Draw(image)
    left = size // 16 if side == "left" else size // 2
    box = (left, size // 4, left + size * 7 // 16, size * 11 // 16)
    if shape == "circle":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    else:
        pen.polygon([(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) / 2, box[1])], color)
    return image


def captions_of(color: str, shape: str, side: str) -> tuple[str, ...]:
    """Return two captions of a drawn image."""
    return (f"a {color} {shape} on the {side}", f"the {shape} is {color}")


def questions_of(color: str, shape: str, side: str) -> tuple[tuple[str, str], ...]:
    """Return questions about a drawn image, each with its answer."""
    return (
        ("What colour is it?", color),
        ("What shape is it?", shape),
        ("On which side is it?", f"on the {side}"),
    )


def make_questions(
    root: Path,
    *,
    train: Sequence[int] = (0, 1, 2, 3),
    val: Sequence[int] = (),
    pictures: Path | None = None,
) -> Path:
    """Write questions about drawn images as JSONL; the numbers are indices of SHAPES.

    `pictures` is the image folder of another data set, which is used instead of new images.
    """
    folder = pictures or root / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    for name, numbers in (("train", train), ("val", val)):
        rows = []
        for i in numbers:
            path = folder / f"{i}.png"
            if pictures is None:
                draw(*SHAPES[i]).save(path)
            image = os.path.relpath(path, root)
            rows += [
                {"image": image, "question": question, "answer": answer}
                for question, answer in questions_of(*SHAPES[i])
            ]
        if rows:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (root / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return root


class Table(list):
    """Rows that also return a column by name, as a `datasets` table does."""

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def make_flickr(
    root: Path,
    *,
    train: Sequence[int] = (0, 1, 2, 3),
    val: Sequence[int] = (),
    captions: int = 2,
    bad: Sequence[int] = (),
) -> Path:
    """Write a data set in Flickr8k's layout; the numbers are indices of SHAPES.

    `bad` images are files that cannot be decoded. With `captions=1`, each image has only its first
    caption.
    """
    images, text = root / "Flicker8k_Dataset", root / "Flickr8k_text"
    images.mkdir(parents=True)
    text.mkdir()
    lines = []
    for i in sorted({*train, *val}):
        path = images / f"{i}.png"
        if i in bad:
            path.write_bytes(b"this is no picture")
        else:
            draw(*SHAPES[i]).save(path)
        texts = captions_of(*SHAPES[i])[:captions]
        lines += [f"{path.name}#{j}\t{caption} ." for j, caption in enumerate(texts)]
    (text / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, numbers in (("train", train), ("dev", val)):
        names = "".join(f"{i}.png\n" for i in numbers)
        (text / f"Flickr_8k.{name}Images.txt").write_text(names, encoding="utf-8")
    return root
