"""Compare BLIP on this package's searches with `generate` of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from public_folders.blip import build_blip, build_blip_vqa
from public_folders.tokenizers import QUESTIONS
from public_rules import assert_rules_equal
from public_tokens import (
    PublicModel,
    assert_attention_is_grid,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)

from captioner.backends.public.family import Family
from captioner.errors import CaptionerError


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> PublicModel:
    folder = tmp_path_factory.mktemp("blip")
    build_blip(folder, 0)
    return PublicModel.load(folder)


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> PublicModel:
    folder = tmp_path_factory.mktemp("blip_vqa")
    build_blip_vqa(folder, 0)
    return PublicModel.load(folder)


def generate(
    family: Family, image: Image.Image, question: str | None, options: dict[str, Any]
) -> list[int]:
    inputs = family.processor(images=image, return_tensors="pt")
    if question is not None:
        inputs["input_ids"] = family.vocabulary.tokenizer(question, return_tensors="pt").input_ids
    return family.model.generate(**inputs, **options)[0, 1:].tolist()


def test_captions_equal_generate(captioner: PublicModel) -> None:
    assert_tokens_equal(captioner, generate, random_images(3))


def test_captions_in_a_batch(captioner: PublicModel) -> None:
    assert_batch_equal(captioner, random_images(8, 1))


def test_scores_of_captions(captioner: PublicModel) -> None:
    assert_scores_equal(captioner, random_images(4, 2))


def test_attention_is_grid(captioner: PublicModel) -> None:
    assert_attention_is_grid(captioner, random_images(2), 16, rest=True)


def test_answers_equal_generate(answerer: PublicModel) -> None:
    assert_tokens_equal(answerer, generate, random_images(3), QUESTIONS[:3])


def test_answers_in_a_batch(answerer: PublicModel) -> None:
    assert_batch_equal(answerer, random_images(8, 1), QUESTIONS)


def test_scores_of_answers(answerer: PublicModel) -> None:
    assert_scores_equal(answerer, random_images(4, 2), QUESTIONS[:4])


def test_questions_only(answerer: PublicModel) -> None:
    memories = answerer.memories(random_images(1))
    with pytest.raises(CaptionerError, match="answers questions only"):
        answerer.search(memories, 1)
    (memory,) = answerer.memories(random_images(1), ["where?"])
    with pytest.raises(CaptionerError, match="attends to the question"):
        answerer.backend.attention([memory], np.full((1, 1, 1), 3))


def test_question_tokenizer_truncates(answerer: PublicModel) -> None:
    tokenizer = answerer.backend.tokenizer.question_tokenizer
    ids = tokenizer.encode("what color is the dog?")
    assert ids == answerer.family.question_prompt("what color is the dog?")
    assert tokenizer.encode("what color is the dog?", max_length=4) == [*ids[:3], ids[-1]]


def test_rules_of_captions(captioner: PublicModel) -> None:
    assert_rules_equal(captioner, generate, random_images(2))


def test_rules_of_answers(answerer: PublicModel) -> None:
    assert_rules_equal(answerer, generate, random_images(2), QUESTIONS[:2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_captions_of_many_models(tmp_path: Path, seed: int) -> None:
    build_blip(tmp_path, seed)
    assert_tokens_equal(PublicModel.load(tmp_path), generate, random_images(32, seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_answers_of_many_models(tmp_path: Path, seed: int) -> None:
    build_blip_vqa(tmp_path, seed)
    images = random_images(32, seed)
    assert_tokens_equal(PublicModel.load(tmp_path), generate, images, QUESTIONS * 4)
