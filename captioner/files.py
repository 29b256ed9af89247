"""Folders that are whole or not there, whatever stops the program or the machine.

A folder is written beside its place, with the SHA-256 of each file in a manifest; it is brought to
the disk and only then takes its name. Where the name is taken, that needs two renamings, and `mend`
puts right what a stop between them leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from captioner.errors import CheckpointError

MANIFEST = "manifest.json"
SPARE = 2**20
"""Bytes that a folder may take beside what is asked for: the small files, the file system's own."""


@contextmanager
def writing(folder: Path, size: int) -> Iterator[Path]:
    """Where to write the files of `folder`, of about `size` bytes; it is there when this ends.

    Raises CheckpointError where there is no room or a write fails; what was there before stays.
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
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"{folder}: cannot be written: {reason}; what was saved before is whole"
        ) from None


def mend(folder: Path) -> None:
    """Where a stop between two renamings left no `folder`, the newer whole one beside it."""
    for other in (_beside(folder, "partial"), _beside(folder, "old")):
        if not folder.exists() and not fault(other):
            other.rename(folder)


def fault(folder: Path) -> str:
    """What is wrong with a folder that `writing` made; nothing where it is whole."""
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


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def check_room(folder: Path, size: int) -> None:
    """Raises OSError where `size` bytes and the small files beside them have no room."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        needed = (size + SPARE) / 1e6
        raise OSError(f"{needed:.0f} MB are needed and {free / 1e6:.0f} MB free")


def _seal(folder: Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # of a folder that was copied
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {str(path.relative_to(folder)): file_digest(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for path in (*files, folder / MANIFEST, *(p for p in folder.rglob("*") if p.is_dir()), folder):
        _sync(path)


def _sync(path: Path) -> None:
    """Bring a file, or a folder's names, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folder, and needs none
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
