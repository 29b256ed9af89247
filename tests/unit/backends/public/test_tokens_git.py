"""Compare GIT on this package's searches with `generate` of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from public_folders.git import build_git
from public_folders.tokenizers import QUESTIONS
from public_rules import assert_rules_equal
from public_tokens import (
    PublicModel,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)

from captioner.backends.public.families import load_family
from captioner.backends.public.family import Family
from captioner.errors import CaptionerError, CheckpointError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PublicModel:
    folder = tmp_path_factory.mktemp("git")
    build_git(folder, 0)
    return PublicModel.load(folder)


def generate(
    family: Family, image: Image.Image, question: str | None, options: dict[str, Any]
) -> list[int]:
    pixels = family.processor(images=image, return_tensors="pt").pixel_values
    tokenizer, ids = family.vocabulary.tokenizer, None
    if question is not None:
        words = tokenizer(question, add_special_tokens=False).input_ids
        ids = torch.tensor([[tokenizer.cls_token_id, *words]])
    # With a cache, transformers 5.0 counts the image in the positions of generated tokens.
    options = {"input_ids": ids, "use_cache": False, **options}
    output = family.model.generate(pixel_values=pixels, **options)
    return output[0, 1 if ids is None else ids.shape[1] :].tolist()


def test_captions_equal_generate(model: PublicModel) -> None:
    assert_tokens_equal(model, generate, random_images(3))


def test_answers_equal_generate(model: PublicModel) -> None:
    assert_tokens_equal(model, generate, random_images(3), QUESTIONS[:3])


def test_batch_of_different_questions(model: PublicModel) -> None:
    assert_batch_equal(model, random_images(8, 1), QUESTIONS)


def test_scores(model: PublicModel) -> None:
    assert_scores_equal(model, random_images(4, 2))
    assert_scores_equal(model, random_images(4, 2), QUESTIONS[:4])


def test_attention_is_an_error(model: PublicModel) -> None:
    with pytest.raises(CaptionerError, match="no cross-attention"):
        model.family.attention(model.memories(random_images(1))[0], torch.zeros(1, 1))


def test_video_model_is_rejected(tmp_path: Path) -> None:
    build_git(tmp_path, 0, frames=2)
    with pytest.raises(CheckpointError, match="video frames"):
        load_family(str(tmp_path), torch.float32)


def test_rules(model: PublicModel) -> None:
    assert_rules_equal(model, generate, random_images(2), forces_first=False)
    assert_rules_equal(model, generate, random_images(2), QUESTIONS[:2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_texts_of_many_models(tmp_path: Path, seed: int) -> None:
    build_git(tmp_path, seed)
    model, images = PublicModel.load(tmp_path), random_images(32, seed)
    assert_tokens_equal(model, generate, images)
    assert_tokens_equal(model, generate, images, QUESTIONS * 4)
