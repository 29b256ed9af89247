"""Contact sheets: a picture, and beside it where the model looked for each word of its caption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from captioner.errors import CaptionerError
from captioner.images import load_image
from captioner.overlay import overlay

if TYPE_CHECKING:
    from captioner.predict import Attention, Captioner, Result

COLUMNS = 5
TILE = 240
"""Pixels of a picture's longer side on a sheet."""
LABEL, MARGIN, TEXT = 28, 8, 18
"""Pixels of the line below a picture, of what is between pictures, and of a letter's height."""


class Sheets:
    """A folder of sheets, one for each captioned image: `photo.jpg` has `photo.attention.png`.

    Of several photos of that name, the second has `photo-2.attention.png`. Raises CaptionerError
    where the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self._names = Path(folder), set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def follow(
        self, captioner: Captioner, paths: Iterable[str], results: Iterable[Result]
    ) -> Iterator[Result]:
        """The results of these images as they come, and a sheet of each one's best caption.

        One whose sheet cannot be drawn has the error in the place of its captions.
        """
        for path, result in zip(paths, results, strict=True):
            if result.error is None:
                try:
                    self.write(captioner, path, result.text)
                except CaptionerError as error:
                    result = replace(result, captions=(), error=error)
            yield result

    def write(self, captioner: Captioner, path: str, text: str) -> Path:
        """Write the sheet of an image and its caption; raises CaptionerError."""
        words = captioner.attention(path, text) if text.strip() else []
        found = sheet(load_image(path, min_size=2 * TILE), words)
        target = self.folder / f"{self._name(Path(path).stem)}.attention.png"
        try:
            found.save(target)
        except OSError as error:
            raise self._unwritable(error) from None
        return target

    def _name(self, stem: str) -> str:
        """The stem, with a number where it has come before, on any file system."""
        name, number = stem, 1
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name.casefold())
        return name

    def _unwritable(self, error: OSError) -> CaptionerError:
        reason = error.strerror or error
        return CaptionerError(f"{self.folder}: no sheets can be written there ({reason})")


def sheet(image: Image.Image, words: Sequence[Attention]) -> Image.Image:
    """The RGB image, and one overlay for each word, with the word below it, row by row."""
    scale = TILE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    tiles = [(small, "")]
    tiles += [(overlay(small, found.weights, found.box), found.word) for found in words]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    wide, high = TILE + MARGIN, height + LABEL + MARGIN
    found = Image.new("RGB", (columns * wide + MARGIN, rows * high + MARGIN), "white")
    pen = ImageDraw.Draw(found)
    for i, (tile, word) in enumerate(tiles):
        row, column = divmod(i, columns)
        left, top = MARGIN + column * wide, MARGIN + row * high
        found.paste(tile, (left + (TILE - width) // 2, top))
        middle = left + TILE // 2, top + height + LABEL // 2
        pen.text(middle, word, fill="black", font=_font(word), anchor="mm")
    return found


def _font(word: str) -> ImageFont.FreeTypeFont:
    """Pillow's own letters, small enough for the word to be as wide as a tile."""
    font = ImageFont.load_default(TEXT)
    return ImageFont.load_default(min(TEXT, TEXT * TILE / max(1, font.getlength(word))))
