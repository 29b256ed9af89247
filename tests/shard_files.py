"""Write small shards for tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Members = Iterable[tuple[str, bytes | str]]


def write_tar(path: Path, members: Members, *, format: int = tarfile.USTAR_FORMAT) -> Path:
    """Write the members, in order, to a tar file; a name that ends in "/" is a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            info.size = 0 if name.endswith("/") else len(data)
            info.mtime = 1.5 if format == tarfile.PAX_FORMAT else 1  # in an extended header
            tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows to a Parquet file with small row groups."""
    import pyarrow
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    return path
