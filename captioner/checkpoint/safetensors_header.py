"""Reader of a safetensors file's header: type, shape and position of each tensor.

The file begins with the size of the header as a 64-bit little-endian number. The header is a JSON
object that maps names to `dtype`, `shape` and `data_offsets`, which count from its end; the key
`__metadata__` maps strings to strings. Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.errors import CheckpointError

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of one element of each type."""
LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the format."""
METADATA = "__metadata__"
LFS_POINTER = b"version https://git-lfs.github.com"
"""The beginning of the text that stands for a file which Git LFS has not fetched."""


@dataclass(frozen=True)
class StoredTensor:
    """The position of a tensor in a file."""

    dtype: str
    """A key of `ITEM_BYTES`."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the beginning of the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Header:
    """The header of a file."""

    tensors: Mapping[str, StoredTensor]
    """The tensors by name, in the order of their positions."""
    metadata: Mapping[str, str]


def read_header(path: str | Path) -> Header:
    """Return the header of a safetensors file.

    Raises:
        CheckpointError: The file cannot be read, is truncated or is no safetensors file.
    """
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            start = file.read(8)
            size = int.from_bytes(start, "little")
            if start == LFS_POINTER[:8]:
                raise ValueError("it is a pointer of Git LFS; fetch the weights with git lfs pull")
            if not 2 <= size <= min(LARGEST_HEADER, total - 8):
                raise ValueError(f"{total} bytes cannot hold a header of {size}")
            entries = json.loads(file.read(size))
        metadata = {str(key): str(value) for key, value in entries.pop(METADATA, {}).items()}
        tensors = {name: _parse_entry(entry, 8 + size) for name, entry in entries.items()}
        # A tensor without elements has the offset of the one that follows it.
        tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)))
        _check_positions(tensors, 8 + size, total)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as safetensors: {type(error).__name__}: {error}; copy or"
            " download it again"
        ) from None
    return Header(tensors, metadata)


def _parse_entry(entry: Any, start: int) -> StoredTensor:
    """Return an entry with its offset from the beginning of the file; raise ValueError."""
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError(f"invalid shape {shape} or offsets {begin, end}")
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{end - begin} bytes cannot hold {dtype} of shape {shape}")
    return StoredTensor(dtype, shape, start + begin, end - begin)


def _check_positions(tensors: Mapping[str, StoredTensor], start: int, total: int) -> None:
    """Raise ValueError unless the tensors fill the file from `start` without gaps or overlaps."""
    expected = start
    for name, tensor in tensors.items():
        if tensor.offset != expected:
            raise ValueError(f"{name} begins at byte {tensor.offset}, expected {expected}")
        expected += tensor.size
    if expected != total:
        raise ValueError(f"the tensors end at byte {expected} of {total}")
