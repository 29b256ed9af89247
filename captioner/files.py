"""Atomic writes of files and folders: the content is the complete old or the complete new one.

A file is written under a temporary name in the same folder and then renamed. A folder is written in
the same way, with the SHA-256 of each file in a manifest. Replacing a folder takes two renames;
`restore_folder` repairs what an interruption between them leaves.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from captioner.errors import CheckpointError

MANIFEST = "manifest.json"
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".ico", ".heic", ".heif",
)  # fmt: skip
"""Suffixes of the files in a folder that are taken for images."""
RAW_SUFFIXES = (
    ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".dng", ".orf", ".rw2", ".rwl",
    ".raf", ".pef", ".srw", ".3fr", ".iiq", ".erf", ".mrw", ".x3f", ".kdc", ".dcr", ".mef",
)  # fmt: skip
"""Suffixes of RAW files, which are taken for images if LibRaw is installed."""
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
"""Suffixes of the files in a folder that are taken for recordings."""
SPARE = 2**20
"""Bytes that a folder may need beyond its requested size, for small files and metadata."""


def format_json(value: Any, *, ensure_ascii: bool = False) -> str:
    """Return a value as JSON on one line; numbers that are not finite become null."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        return json.dumps(_replace_infinite(value), ensure_ascii=ensure_ascii, allow_nan=False)


def _replace_infinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_infinite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_infinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def open_replacement(
    path: str | os.PathLike[str],
    *,
    like: str | None = None,
    times: bool = True,
    sync: bool = False,
    private: bool = False,
) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error.

    If a file is there already, the new content is flushed to the disk before the rename, so that a
    power failure cannot lose both versions. With `sync`, it is flushed even if there is none yet.

    The new file gets the permissions, and with `times` the times, of the file `like`; with
    `private`, only the owner can read it. If it cannot be written, OSError is raised and `path` is
    unchanged.
    """
    folder, name = os.path.split(path)
    # The name is hidden, so no run takes the file for an image. It is always the same, so repeated
    # interruptions leave at most one file.
    short = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    partial = os.path.join(folder, f".{short}.partial")
    try:
        with open(partial, "wb") as file:
            if private:
                os.chmod(partial, 0o600)
            yield file
            if sync or os.path.exists(path):
                file.flush()
                os.fsync(file.fileno())
        if like is not None:
            (shutil.copystat if times else shutil.copymode)(like, partial)
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise


class DigestFile:
    """A binary file to write to that computes the SHA-256 of its content."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.path = path
        """The temporary name, and the final one after the end of `write_by_digest`."""
        self.closed = False

    def write(self, data: bytes) -> int:
        """Write bytes, or any object with the buffer protocol."""
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Do nothing; the file is flushed when it is closed."""

    def digest(self) -> str:
        """Return the digest in hexadecimal."""
        return self._digest.hexdigest()


@contextmanager
def write_by_digest(folder: Path, suffix: str) -> Iterator[DigestFile]:
    """Open a file that gets the SHA-256 of its content as its name when the block ends.

    An existing file of that name remains as it is. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(".partial", ".", folder)
    try:
        with open(handle, "wb") as raw:
            file = DigestFile(raw, Path(partial))
            yield file
        path = folder / f"{file.digest()}{suffix}"
        if not path.exists():
            os.replace(partial, path)
        file.path = path
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to a file atomically."""
    with open_replacement(path) as file:
        file.write(data)


def replace_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines atomically."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_file(path, text.encode())


def write_file(path: str, data: bytes, *, overwrite: bool, like: str | None = None) -> bool:
    """Write `data` to a file atomically, unless that would replace other content.

    Without `overwrite`, a file with other content is left alone. `like` is a file whose permissions
    and times the new file gets. Returns whether the file now holds `data`.
    """
    if os.path.lexists(path):
        same = _holds(path, data)
        if same or not overwrite:
            return same
    with open_replacement(path, like=like) as file:
        file.write(data)
    return True


def _holds(path: str, data: bytes) -> bool:
    try:
        # A named pipe would block.
        return os.path.isfile(path) and file_digest(path) == hashlib.sha256(data).hexdigest()
    except OSError:
        return False


@contextmanager
def replace_folder(folder: Path, size: int) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` when the block ends without an error.

    `size` is the approximate number of bytes to write. If there is too little space or a write
    fails, CheckpointError is raised and `folder` is unchanged.
    """
    partial, old = _beside(folder, "partial"), _beside(folder, "old")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        check_room(partial, size)
        yield partial
        _seal(partial)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"{folder}: cannot be written: {error.strerror or error}; what was saved before is"
            " intact"
        ) from None


def restore_folder(folder: Path) -> None:
    """Restore a folder that is missing because `replace_folder` was interrupted."""
    for other in (_beside(folder, "partial"), _beside(folder, "old")):
        if not folder.exists() and not find_damage(other):
            other.rename(folder)


def find_damage(folder: Path) -> str:
    """Return the first difference between a folder and its manifest, or an empty string."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, digest in manifest.items():
            if file_digest(folder / name) != digest:
                return f"{name} is not as it was written"
    except (OSError, ValueError, AttributeError) as error:
        return f"{MANIFEST}: {error}"
    return ""


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{kind}")


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content in hexadecimal; raise OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_room(folder: Path, size: int) -> None:
    """Raise OSError if the disk of `folder` has no room for `size` bytes and a few small files."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        needed = (size + SPARE) / 1e6
        raise OSError(f"{needed:.0f} MB are needed and {free / 1e6:.0f} MB free")


def csv_line(values: Sequence[Any]) -> str:
    """Return one line of CSV without its line end; line breaks within a value become spaces."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([replace_line_breaks(str(v)) for v in values])
    return out.getvalue()


def replace_line_breaks(text: str) -> str:
    """Return the text with a space in the place of each line break."""
    return text.replace("\r", " ").replace("\n", " ")


def _seal(folder: Path) -> None:
    """Write the manifest of a folder and flush all of its files to the disk."""
    (folder / MANIFEST).unlink(missing_ok=True)  # there is one if the folder was copied
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {str(path.relative_to(folder)): file_digest(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for path in (*files, folder / MANIFEST, *(p for p in folder.rglob("*") if p.is_dir()), folder):
        _sync(path)


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders and does not need it
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
