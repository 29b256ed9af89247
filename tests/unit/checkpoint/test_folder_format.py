"""Formats of checkpoint folders: detection, complete files, digests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hub_server import make_public_files, write_files
from safetensors.numpy import save_file

from captioner.checkpoint import (
    checkpoint_files,
    checkpoint_format,
    fingerprint,
    resolve_checkpoint,
    resolve_own_checkpoint,
)
from captioner.checkpoint.folder_format import list_shards, list_weights
from captioner.checkpoint.hub_names import parse_hub_name
from captioner.errors import CheckpointError

OWN = {"config.yaml": b"{}", "model.safetensors": b"", "tokenizer.model": b""}


def test_the_bundled_checkpoint_has_the_format_of_captioner():
    assert checkpoint_format(resolve_checkpoint("bundled")) == "captioner"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (OWN, "captioner"),
        (OWN | {"config.json": b'{"model_type": "captioner"}'}, "captioner"),
        (make_public_files(), "transformers"),
        (make_public_files(shards=2), "transformers"),
        # Fine-tuning stores the settings of the run beside the model.
        (make_public_files() | {"config.yaml": b"{}"}, "transformers"),
    ],
)
def test_the_format_is_detected_from_the_files(files, expected, tmp_path):
    assert checkpoint_format(write_files(tmp_path, files)) == expected


@pytest.mark.parametrize("shards", [0, 3])
def test_a_complete_transformers_folder_is_accepted(shards, tmp_path):
    write_files(tmp_path, make_public_files(shards=shards))
    assert resolve_checkpoint(str(tmp_path)) == tmp_path
    assert len(list_weights(tmp_path)) == max(shards, 1)
    with pytest.raises(CheckpointError, match=r"a transformers model; --prune needs a checkpoint"):
        resolve_own_checkpoint(tmp_path, "--prune")


def without(name: str, **files: bytes) -> dict[str, bytes]:
    """Return the files of a transformers model of two shards, without one of them."""
    return {k: v for k, v in make_public_files(shards=2).items() if k != name}


INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no model\.safetensors there; expected a checkpoint folder, .*hf-hub:USER/NAME"),
        ({"pytorch_model.bin": b""}, r"has only pickles \(pytorch_model\.bin\); .*save_pretrained"),
        (
            without(INDEX) | {"pytorch_model.bin": b""},
            r"has only pickles \(pytorch_model\.bin\); .*never read",
        ),
        (without("config.json"), r"no model\.safetensors there"),
        (without(SHARD), rf"1 of the 2 files of the weights .*\(first: {SHARD}\)"),
        (without("") | {SHARD: make_public_files(shards=2)[SHARD][:-9]}, "tensors end at byte"),
        (without("") | {SHARD: b"<html>"}, "cannot be read as safetensors"),
        (without("") | {INDEX: b"{}"}, "is no index of weights; expected weight_map"),
        (without("") | {INDEX: b'{"weight_map": {"a": "../b.safetensors"}}'}, "is no index"),
        (without("") | {"config.json": b"{model"}, r"config\.json: cannot be read as JSON"),
        (without("") | {"config.json": b"[]"}, r"a JSON object is expected, not list"),
        (without("") | {"config.json": b"\xff\xfe"}, r"config\.json: cannot be read as JSON"),
        (without("") | {"config.json": b"{}"}, r"config\.json: has no model_type"),
        (without("tokenizer.json"), r"has no tokenizer; expected tokenizer\.json"),
        (without("preprocessor_config.json"), "has no preprocessor; expected processor_config"),
    ],
)
def test_a_folder_that_is_not_complete_is_one_line(files, message, tmp_path):
    write_files(tmp_path, files)
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file; expected the folder"):
        resolve_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors there"):
        resolve_checkpoint(tmp_path / "missing")


# Digests


def change_weight(path: Path, name: str) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(path)
    tensors[name] = tensors[name] + np.float32(1e-3)
    save_file(tensors, path)


@pytest.mark.parametrize("shards", [0, 2])
def test_each_file_of_a_transformers_folder_counts(shards, tmp_path):
    write_files(tmp_path, make_public_files(shards=shards))
    seen = {fingerprint([tmp_path])}
    assert {fingerprint([tmp_path])} == seen
    assert {path.name for path in checkpoint_files(tmp_path)} == set(
        make_public_files(shards=shards)
    )
    change_weight(list_weights(tmp_path)[-1], "layer3.weight")
    seen.add(fingerprint([tmp_path]))
    (tmp_path / "tokenizer.json").write_text("{} ")
    seen.add(fingerprint([tmp_path]))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    seen.add(fingerprint([tmp_path]))
    (tmp_path / "README.md").write_text("# Model card")
    assert fingerprint([tmp_path]) in seen
    (tmp_path / "qformer_tokenizer").mkdir()
    for content in ("{}", "{} "):
        (tmp_path / "qformer_tokenizer" / "tokenizer.json").write_text(content)
        seen.add(fingerprint([tmp_path]))
    assert len(seen) == 6


def test_the_weights_of_a_transformers_folder_are_sampled(tmp_path):
    """Of each tensor, the first 4 KB are read; the own format is always read completely."""
    files = make_public_files()
    write_files(tmp_path, files)
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(100_000, np.float32), "b": np.zeros(4, np.float32)}, path)
    before, content = fingerprint([tmp_path]), bytearray(path.read_bytes())
    content[-100] = 1
    path.write_bytes(content)
    assert fingerprint([tmp_path]) == before
    content[-1] = 1
    path.write_bytes(content)
    assert fingerprint([tmp_path]) != before
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "captioner"}))
    write_files(tmp_path, {"config.yaml": b"{}", "tokenizer.model": b""})
    before = fingerprint([tmp_path])
    content[-100] = 2
    path.write_bytes(content)
    assert fingerprint([tmp_path]) != before


@pytest.mark.parametrize("shard", [["x"], {}, None, 1, ".a.safetensors", "../a.safetensors"])
def test_an_index_with_other_values_than_names_of_weights_is_an_error(shard, tmp_path):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="is no index of weights"):
        list_shards(tmp_path / INDEX)


@pytest.mark.parametrize("name", ["hf-hub:a\nb/c", "hf-hub:a/b@c\nd"])
def test_control_characters_of_a_name_are_escaped(name):
    with pytest.raises(CheckpointError) as caught:
        parse_hub_name(name)
    assert str(caught.value).startswith(name.replace("\n", "\\n") + ": ")
    assert "\n" not in str(caught.value)
