"""Helpers for tests of answers: comparison, exact probabilities, counted encodings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import picture

from captioner.predict import Answers, Captioner
from captioner.text import normalize_question
from captioner.tokenizer import BOS, PAD, UNK

CLOSED = ("red", "red dog", "red dog by", "green", "Blue", "a boat", "a beach", "yes", "no", "2")


def count_encoded(model: Captioner, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each call of the encoder adds its number of images."""
    counts: list[int] = []
    extract = model.model.extract_views

    def counting(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        counts.append(len(images))
        return extract(images)

    monkeypatch.setattr(model.model, "extract_views", counting)
    return counts


def save_pictures(folder: Path) -> list[Path]:
    """Write four different pictures."""
    paths = [folder / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        picture(i).save(path)
    return paths


def assert_same(found: list[Answers], expected: list[Answers]) -> None:
    """Compare texts exactly and confidences with a tolerance."""
    for a, b in zip(found, expected, strict=True):
        assert [x.text for x in a.answers] == [x.text for x in b.answers]
        np.testing.assert_allclose(
            [x.confidence for x in a.answers], [x.confidence for x in b.answers], rtol=1e-3
        )


def ids_of(model: Captioner, question: str) -> list[int]:
    """Return the token ids of a question."""
    return model.tokenizer.encode(normalize_question(question))


def logprobs_of(model: Captioner, image, question: str, tokens: list[int]) -> torch.Tensor:
    """Return the logits (T, V) at each token of an answer, from one parallel pass."""
    with torch.no_grad():
        memory = model.model.encode(model.backend.stack([model.backend.read(image)])[0])
        ids = torch.tensor([ids_of(model, question)])
        memory, mask = model.model.fuse_questions(memory, ids, torch.tensor([0]))
        logits = model.model.decode(
            memory, torch.tensor([[[BOS, *tokens[:-1]]]]), mask, answers=True
        )
    logits[:, [PAD, UNK, BOS]] = -math.inf
    return logits / model.config.answers.temperature
