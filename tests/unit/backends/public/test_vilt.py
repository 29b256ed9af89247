"""Compare ViLT with the classifier of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from public_folders.prompted import ANSWERS, build_vilt
from public_tokens import PublicModel, random_images
from transformers import AutoProcessor

from captioner.errors import CaptionerError

SIZES = [(48, 40), (90, 30), (32, 32)]
QUESTIONS = ["what color is the dog?", "is it a bus?", "how many cats are there on the couch?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vilt")
    build_vilt(folder, 0)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> PublicModel:
    return PublicModel.load(folder)


def compare(model: PublicModel, folder: Path, count: int) -> None:
    processor: Any = AutoProcessor.from_pretrained(folder)
    images = random_images(count, sizes=SIZES)
    questions = [QUESTIONS[i // 2 % 3] for i in range(count)]
    logprobs = model.backend.classify(model.memories(images, questions))
    for image, question, row in zip(images, questions, logprobs, strict=True):
        inputs = processor(images=image, text=question, return_tensors="pt")
        with torch.inference_mode():
            expected = model.family.model(**inputs).logits[0].log_softmax(-1)
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-4)
    assert len(set(logprobs.argmax(-1).tolist())) > 1


def test_answers_equal_transformers(model: PublicModel, folder: Path) -> None:
    compare(model, folder, 6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_answers_of_many_models(tmp_path: Path, seed: int) -> None:
    build_vilt(tmp_path, seed)
    compare(PublicModel.load(tmp_path), tmp_path, 32)


def test_answers_are_restored(model: PublicModel) -> None:
    tokenizer = model.backend.tokenizer
    assert [tokenizer.decode(ids) for ids in model.backend.answers] == ANSWERS
    assert tokenizer.encode("Yes") == tokenizer.encode("yes")
    unknown = tokenizer.encode("a café")
    assert tuple(unknown) not in model.backend.answers
    assert tokenizer.decode(unknown) == "a café"


def test_captions_are_refused(model: PublicModel) -> None:
    with pytest.raises(CaptionerError, match="answers questions only"):
        model.search(model.memories(random_images(1)), 1)
