"""Inputs of `captioner scale` for tests: images, tars and Parquet files, and reading parts."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny import picture


def png(seed: int) -> bytes:
    """Return the file of a small image."""
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def make_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar with files by name."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_tars(folder: Path, tars: int, images: int) -> Path:
    """Write WebDataset tars of images with a question each."""
    folder.mkdir()
    for i in range(tars):
        members = {}
        for j in range(images):
            members[f"{i:02}{j:03}.png"] = png(i * images + j)
            question = json.dumps({"question": "what is by the dog?"})
            members[f"{i:02}{j:03}.json"] = question.encode()
        make_tar(folder / f"{i:02}.tar", members)
    return folder


def make_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows to a Parquet file."""
    import pyarrow
    import pyarrow.parquet as pq

    pq.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def read_parts(output: Path) -> list[dict[str, Any]]:
    """Return the rows of all Parquet parts in their order."""
    import pyarrow.parquet as pq

    paths = sorted((output / "parts").iterdir())
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def read_manifest(output: Path) -> list[dict[str, Any]]:
    """Return the records of a run."""
    return [json.loads(line) for line in (output / "manifest.jsonl").open()]
