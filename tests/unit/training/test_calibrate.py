"""Temperature scaling: fitted on held-out questions, written into the checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from drawn_images import SHAPES, draw
from tiny_vqa import make_vqa_checkpoint

from captioner.build import load_checkpoint
from captioner.checkpoint import set_temperature
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import SourceConfig, load_config
from captioner.data.collate import collate
from captioner.data.dataset import ImageDataset, Key
from captioner.data.splits import Task
from captioner.files import find_damage
from captioner.tokenizer import BOS, PAD, UNK
from captioner.training.calibrate import fit_answer_temperature

QUESTIONS_TASK = Task("questions", SourceConfig("questions"), kind="questions")
CAPTIONS = Task("captions", SourceConfig("captions"), kind="captions")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_vqa_checkpoint(tmp_path / "checkpoint")


def dataset(folder: Path, config, tokenizer, *, question: str, answers=()) -> ImageDataset:
    rows = []
    for i, shape in enumerate(SHAPES):
        draw(*shape).save(folder / f"{i}.png")
        row = {"image": str(folder / f"{i}.png"), "audio": "", "question": question, "source": 0}
        rows.append(row | {"references": [shape[0]]})
    spec, length = pixel_spec(config), config.model.max_length
    options = {"spec": spec, "tokenizer": tokenizer, "max_length": length, "answers": answers}
    return ImageDataset(Dataset.from_list(rows), **options)


@torch.no_grad()
def loss(model, data: ImageDataset, temperature: float) -> float:
    """Compute the mean negative log-likelihood of the answers' tokens without shortcuts."""
    batch = collate([data[Key(0, i, 0)] for i in range(len(data))])
    logits = model(batch.images, batch.tokens, batch.questions, batch.owners)
    logits[:, [PAD, UNK, BOS]] = float("-inf")
    logprobs = (logits / temperature).log_softmax(-1)
    labels = batch.labels[batch.labels != PAD]
    return -logprobs[torch.arange(len(labels)), labels].mean().item()


@pytest.mark.parametrize("sharpness", [0.5, 1.5])
def test_fitted_temperature_maximizes_the_likelihood_of_the_answers(
    checkpoint, tmp_path, sharpness
):
    model, tokenizer, config = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.decoder.layer_norm.weight.mul_(sharpness)
        model.decoder.layer_norm.bias.mul_(sharpness)
    data = dataset(tmp_path, config, tokenizer, question="what color is it?")
    result = fit_answer_temperature(model, data, [QUESTIONS_TASK], Accelerator(cpu=True))
    assert 0.25 <= result <= 4
    best = loss(model, data, result)
    # Logits are stored in half precision.
    assert best <= min(loss(model, data, t) for t in (0.3, 0.5, 0.8, 1.0, 1.25, 2.0, 3.5)) + 1e-3
    if 0.3 < result < 3.5:
        assert best < loss(model, data, result * 1.2) + 1e-3
        assert best < loss(model, data, result / 1.2) + 1e-3


def test_temperature_of_a_classifier_maximizes_the_likelihood_of_its_answers(tmp_path):
    colors = [shape[0] for shape in SHAPES[:4]]  # the other answers are no class
    folder = make_vqa_checkpoint(tmp_path / "checkpoint", classes=colors)
    model, tokenizer, config = load_checkpoint(folder)
    data = dataset(tmp_path, config, tokenizer, question="what?", answers=model.answers)
    result = fit_answer_temperature(model, data, [QUESTIONS_TASK], Accelerator(cpu=True))
    batch = collate([data[Key(0, i, 0)] for i in range(len(data))])
    assert batch.targets.sum() == len(colors)
    with torch.no_grad():
        logits = model(batch.images, batch.tokens, batch.questions, batch.owners)

    def nll(temperature: float) -> float:
        return -((logits / temperature).log_softmax(-1) * batch.targets).sum().item()

    assert 0.25 <= result <= 4
    assert nll(result) <= min(nll(t) for t in (0.3, 0.5, 0.8, 1.0, 1.25, 2.0, 3.5)) + 1e-3


def test_no_temperature_is_fitted_without_questions(checkpoint, tmp_path):
    model, tokenizer, config = load_checkpoint(checkpoint)
    data = dataset(tmp_path, config, tokenizer, question="")
    assert fit_answer_temperature(model, data, [CAPTIONS], Accelerator(cpu=True)) is None


def test_set_temperature_changes_no_other_setting(checkpoint):
    path = checkpoint / "config.yaml"
    before = load_config(path)
    set_temperature(checkpoint, 1.23456)
    after = load_config(path)
    assert math.isclose(after.answers.temperature, 1.2346)
    assert load_config(path, [f"answers.temperature={before.answers.temperature}"]) == before
    assert sorted(p.name for p in checkpoint.iterdir()) == [
        *("config.yaml", "manifest.json", "metrics.json", "model.safetensors", "tokenizer.model")
    ]
    assert not find_damage(checkpoint)
