"""Attention sheets: an image, and one copy with the attention map of each word of its caption."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from captioner.cli.batch.find_images import SHEET_KEY
from captioner.cli.output import escape_path
from captioner.errors import CaptionerError
from captioner.files import file_digest
from captioner.images import load_image
from captioner.images.heatmap import overlay

if TYPE_CHECKING:
    from captioner.predict import Attention, Caption, Captioner

COLUMNS = 5
TILE = 240
"""Length in pixels of the longer side of an image on a sheet."""
LABEL, MARGIN, TEXT = 28, 8, 18
"""Heights in pixels of the label below an image, of the margin, and of a letter."""
_IMAGE, _CONTENT = SHEET_KEY, "captioner-content"
"""Keys of PNG texts that identify the image of a sheet: digests of its path and content."""


class SheetWriter:
    """Writes one sheet per captioned image; creates the folder, or raises CaptionerError.

    A sheet stores which image it shows. The sheet of another image is replaced only with
    `overwrite`.
    """

    def __init__(
        self,
        folder: str,
        captioner: Callable[[], Captioner],
        *,
        join_audio: Callable[[str], Any],
        overwrite: bool = False,
    ) -> None:
        self._captioner, self._join_audio, self._overwrite = captioner, join_audio, overwrite
        _make_folder(Path(folder))

    def draw(self, path: str, caption: str | Caption, target: str) -> tuple[str, str]:
        """Write the sheet of an image and its caption to the file `target`.

        A caption of which only the text is known is encoded.

        Returns:
            An error if the sheet cannot be drawn, and a remark if the file has the sheet of another
            image and is kept; empty if not.
        """
        own = _identity(path)
        if not self._overwrite and _is_of_another(target, own):
            kept = f"{target}: is the sheet of another image and is kept; --overwrite replaces it"
            return "", kept
        try:
            model = self._captioner()
            encoded = model.encode(self._join_audio(path))
            if "image" not in encoded.inputs:
                raise CaptionerError(f"{path}: --attention draws over images, not over recordings")
            text = caption if isinstance(caption, str) else caption.text
            words = model.attention(encoded, caption) if text.strip() else []
            sheet = draw_sheet(load_image(path, min_size=2 * TILE), words)
            _make_folder(Path(target).parent)
            _save(sheet, target, own)
        except CaptionerError as error:
            problem = str(error)
            return problem if problem.startswith(path) else f"{escape_path(path)}: {problem}", ""
        return "", ""


def _identity(path: str) -> dict[str, str]:
    """Return the PNG texts that identify an image: digests of its path and of its content."""
    digests = {_IMAGE: hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}
    with contextlib.suppress(OSError):
        digests[_CONTENT] = file_digest(path)
    return digests


def _is_of_another(target: str, own: Mapping[str, str]) -> bool:
    """Return whether a file is the sheet of another image."""
    try:
        with Image.open(target) as sheet:
            stored = {key: sheet.info.get(key) for key in (_IMAGE, _CONTENT)}
    except (OSError, ValueError, SyntaxError):
        return False
    if stored[_IMAGE] is None:
        return False
    return all(stored[key] != own.get(key) for key in stored)


def _make_folder(folder: Path) -> None:
    with _guard(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _save(sheet: Image.Image, target: str, own: Mapping[str, str]) -> None:
    text = PngInfo()
    for key, value in own.items():
        text.add_text(key, value)
    with _guard(target):
        sheet.save(target, pnginfo=text)


@contextlib.contextmanager
def _guard(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise CaptionerError(f"{path}: no sheet can be written there ({reason})") from None


def draw_sheet(image: Image.Image, words: Sequence[Attention]) -> Image.Image:
    """Return an RGB image and one overlay per word, with the word below it, in rows."""
    scale = TILE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    tiles = [(small, "")]
    tiles += [(overlay(small, x.weights, x.box), x.word) for x in words]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    wide, high = TILE + MARGIN, height + LABEL + MARGIN
    sheet = Image.new("RGB", (columns * wide + MARGIN, rows * high + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (tile, word) in enumerate(tiles):
        row, column = divmod(i, columns)
        left, top = MARGIN + column * wide, MARGIN + row * high
        sheet.paste(tile, (left + (TILE - width) // 2, top))
        middle = left + TILE // 2, top + height + LABEL // 2
        pen.text(middle, word, fill="black", font=_font(word), anchor="mm")
    return sheet


def _font(word: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of Pillow in a size at which the word fits into a tile."""
    font = ImageFont.load_default(TEXT)
    return ImageFont.load_default(min(TEXT, TEXT * TILE / max(1, font.getlength(word))))
