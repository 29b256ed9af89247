"""Compare BLIP on this package's searches with `generate` of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from public_folders.blip import build_blip
from public_tokens import (
    PublicModel,
    assert_attention_is_grid,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)

from captioner.backends.public.family import Family


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> PublicModel:
    folder = tmp_path_factory.mktemp("blip")
    build_blip(folder, 0)
    return PublicModel.load(folder)


def generate(
    family: Family, image: Image.Image, question: str | None, options: dict[str, Any]
) -> list[int]:
    inputs = family.processor(images=image, return_tensors="pt")
    return family.model.generate(**inputs, **options)[0, 1:].tolist()


def test_captions_equal_generate(captioner: PublicModel) -> None:
    assert_tokens_equal(captioner, generate, random_images(3))


def test_captions_in_a_batch(captioner: PublicModel) -> None:
    assert_batch_equal(captioner, random_images(8, 1))


def test_scores_of_captions(captioner: PublicModel) -> None:
    assert_scores_equal(captioner, random_images(4, 2))


def test_attention_is_grid(captioner: PublicModel) -> None:
    assert_attention_is_grid(captioner, random_images(2), 16, rest=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_captions_of_many_models(tmp_path: Path, seed: int) -> None:
    build_blip(tmp_path, seed)
    assert_tokens_equal(PublicModel.load(tmp_path), generate, random_images(32, seed))
