"""Output parts: the rows of one input shard as Parquet or as a WebDataset tar."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal, Protocol

from captioner.errors import ImageError
from captioner.extras import explain_missing
from captioner.images.file_types import identify_format
from captioner.scale.shard_rows import ShardRow

Format = Literal["parquet", "webdataset"]
SUFFIXES: dict[Format, str] = {"parquet": ".parquet", "webdataset": ".tar"}
COLUMNS = (
    "key", "image", "caption", "score", "confidence", "captions", "question", "answer", "kind",
    "low_confidence", "error",
)  # fmt: skip
"""The columns of a part; those without a value are null."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
"""Control characters, and the separator of folders on Windows."""
_GROUP = 1000
"""Rows of a row group, which are in memory together."""


class PartWriter(Protocol):
    """Writes the rows of one part to a file."""

    def add(self, row: Mapping[str, Any], source: ShardRow) -> None:
        """Write one row, which was made from a row of the input."""

    def close(self) -> None:
        """Finish the file."""


def open_part(path: str, form: Format, *, images: bool) -> PartWriter:
    """Return the writer of a part; with `images`, a tar includes the files of the input."""
    return ParquetWriter(path) if form == "parquet" else TarWriter(path, images=images)


class ParquetWriter:
    """Writes Parquet in row groups of equal size."""

    def __init__(self, path: str) -> None:
        with explain_missing("captioner scale"):
            import pyarrow.parquet as pq
        self._schema = _make_schema()
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, row: Mapping[str, Any], source: ShardRow) -> None:
        """Add one row; columns that it lacks are null."""
        self._rows.append({name: row.get(name) for name in COLUMNS})
        if len(self._rows) == _GROUP:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()


class TarWriter:
    """Writes a WebDataset: KEY.json with the row, KEY.txt with its text, and the input's files.

    The files have no times or owners, so that equal rows are equal bytes. A .json or .txt of the
    input is kept as KEY.input.json or KEY.input.txt. Keys in names are safe and unique within the
    part; the row has the key of the input.
    """

    def __init__(self, path: str, *, images: bool) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._images = images
        self._numbers: dict[str, int] = {}
        """For each key that is used, the last number that was appended to it."""

    def add(self, row: Mapping[str, Any], source: ShardRow) -> None:
        """Write the files of one row."""
        stem = self._choose_stem(row["key"])
        if self._images:
            used = {"json", "txt"}  # readers compare extensions in lower case
            for extension, content in _list_files(source).items():
                name = _UNSAFE.sub("_", extension)
                while name.lower() in used:
                    name = f"input.{name}"
                used.add(name.lower())
                self._write(f"{stem}.{name}", content)
        kept = {name: value for name, value in row.items() if value is not None}
        data = json.dumps(kept, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")
        self._write(f"{stem}.json", data)
        if not row.get("error"):
            text = str(row.get("caption") or row.get("answer") or "")
            self._write(f"{stem}.txt", text.encode())

    def close(self) -> None:
        """Finish the archive."""
        self._tar.close()

    def _choose_stem(self, key: str) -> str:
        """Return a safe key that no earlier row has: `a`, then `a_2`, `a_3` and so on."""
        stem = name = _safe_key(key)
        while name in self._numbers:
            self._numbers[stem] += 1
            name = f"{stem}_{self._numbers[stem]}"
        self._numbers[name] = 1
        return name

    def _write(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        self._tar.members.clear()  # type: ignore[attr-defined]  # otherwise all are kept


def _list_files(source: ShardRow) -> Mapping[str, bytes]:
    """Return the files of an input row by extension."""
    if source.members or source.image is None:
        return source.members
    try:
        suffix = identify_format(source.image).lower().replace("jpeg", "jpg")
    except ImageError:
        suffix = "bin"
    return {suffix: source.image}


def count_rows(path: str | BinaryIO, form: Format) -> tuple[int, int]:
    """Return the numbers of rows and of rows with an error in a complete part.

    Args:
        path: The part, or an open file.
        form: Its format.
    """
    if form == "parquet":
        import pyarrow.parquet as pq

        errors = pq.read_table(path, columns=["error"])["error"]
        return len(errors), len(errors) - errors.null_count
    rows = errors = 0
    options: dict[str, Any] = {"name": path} if isinstance(path, str) else {"fileobj": path}
    with tarfile.open(mode="r|", **options) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]
            stem, _, extension = member.name.rpartition(".")
            if extension == "json" and "." not in stem.rpartition("/")[2]:
                content = archive.extractfile(member)
                assert content is not None  # a regular file
                rows += 1
                errors += bool(json.loads(content.read()).get("error"))
    return rows, errors


def _safe_key(key: str) -> str:
    """Return a key as a relative path without hidden parts.

    Its last part has no dot, which would begin the extension. Readers of WebDataset skip hidden
    files and folders such as `__name__`.
    """
    parts = [part.lstrip(".") for part in _UNSAFE.sub("_", key).split("/")]
    parts = [part.lstrip("_") if part.startswith("__") else part for part in parts]
    *folders, base = [part for part in parts if part] or ["row"]
    return "/".join([*folders, base.replace(".", "_")])


def _make_schema() -> Any:
    import pyarrow as pa

    caption = [("caption", pa.string()), ("score", pa.float64()), ("confidence", pa.float64())]
    types = {
        "score": pa.float64(),
        "confidence": pa.float64(),
        "low_confidence": pa.bool_(),
        "captions": pa.list_(pa.struct(caption)),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
