"""A digest of the rows of a run, to detect that the data have changed since it began."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from captioner.data.columns import iterate_columns
from captioner.sources import file_name, parse_member

if TYPE_CHECKING:
    from datasets import Dataset


def digest_rows(*tables: Dataset) -> str:
    """Return a digest of all rows and of the sizes, but not the folders, of the image files."""
    digest = hashlib.sha256()
    for rows in tables:
        names = [name for name in rows.column_names if name not in ("rows", "audio")]
        for audio, *values in iterate_columns(rows, "audio", *names):
            row = dict(zip(names, values, strict=True))
            if not row.get("weights"):  # so that the digest of data without weights is the same
                row.pop("weights", None)
            row["image"], content = _describe_file(row["image"])
            digest.update(repr((row, content)).encode())
            if audio:
                digest.update(file_name(audio).encode())
    return digest.hexdigest()


def _describe_file(path: str) -> tuple[str, int | tuple[int, int] | None]:
    """Return the name of a file and its size, None if it is missing; of a member, its checksum too.

    The folder of a file, and of a member, is left out.
    """
    if member := parse_member(path):
        return os.path.basename(member.name), (member.size, member.checksum)
    try:
        return os.path.basename(path), os.path.getsize(path)
    except (OSError, ValueError):
        return os.path.basename(path), None
