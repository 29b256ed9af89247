"""Compare Florence-2, PaliGemma, Kosmos-2 and Pix2Struct with `generate` of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from public_folders.prompted import (
    KOSMOS_QUERIES,
    build_florence2,
    build_kosmos2,
    build_paligemma,
    build_paligemma2,
    build_pix2struct,
    build_pix2struct_vqa,
)
from public_oracles import processor_oracle
from public_rules import assert_rules_equal
from public_tokens import (
    Generate,
    PublicModel,
    assert_attention_is_grid,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)
from transformers import AutoImageProcessor

from captioner.backends.public.family import Family
from captioner.backends.public.pix2struct import draw_question
from captioner.errors import CaptionerError

Build = Callable[[Path, int], None]
SIZES = [(48, 40), (90, 30), (20, 50)]
QUESTIONS = ["what color is the dog?", "is it a bus?", "how many cats are there on the couch?"]


class Case(NamedTuple):
    model: PublicModel
    generate: Generate

    def questions(self, count: int) -> list[str | None]:
        """Return questions, or none if the model only captions."""
        if not self.model.family.questions:
            return []
        return [QUESTIONS[i % len(QUESTIONS)] for i in range(count)]


def pix2struct_oracle(folder: Path) -> Generate:
    """Return a function that draws a question with transformers' own function."""
    processor: Any = AutoImageProcessor.from_pretrained(folder)

    def generate(
        family: Any, image: Image.Image, question: str | None, search: Mapping[str, Any]
    ) -> list[int]:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        if question is not None:
            pixels = processor.render_header(pixels, question, font_bytes=family.font)
        inputs = processor(images=[pixels], is_vqa=False, return_tensors="pt")
        ids: list[int] = family.model.generate(**inputs, **search)[0, 1:].tolist()
        return ids

    return generate


def oracle(folder: Path, family: Family) -> Generate:
    name = family.model_types[0]
    if name == "florence2":
        return processor_oracle(folder, caption="<CAPTION>")
    if name == "paligemma":
        prompts = {"caption": "<image>caption en", "question": "<image>answer en {}"}
        return processor_oracle(folder, **prompts)
    if name == "kosmos-2":
        prompts = {"caption": "An image of", "question": "Question: {} Answer:"}
        return processor_oracle(folder, **prompts, num_image_tokens=KOSMOS_QUERIES)
    return pix2struct_oracle(folder)


def load(folder: Path, build: Build, seed: int, *, max_length: int = 12) -> Case:
    build(folder, seed)
    model = PublicModel.load(folder, max_length=max_length)
    settings = model.family.model.generation_config
    model.no_repeat_ngram = settings.no_repeat_ngram_size or 0
    return Case(model, oracle(folder, model.family))


CAPTIONERS = (build_florence2, build_paligemma, build_paligemma2, build_kosmos2, build_pix2struct)
BUILDERS = (*CAPTIONERS, build_pix2struct_vqa)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return load(tmp_path_factory.mktemp("model"), request.param, 0, max_length=6)


def parametrize(*builders: Build) -> pytest.MarkDecorator:
    ids = [build.__name__ for build in builders]
    return pytest.mark.parametrize("case", builders, ids=ids, indirect=True, scope="module")


@parametrize(*CAPTIONERS)
def test_captions_equal_generate(case: Case) -> None:
    assert_tokens_equal(case.model, case.generate, random_images(6, sizes=SIZES))


@parametrize(build_paligemma, build_paligemma2, build_kosmos2, build_pix2struct_vqa)
def test_answers_equal_generate(case: Case) -> None:
    images = random_images(3, 1, sizes=SIZES)
    assert_tokens_equal(case.model, case.generate, images, QUESTIONS)


@parametrize(*BUILDERS)
def test_texts_in_a_batch(case: Case) -> None:
    assert_batch_equal(case.model, random_images(8, 2, sizes=SIZES), case.questions(8))


@parametrize(*BUILDERS)
def test_scores_of_texts(case: Case) -> None:
    assert_scores_equal(case.model, random_images(3, 3, sizes=SIZES), case.questions(3))


@parametrize(build_florence2)
def test_attention_to_the_grid(case: Case) -> None:
    assert_attention_is_grid(case.model, random_images(2), 16, rest=True)


def test_captions_only(tmp_path: Path) -> None:
    build_florence2(tmp_path, 0)
    with pytest.raises(CaptionerError, match="captions only"):
        PublicModel.load(tmp_path).family.question_prompt("is it a bus?")


def test_answers_only(tmp_path: Path) -> None:
    build_pix2struct_vqa(tmp_path, 0)
    model = PublicModel.load(tmp_path)
    memories = model.memories(random_images(1))
    with pytest.raises(CaptionerError, match="answers questions only"):
        model.search(memories, 1)


@pytest.mark.parametrize("question", [QUESTIONS[0], "what is this? " * 20])
@pytest.mark.parametrize("size", [(40, 60), (900, 50)])
def test_question_is_drawn_as_in_transformers(
    tmp_path: Path, size: tuple[int, int], question: str
) -> None:
    build_pix2struct_vqa(tmp_path, 0)
    font: bytes = PublicModel.load(tmp_path).family.font
    (image,) = random_images(1, sizes=[size])
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    expected = processor.render_header(pixels, question, font_bytes=font)
    drawn = np.array(draw_question(image, question, font))
    np.testing.assert_array_equal(drawn, expected.permute(1, 2, 0).numpy())


@parametrize(*BUILDERS)
def test_rules(case: Case) -> None:
    assert_rules_equal(case.model, case.generate, random_images(2, sizes=SIZES), case.questions(2))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("build", BUILDERS)
def test_texts_of_many_models(tmp_path: Path, build: Build, seed: int) -> None:
    case = load(tmp_path, build, seed)
    images = random_images(32, seed, sizes=SIZES)
    if case.model.family.captions:
        assert_tokens_equal(case.model, case.generate, images)
    if case.model.family.questions:
        assert_tokens_equal(case.model, case.generate, images, case.questions(32))
