"""Damaged files of public models on the command line: one line that names what to correct."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from public_folders.catalog import FAMILIES

from captioner.cli import generate

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
Damage = Callable[[Path], Any]


def write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def change(name: str, **values: Any) -> Damage:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return apply


def use_type(model_type: str, name: str) -> Damage:
    return change("config.json", model_type=model_type, architectures=[name])


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "blip"
    FAMILIES["BLIP"](folder, 0)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("model.safetensors"), "again"),
        (write("model.safetensors", b""), "copy or download it again"),
        (write("model.safetensors", POINTER), "git lfs pull"),
        (write("tokenizer.json", b"{}"), "KeyError: 'added_tokens'; check tokenizer.json"),
        (cut("tokenizer.json"), "cannot be loaded as a tokenizer: "),
        (lambda folder: (folder / "tokenizer.json").unlink(), "check tokenizer.json"),
        (use_type("git", "GitForCausalLM"), "AttributeError: .*; check config.json"),
        (use_type("llava", "LlavaForConditionalGeneration"), "check config.json"),
        (use_type("blip-2", "Blip2ForConditionalGeneration"), "check config.json"),
        (change("config.json", vision_config={}, text_config={}), r"describes [\d,]+ weights, of"),
        (write("preprocessor_config.json", b"{}"), "takes? .*384x384 pixels.*; restore prepro"),
        (change("preprocessor_config.json", size={"height": 48, "width": 48}), "48x48 pixels"),
        (change("preprocessor_config.json", size="big"), "check preprocessor_config.json"),
        (change("preprocessor_config.json", image_processor_type="None"), r"\.\.\.; check prepro"),
        (
            change("preprocessor_config.json", image_mean=[0.5] * 2),
            "restore preprocessor_config.json",
        ),
    ],
)
def test_each_damage_is_one_line_with_advice(
    blip: Path, tmp_path: Path, capsys, damage: Damage, message: str
) -> None:
    folder = shutil.copytree(blip, tmp_path / "model")
    damage(folder)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "x.png")
    words = [tmp_path / "x.png", "--checkpoint", folder, "--device", "cpu"]
    capsys.readouterr()
    assert generate.main([str(word) for word in words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert len(err) < 700
