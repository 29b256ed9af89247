"""Data set of captions that users correct on the page, for training.

The folder has the `imagefolder` layout: a copy of each image, named after the digest of its
content, and `metadata.jsonl` with `file_name` and `caption`. Train on it with
`train.py data.root=FOLDER`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from threading import Lock

from captioner.errors import CaptionerError
from captioner.files import open_replacement
from captioner.images.file_types import identify_format

METADATA = "metadata.jsonl"
MAX_CAPTION_LENGTH = 1000
"""Maximum number of characters of a caption."""
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}
"""File name suffixes that differ from the name of the format."""


class Corrections:
    """The data set in one folder, which is created with the first caption.

    Threads may save at the same time; two servers must not share a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._lock = folder, Lock()

    def save(self, data: bytes, caption: str) -> int:
        """Save an image file with its caption; return the number of rows in the data set.

        It replaces an earlier caption of the image.

        Raises:
            ImageFormatError: The bytes are not an image.
            CaptionerError: The caption is empty, too long or not valid text, or the folder cannot
                be written.
        """
        caption = " ".join(caption.split())
        if not caption:
            raise CaptionerError("the corrected caption is empty; enter a caption")
        if len(caption) > MAX_CAPTION_LENGTH:
            length = f"more than {MAX_CAPTION_LENGTH} characters"
            raise CaptionerError(f"the corrected caption has {length}; shorten it")
        kind = identify_format(data)
        suffix = _SUFFIXES.get(kind, f".{kind.lower()}")
        name = hashlib.sha256(data).hexdigest()[:32] + suffix
        if any("\ud800" <= character <= "\udfff" for character in caption):
            # JSON can represent half of a surrogate pair, a UTF-8 file cannot.
            raise CaptionerError("the corrected caption has an incomplete character; type it again")
        try:
            with self._lock:
                return self._save(name, data, {"file_name": name, "caption": caption})
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CaptionerError(f"the correction cannot be saved: {reason}") from None

    def _save(self, name: str, data: bytes, row: dict[str, str]) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / name).exists():
            # The image precedes the row that refers to it.
            _write(self.folder / name, data)
        metadata = self.folder / METADATA
        lines = metadata.read_bytes().split(b"\n") if metadata.exists() else []
        lines = [line for line in lines if line.strip() and _file_name(line) != name]
        lines.append(json.dumps(row, ensure_ascii=False).encode())
        _write(metadata, b"".join(line + b"\n" for line in lines))
        return len(lines)


def _file_name(line: bytes) -> str | None:
    """Return the image of a row; None for an invalid row, which is kept unchanged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row.get("file_name") if isinstance(row, dict) else None


def _write(path: Path, data: bytes) -> None:
    with open_replacement(path, sync=True, private=True) as file:
        file.write(data)
