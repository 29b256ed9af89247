"""Compare chat models on this package's searches with `generate` of transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from public_folders import chat
from public_tokens import (
    PublicModel,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)
from transformers import AutoProcessor

from captioner.backends.public.chat import ChatFamily

NAMES = ["llava", "llava_next", "llava_onevision", "gemma3", "idefics3", "smolvlm"]
NAMES += ["qwen2_vl", "qwen2_5_vl"]
SIZES = [(48, 40), (30, 70), (90, 33), (20, 20)]
QUESTIONS = ["what color is the dog?", "how many cats are there on the red couch?", "bus?", "Yes\n"]


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PublicModel:
    return build(request.param, tmp_path_factory.mktemp(request.param), 0)


def build(name: str, folder: Path, seed: int) -> PublicModel:
    if name == "smolvlm":
        pytest.importorskip("num2words", reason="the processor of transformers needs it")
    builder: Callable[[Path, int], None] = getattr(chat, f"build_{name}")
    builder(folder, seed)
    return PublicModel.load(folder)


@cache
def load_processor(folder: str) -> Any:
    return AutoProcessor.from_pretrained(folder)


def generate(
    family: ChatFamily, image: Image.Image, question: str | None, options: dict[str, Any]
) -> list[int]:
    text = family.instruction if question is None else question + family.answer_suffix
    parts = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    inputs = load_processor(family.template.folder).apply_chat_template(
        [{"role": "user", "content": parts}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    return family.model.generate(**inputs, **options)[0, length:].tolist()


def test_captions_equal_generate(model: PublicModel) -> None:
    assert_tokens_equal(model, generate, random_images(3, sizes=SIZES))


def test_answers_equal_generate(model: PublicModel) -> None:
    assert_tokens_equal(model, generate, random_images(3, 1, sizes=SIZES), QUESTIONS[:3])


def test_questions_of_several_lengths_in_a_batch(model: PublicModel) -> None:
    assert_batch_equal(model, random_images(8, 2, sizes=SIZES), 2 * QUESTIONS[::-1])


def test_scores_of_captions(model: PublicModel) -> None:
    assert_scores_equal(model, random_images(4, 3, sizes=SIZES))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_texts_of_many_models(tmp_path: Path, name: str, seed: int) -> None:
    model = build(name, tmp_path, seed)
    images = random_images(32, seed, sizes=SIZES)
    assert_tokens_equal(model, generate, images)
    assert_tokens_equal(model, generate, images, 8 * QUESTIONS)
