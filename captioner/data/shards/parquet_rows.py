"""Read the rows of a Parquet file with their images.

The column of the image holds bytes, a struct of `bytes` and `path` as Hugging Face `datasets`
writes it, or paths relative to the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from captioner.data.formats.csv_jsonl_rows import IMAGE_KEYS
from captioner.data.report import MISSING_IMAGE, Report
from captioner.data.shards.shard_files import open_shard
from captioner.data.shards.tar_index import IndexRow, Place, ShardIndex
from captioner.errors import DataError
from captioner.extras import explain_missing
from captioner.sources import tail_checksum

if TYPE_CHECKING:
    from pyarrow import Schema

_COLUMNS = (*IMAGE_KEYS, "img", "jpg", "png", "bytes")
_TEXT_KEYS = ("answer", "caption", "raw", "text")
_ROWS = 64
"""Rows that are decoded together."""


class ParquetRow(NamedTuple):
    """A row of a Parquet file."""

    key: str
    """Number of the row, from 1."""
    name: str
    """Path of the image; empty if the file names none."""
    image: bytes | None
    """None if the row names a file."""
    fields: dict[str, Any]


def read_parquet(url: str, report: Report) -> Iterator[ParquetRow]:
    """Yield the rows of a Parquet file; report those without an image.

    Raises:
        DataError: The file cannot be read, or has no column of images, or one of numbers.
    """
    with explain_missing("reading Parquet"):
        import pyarrow
        import pyarrow.parquet as pq
    with open_shard(url) as file:
        try:
            table = pq.ParquetFile(file)
            column = _find_image_column(url, table.schema_arrow)
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    image, name = parse_image(row.pop(column))
                    if image is None and not name:
                        where = f"{os.path.basename(url)}:{number}"
                        report.add(MISSING_IMAGE, where, rows=1)
                        continue
                    fields = {key.lower(): _simplify(value) for key, value in row.items()}
                    yield ParquetRow(str(number), name, image, fields)
        except (pyarrow.ArrowException, OSError) as error:
            detail = str(error).partition("\n")[0][:200]
            raise DataError(
                f"{url}: cannot be read as Parquet ({detail}); download or write it again"
            ) from None


def _find_image_column(url: str, schema: Schema) -> str:
    """Return the name of the column of images; raise DataError if there is none."""
    from pyarrow import types

    names = {name.lower(): name for name in schema.names}
    column = next((names[name] for name in _COLUMNS if name in names), None)
    if column is None:
        raise DataError(
            f"{url}: has no column of images; expected one named {', '.join(_COLUMNS)},"
            f" but it has {', '.join(schema.names[:12])}"
        )
    kind = schema.field(column).type
    wrong = (types.is_primitive, types.is_list, types.is_large_list, types.is_fixed_size_list)
    if any(is_kind(kind) for is_kind in wrong):
        raise DataError(
            f"{url}: the column {column} holds {kind}; expected the bytes of image files, structs"
            " {bytes, path} or paths; write the images in one of these forms"
        )
    return column


def parse_image(value: Any) -> tuple[bytes | None, str]:
    """Return the bytes of an image and its path; None and "" for those that are missing."""
    if isinstance(value, dict):
        image, name = value.get("bytes"), value.get("path")
    else:
        image, name = (value, None) if isinstance(value, bytes) else (None, value)
    return image if isinstance(image, bytes) else None, name if isinstance(name, str) else ""


def _simplify(value: Any) -> Any:
    """Return a value as JSON has it; of a list of structs, such as annotations, the texts."""
    if isinstance(value, list):
        return [_simplify(_pick_text(item)) for item in value]
    return value if isinstance(value, (str, int, float, bool)) else None


def _pick_text(item: Any) -> Any:
    if isinstance(item, dict):
        return next((item[key] for key in _TEXT_KEYS if key in item), None)
    return item


def extract_parquet(url: str, images: BinaryIO) -> ShardIndex:
    """Write the different images of a Parquet file to a local file; return the rows.

    Rows with equal bytes, such as several questions about an image, get the same place.

    Raises:
        DataError: The file cannot be read or has no column of images.
    """
    report, rows = Report(), list[IndexRow]()
    places: dict[bytes, Place] = {}
    offset = 0
    for key, name, image, fields in read_parquet(url, report):
        if image is None:
            place = Place(name, -1, 0, 0)
        else:
            digest = hashlib.sha256(image).digest()
            if digest not in places:
                images.write(image)
                label = os.path.basename(name) or key
                places[digest] = Place(label, offset, len(image), tail_checksum(image))
                offset += len(image)
            place = places[digest]
        rows.append(IndexRow(key, place, fields=fields))
    return ShardIndex(rows, report)
