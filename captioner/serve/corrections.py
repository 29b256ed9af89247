"""Captions that people have mended, as a data set to train on.

The folder follows the `imagefolder` convention: a copy of each picture, named by its content, and
`metadata.jsonl` with `file_name` and `caption`. `train.py data.root=FOLDER` reads it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from threading import Lock

from captioner.errors import CaptionerError
from captioner.files import replace_file
from captioner.images.file_types import identify_format

METADATA = "metadata.jsonl"
LONGEST = 1000
"""Characters of a caption."""
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}
"""Where it is not the format's name."""


class Corrections:
    """The data set in one folder, which is made when the first caption comes.

    Saves take turns; of two servers, each needs a folder of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._lock = folder, Lock()

    def save(self, data: bytes, caption: str) -> int:
        """Keep an image file with its caption, in the place of an earlier one; returns how many
        pictures there are.

        Raises ImageFormatError; CaptionerError for a caption that is empty, too long or no text,
        and where the folder cannot be written.
        """
        caption = " ".join(caption.split())
        if not caption:
            raise CaptionerError("the corrected caption is empty; write one")
        if len(caption) > LONGEST:
            raise CaptionerError(f"the corrected caption has more than {LONGEST} characters")
        kind = identify_format(data)
        suffix = _SUFFIXES.get(kind, f".{kind.lower()}")
        name = hashlib.sha256(data).hexdigest()[:32] + suffix
        if any("\ud800" <= character <= "\udfff" for character in caption):
            # Half a surrogate pair, which JSON can hold, and a UTF-8 file cannot.
            raise CaptionerError("the corrected caption holds half a character; type it again")
        try:
            with self._lock:
                return self._save(name, data, {"file_name": name, "caption": caption})
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CaptionerError(f"the correction cannot be saved: {reason}") from None

    def _save(self, name: str, data: bytes, row: dict[str, str]) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / name).exists():
            replace_file(
                self.folder / name, data, sync=True, private=True
            )  # before the row that names it
        metadata = self.folder / METADATA
        lines = metadata.read_bytes().split(b"\n") if metadata.exists() else []
        lines = [line for line in lines if line.strip() and _name(line) != name]
        lines.append(json.dumps(row, ensure_ascii=False).encode())
        text = b"".join(line + b"\n" for line in lines)
        replace_file(metadata, text, sync=True, private=True)
        return len(lines)


def _name(line: bytes) -> str | None:
    """What picture a row is of; None where it is no such row, which stays as it is."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row.get("file_name") if isinstance(row, dict) else None
