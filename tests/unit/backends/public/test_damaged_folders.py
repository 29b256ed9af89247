"""Test that damaged transformers folders and unusual images give one error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from public_folders.blip import build_blip
from public_folders.chat import build_qwen2_vl
from public_folders.encoder_decoder import build_encoder_decoder

import captioner
from captioner.backends.public.families import load_family
from captioner.backends.public.family_loading import load_public
from captioner.errors import CaptionerError, CheckpointError, ImageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_blip(tmp_path, 0)
    return tmp_path


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_beams", "x"),
        ("num_beams", 100000),
        ("length_penalty", "x"),
        ("length_penalty", [1]),
        ("no_repeat_ngram_size", "a"),
        ("repetition_penalty", "a"),
        ("repetition_penalty", [1]),
        ("suppress_tokens", ["a"]),
        ("suppress_tokens", [-5]),
        ("forced_bos_token_id", "q"),
        ("forced_bos_token_id", -1),
    ],
)
def test_generation_settings_are_checked(tmp_path: Path, name: str, value: Any) -> None:
    build_encoder_decoder(tmp_path, 0)
    change(tmp_path / "generation_config.json", **{name: value})
    with pytest.raises(CheckpointError) as error:
        load_public(tmp_path)
    assert "\n" not in str(error.value)


def test_damaged_generation_settings(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        load_public(folder)


@pytest.mark.parametrize("architectures", [5, [["x"]], "x"])
def test_other_types_of_architectures(folder: Path, architectures: Any) -> None:
    change(folder / "config.json", architectures=architectures)
    assert load_family(str(folder), "auto").captions


def test_a_damaged_image_processor(folder: Path) -> None:
    change(folder / "preprocessor_config.json", image_mean=[0.5, 0.5])
    with pytest.raises(CheckpointError, match="image processor"):
        load_public(folder)


def test_weights_of_another_model_print_no_report(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 20
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="another shape"):
        load_public(folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["zzz", "meta"])
def test_devices_that_do_not_exist(folder: Path, device: str) -> None:
    with pytest.raises(CaptionerError, match="device"):
        load_public(folder, device=device)


def test_images_of_any_size(tmp_path: Path) -> None:
    build_qwen2_vl(tmp_path, 0)
    model = captioner.load(tmp_path)
    assert model.view is None
    narrow, good = Image.new("RGB", (2, 900)), Image.new("RGB", (40, 30))
    first, second = model.caption([narrow, good], max_length=4)
    assert isinstance(first.error, ImageError)
    assert second.error is None


@pytest.mark.parametrize("end", [10**9, -1])
def test_an_end_outside_the_vocabulary(tmp_path: Path, end: int) -> None:
    build_qwen2_vl(tmp_path, 0)
    change(tmp_path / "generation_config.json", eos_token_id=end)
    with pytest.raises(CheckpointError, match=r"token id|eos_token_id"):
        load_public(tmp_path)
