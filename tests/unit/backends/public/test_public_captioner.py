"""Run cross-attention families through the public `Captioner`: prefixes and attention maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from public_folders.blip import build_blip
from public_folders.encoder_decoder import build_encoder_decoder
from public_tokens import random_images

import captioner


def build_large_blip(folder: Path, seed: int) -> None:
    """The size of images of the published models, with larger patches."""
    build_blip(folder, seed, image=384)


@pytest.mark.parametrize("build", [build_large_blip, build_encoder_decoder])
def test_prefix_and_attention(tmp_path: Path, build: Callable[[Path, int], Any]) -> None:
    build(tmp_path, 0)
    model, (image,) = captioner.load(tmp_path, device="cpu"), random_images(1)
    (caption,) = model.caption([image], prefix="two cats", max_length=12)
    assert caption.text.startswith("two cats")
    maps = model.attention(image, caption.text)
    assert [part.word for part in maps] == caption.text.split()
    for part in maps:
        assert part.weights.shape == (4, 4)
        assert part.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("build", [build_large_blip, build_encoder_decoder])
def test_attention_of_generated_tokens(tmp_path: Path, build: Callable[[Path, int], Any]) -> None:
    """The longest captions end without an end mark, and their text may not encode to them."""
    build(tmp_path, 0)
    model, (image,) = captioner.load(tmp_path, device="cpu"), random_images(1)
    for seed in range(8):
        options = {"method": "sample", "temperature": 3.0, "seed": seed}
        (result,) = model.caption([image], max_length=model.max_length, **options)
        maps = model.attention(image, result.best)
        assert [part.word for part in maps] == result.text.split()
        for part in maps:
            assert part.weights.sum() == pytest.approx(1)
    (caption,) = model.caption([image], prefix="two cats", max_length=8)
    changed = replace(caption.best, text="two cats")
    assert [part.word for part in model.attention(image, changed)] == ["two", "cats"]
