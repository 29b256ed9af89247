"""Compare chat models on this package's searches with `generate` of transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from public_folders import chat
from public_rules import assert_rules_equal
from public_tokens import (
    PublicModel,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)
from transformers import AutoProcessor

from captioner.backends.public.chat import ChatFamily

FAST = ["llava", "llava_next", "llava_onevision", "gemma3", "idefics3", "qwen2_5_vl"]
NAMES = [*FAST, "smolvlm", "qwen2_vl"]
SIZES = [(48, 40), (30, 70), (90, 33), (20, 20)]
QUESTIONS = ["what color is the dog?", "how many cats are there on the red couch?", "bus?", "Yes\n"]


@pytest.fixture(scope="module", params=FAST)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PublicModel:
    return build(request.param, tmp_path_factory.mktemp(request.param), 0, max_length=8)


def build(name: str, folder: Path, seed: int, *, max_length: int = 12) -> PublicModel:
    builder: Callable[[Path, int], None] = getattr(chat, f"build_{name}")
    builder(folder, seed)
    return PublicModel.load(folder, max_length=max_length)


@cache
def load_processor(folder: str) -> Any:
    return AutoProcessor.from_pretrained(folder)


def process(family: ChatFamily, image: Image.Image, question: str | None) -> Any:
    """Return the inputs of the model as transformers computes them."""
    text = family.instruction if question is None else question + family.answer_suffix
    parts = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    return load_processor(family.template.folder).apply_chat_template(
        [{"role": "user", "content": parts}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def generate(
    family: ChatFamily, image: Image.Image, question: str | None, options: dict[str, Any]
) -> list[int]:
    inputs = process(family, image, question)
    length = inputs["input_ids"].shape[1]
    return family.model.generate(**inputs, **options)[0, length:].tolist()


def assert_prompts_equal(model: PublicModel) -> None:
    """Compare the expanded prompts with the tokens of the processor of transformers."""
    images, questions = random_images(4, sizes=SIZES), [None, *QUESTIONS[1:]]
    for image, question in zip(images, questions, strict=True):
        (memory,) = model.memories([image], [question])
        expected = process(model.family, image, question)["input_ids"][0]
        assert model.family.expand(memory).tolist() == expected.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_prompts_equal_the_processor(tmp_path: Path, name: str) -> None:
    assert_prompts_equal(build(name, tmp_path, 0))


def test_prompts_of_undivided_images(tmp_path: Path) -> None:
    model = build("idefics3", tmp_path, 0)
    load_processor(str(tmp_path)).image_processor.do_image_splitting = False
    model.family.processor.do_image_splitting = False
    assert_prompts_equal(model)
    assert_tokens_equal(model, generate, random_images(2, sizes=SIZES))


def test_texts_with_several_ends(tmp_path: Path) -> None:
    chat.build_llava(tmp_path, 1, ends=(chat.END, "a", "<s>"))
    model = PublicModel.load(tmp_path)
    assert len(model.backend.tokenizer.ends) == 3
    assert_tokens_equal(model, generate, random_images(8, 1))


def test_captions_equal_generate(model: PublicModel) -> None:
    assert_tokens_equal(model, generate, random_images(3, sizes=SIZES))


def test_answers_equal_generate(model: PublicModel) -> None:
    assert_tokens_equal(model, generate, random_images(3, 1, sizes=SIZES), QUESTIONS[:3])


def test_questions_of_several_lengths_in_a_batch(model: PublicModel) -> None:
    assert_batch_equal(model, random_images(8, 2, sizes=SIZES), 2 * QUESTIONS[::-1])


def test_scores_of_captions(model: PublicModel) -> None:
    assert_scores_equal(model, random_images(4, 3, sizes=SIZES))


def test_rules(model: PublicModel) -> None:
    assert_rules_equal(model, generate, random_images(2, sizes=SIZES))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_texts_of_many_models(tmp_path: Path, name: str, seed: int) -> None:
    model = build(name, tmp_path, seed)
    images = random_images(32, seed, sizes=SIZES)
    assert_tokens_equal(model, generate, images)
    assert_tokens_equal(model, generate, images, 8 * QUESTIONS)
