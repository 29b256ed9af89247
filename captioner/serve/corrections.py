"""Data set of captions that users correct on the page, for training.

The folder has the `imagefolder` layout: a copy of each image or recording, named after the digest
of its content, and `metadata.jsonl` with `file_name`, `caption` and, for a recording beside an
image, `audio`. Train on it with `train.py data.root=FOLDER`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from captioner.audio import is_audio
from captioner.audio.signatures import NEEDED_BYTES, identify_audio
from captioner.errors import CaptionerError
from captioner.files import open_replacement
from captioner.images.file_types import identify_format

METADATA = "metadata.jsonl"
_FILE_KEYS = ("file_name", "audio")
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

    def save(self, files: Sequence[bytes], caption: str) -> int:
        """Save an image, a recording or both with their caption; return the number of rows.

        It replaces an earlier caption of the same files.

        Raises:
            ImageFormatError: A file is neither an image nor a recording.
            CaptionerError: The caption is empty, too long or not valid text, or the folder cannot
                be written.
        """
        caption = " ".join(caption.split())
        if not caption:
            raise CaptionerError("the corrected caption is empty; enter a caption")
        if len(caption) > MAX_CAPTION_LENGTH:
            length = f"more than {MAX_CAPTION_LENGTH} characters"
            raise CaptionerError(f"the corrected caption has {length}; shorten it")
        contents = {_name_file(data): data for data in files}
        if any("\ud800" <= character <= "\udfff" for character in caption):
            # JSON can represent half of a surrogate pair, a UTF-8 file cannot.
            raise CaptionerError("the corrected caption has an incomplete character; type it again")
        try:
            with self._lock:
                return self._save(contents, caption)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CaptionerError(f"the correction cannot be saved: {reason}") from None

    def _save(self, contents: Mapping[str, bytes], caption: str) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            if not (self.folder / name).exists():
                # The file precedes the row that refers to it.
                _write(self.folder / name, data)
        row = dict(zip(_FILE_KEYS, contents, strict=False)) | {"caption": caption}
        metadata = self.folder / METADATA
        lines = metadata.read_bytes().split(b"\n") if metadata.exists() else []
        lines = [x for x in lines if x.strip() and _file_names(x) != list(contents)]
        lines.append(json.dumps(row, ensure_ascii=False).encode())
        _write(metadata, b"".join(line + b"\n" for line in lines))
        return len(lines)


def _name_file(data: bytes) -> str:
    """Return the name of a copy: the digest of its content, with the suffix of its format."""
    head = data[:NEEDED_BYTES]
    kind = identify_audio(head) if is_audio(head) else identify_format(data)
    return hashlib.sha256(data).hexdigest()[:32] + _SUFFIXES.get(kind, f".{kind.lower()}")


def _file_names(line: bytes) -> list[Any]:
    """Return the files of a row; none for an invalid row, which is kept unchanged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [row[key] for key in _FILE_KEYS if key in row] if isinstance(row, dict) else []


def _write(path: Path, data: bytes) -> None:
    with open_replacement(path, sync=True, private=True) as file:
        file.write(data)
