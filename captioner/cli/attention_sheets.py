"""Contact sheets: an image, and beside it the attention of the model for each word of a caption."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from captioner.errors import CaptionerError
from captioner.images import load_image
from captioner.images.heatmap import overlay

if TYPE_CHECKING:
    from captioner.predict import Attention, Captioner

COLUMNS = 5
TILE = 240
"""Pixels of a picture's longer side on a sheet."""
LABEL, MARGIN, TEXT = 28, 8, 18
"""Pixels of the line below a picture, of what is between pictures, and of a letter's height."""
_IMAGE, _CONTENT = "captioner-image", "captioner-content"
"""Texts of a sheet's PNG that say which image it is of, by digests of path and content."""


class Sheets:
    """Writes sheets below a folder, one for each captioned image.

    A sheet states which image it is of, so that it is not replaced by another image's.

    Args:
        captioner: Gives the captioner that has written the captions.
        overwrite: Replace the sheets of other images.

    Raises:
        CaptionerError: The folder cannot be written.
    """

    def __init__(
        self, folder: str, captioner: Callable[[], Captioner], *, overwrite: bool = False
    ) -> None:
        self._captioner, self._overwrite = captioner, overwrite
        _make_folder(Path(folder))

    def draw(self, path: str, text: str, target: str) -> tuple[str, str]:
        """Write the sheet of an image and its caption.

        Returns:
            Why it cannot be drawn, and why the file that is there is kept; empty texts if neither.
        """
        own = _identity(path)
        if not self._overwrite and _is_of_another(target, own):
            return (
                "",
                f"{target}: is the sheet of another image and is kept; --overwrite replaces it",
            )
        try:
            words = self._captioner().attention(path, text) if text.strip() else []
            drawn = sheet(load_image(path, min_size=2 * TILE), words)
            _make_folder(Path(target).parent)
            _save(drawn, target, own)
        except CaptionerError as error:
            return str(error), ""
        return "", ""


def _identity(path: str) -> dict[str, str]:
    """Return what a sheet states of its image: digests of its path, and of its content."""
    digests = {_IMAGE: hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}
    with contextlib.suppress(OSError):
        digests[_CONTENT] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return digests


def _is_of_another(target: str, own: Mapping[str, str]) -> bool:
    """Return whether a file is a sheet that states another image."""
    try:
        with Image.open(target) as found:
            stated = {key: found.info.get(key) for key in (_IMAGE, _CONTENT)}
    except (OSError, ValueError, SyntaxError):
        return False
    if stated[_IMAGE] is None:
        return False
    return all(stated[key] != own.get(key) for key in stated)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _save(drawn: Image.Image, target: str, own: Mapping[str, str]) -> None:
    text = PngInfo()
    for key, value in own.items():
        text.add_text(key, value)
    try:
        drawn.save(target, pnginfo=text)
    except OSError as error:
        raise _unwritable(target, error) from None


def _unwritable(path: str | Path, error: OSError) -> CaptionerError:
    return CaptionerError(f"{path}: no sheet can be written there ({error.strerror or error})")


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
