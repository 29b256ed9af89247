"""Compare BLIP-2 and InstructBLIP on this package's searches with `generate` of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from public_folders.query_transformers import (
    QUERIES,
    build_blip2_opt,
    build_blip2_t5,
    build_instructblip_llama,
    build_instructblip_t5,
)
from public_oracles import processor_oracle
from public_rules import assert_rules_equal
from public_tokens import (
    Generate,
    PublicModel,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)

BUILDERS = (build_blip2_opt, build_blip2_t5, build_instructblip_llama, build_instructblip_t5)
QUESTIONS = ["what color is the dog?", "is it a bus?", "how many cats are there on the couch?"]


class Case(NamedTuple):
    model: PublicModel
    generate: Generate


def load(
    folder: Path, build: Callable[[Path, int], None], seed: int, *, max_length: int = 12
) -> Case:
    build(folder, seed)
    if "instructblip" in build.__name__:
        prompts = ("A short image description.", "Question: {} Short answer:")
        generate = processor_oracle(folder, caption=prompts[0], question=prompts[1])
    else:
        question = "Question: {} Answer:"
        generate = processor_oracle(folder, caption=None, question=question, added=QUERIES + 1)
    return Case(PublicModel.load(folder, max_length=max_length), generate)


@pytest.fixture(scope="module", params=BUILDERS, ids=lambda build: build.__name__)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return load(tmp_path_factory.mktemp("model"), request.param, 0, max_length=6)


def test_captions_equal_generate(case: Case) -> None:
    assert_tokens_equal(case.model, case.generate, random_images(6))


def test_answers_equal_generate(case: Case) -> None:
    assert_tokens_equal(case.model, case.generate, random_images(3, 1), QUESTIONS)


def test_answers_in_a_batch(case: Case) -> None:
    assert_batch_equal(case.model, random_images(8, 2), [QUESTIONS[i % 3] for i in range(8)])


def test_scores_of_answers(case: Case) -> None:
    assert_scores_equal(case.model, random_images(3, 3), QUESTIONS)


def test_rules(case: Case) -> None:
    assert_rules_equal(case.model, case.generate, random_images(2))
    assert_rules_equal(case.model, case.generate, random_images(2), QUESTIONS[:2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("build", BUILDERS)
def test_texts_of_many_models(
    tmp_path: Path, build: Callable[[Path, int], None], seed: int
) -> None:
    model, generate = load(tmp_path, build, seed)
    images = random_images(32, seed)
    assert_tokens_equal(model, generate, images)
    assert_tokens_equal(model, generate, images, [QUESTIONS[i % 3] for i in range(32)])
