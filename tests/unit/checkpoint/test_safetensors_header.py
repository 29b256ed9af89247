"""Compare the header reader with the safetensors library, and test damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from captioner.checkpoint.safetensors_header import read_header
from captioner.errors import CheckpointError

TENSORS = {
    "weight": np.arange(6, dtype=np.float16).reshape(2, 3),
    "bias": np.array([1.5, -2], dtype=np.float32),
    "count": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "mask": np.array([True, False, True]),
}


def write(path: Path, header: object, data: bytes = b"") -> Path:
    """Write a file with this header, as JSON, and data."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    return path


def test_tensors_are_those_of_the_library(stored):
    header, data = read_header(stored), stored.read_bytes()
    with safe_open(stored, framework="numpy") as file:
        assert header.metadata == file.metadata()
        assert set(header.tensors) == set(file.keys())
        for name, tensor in header.tensors.items():
            entry = file.get_slice(name)
            assert (tensor.dtype, list(tensor.shape)) == (entry.get_dtype(), entry.get_shape())
            expected = file.get_tensor(name)
            assert data[tensor.offset : tensor.offset + tensor.size] == expected.tobytes()
    offsets = [tensor.offset for tensor in header.tensors.values()]
    assert offsets == sorted(offsets)


def test_a_file_without_tensors_has_an_empty_header(tmp_path):
    header = read_header(write(tmp_path / "x", {}))
    assert header.tensors == header.metadata == {}


def test_every_truncation_is_an_error(stored, tmp_path):
    data, path = stored.read_bytes(), tmp_path / "x"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
            read_header(path)
    path.write_bytes(data + b"x")
    with pytest.raises(CheckpointError, match="the tensors end at"):
        read_header(path)


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_read_or_is_an_error(stored, tmp_path, place, byte):
    data, path = bytearray(stored.read_bytes()), tmp_path / "x"
    data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        header = read_header(path)
    except CheckpointError:
        return
    positions = [(tensor.offset, tensor.size) for tensor in header.tensors.values()]
    assert all(offset + size <= len(data) for offset, size in positions)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "4 bytes cannot hold F32"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}, "invalid shape"),
        ({"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}, "invalid shape"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, "begins at byte"),
        ({"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}, "X9"),
        ({"shape": [1], "data_offsets": [0, 4]}, "dtype"),
        ({"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}, "int"),
        ([], "list"),
    ],
)
def test_an_invalid_entry_is_an_error(entry, reason, tmp_path):
    path = write(tmp_path / "x", {"a": entry}, bytes(4))
    with pytest.raises(CheckpointError, match=f"cannot be read as safetensors: .*{reason}"):
        read_header(path)


@pytest.mark.parametrize("header", [[], 3, None, {"__metadata__": 5}])
def test_a_header_of_another_form_is_an_error(header, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_header(write(tmp_path / "x", header))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_header(tmp_path / "none")
