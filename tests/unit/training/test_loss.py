"""The loss of a batch: cross-entropy and self-critical training."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from tiny import make_checkpoint
from torch import nn

from captioner.build import load_checkpoint
from captioner.config import StageConfig
from captioner.data.collate import Batch, collate, decoder_input
from captioner.data.dataset import Sample
from captioner.model.layers import Dropout
from captioner.tokenizer import EOS, PAD
from captioner.training.loss import FullModel, Objective, advantages, self_critical_loss
from captioner.training.stage import train_mode

TEXTS = {0: ["a red dog by the street"], 1: ["a blue boat by the beach", "a boat"]}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    model, tokenizer, _ = load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("tiny")))
    model.memory_encoder.requires_grad_(True)
    for part in model.modules():  # samples are compared
        if hasattr(part, "p"):
            part.p = 0.0
    return model, tokenizer


def itself(model: nn.Module) -> FullModel:
    """Return the trained model itself for sampling, as on a single process."""
    return lambda: nullcontext(model)


def batch_of(tokenizer) -> Batch:
    torch.manual_seed(0)
    samples = [
        Sample(i, torch.randn(3, 64, 64), [tokenizer.encode(t, max_length=12) for t in texts])
        for i, texts in TEXTS.items()
    ]
    return collate(samples)


def objective(tokenizer, *, objective="scst", **stage) -> Objective:
    stage = StageConfig(objective=objective, samples=4, **stage)
    reward = like_nothing if objective == "scst" else None
    return Objective(stage, smoothing=0.0, max_length=8, reward=reward)


def like_nothing(drawn: torch.Tensor, images: list[int]) -> torch.Tensor:
    """A reward that differs between samples; CIDEr-D of an untrained model is always 0."""
    return (drawn % 7).float().mean(-1) + torch.tensor(images)[:, None]


def test_cross_entropy_is_summed_over_the_tokens_of_all_captions(loaded):
    model, tokenizer = loaded
    batch = batch_of(tokenizer)
    result = objective(tokenizer, objective="cross_entropy")(model, batch, full_model=itself(model))
    labels = batch.labels[batch.labels != PAD]
    expected = F.cross_entropy(model(batch.images, batch.tokens), labels, reduction="sum")
    torch.testing.assert_close(result.total, expected)
    assert (result.tokens.item(), result.texts) == (len(labels), 3)
    assert (result.kind, result.reward) == ("loss", None)


@pytest.mark.parametrize("baseline", ["mean", "greedy"])
def test_reward_is_computed_on_samples_of_the_batch(loaded, baseline):
    model, tokenizer = loaded
    train_mode(model)
    goal = objective(tokenizer, baseline=baseline)
    batch = batch_of(tokenizer)
    torch.manual_seed(1)
    result = goal(model, batch, full_model=itself(model))
    torch.manual_seed(1)
    drawn = goal.sample(model, batch)[:, :4]
    assert result.texts == 8
    assert result.tokens == (drawn != PAD).sum()
    rows = goal.reward(drawn, batch.indices)
    assert result.kind == "reward"
    assert result.reward == rows.mean()
    assert model.training
    assert not model.backbone.training
    assert ((drawn == EOS).sum(-1) <= 1).all()


def test_policy_gradient_is_computed_without_dropout(loaded):
    model, tokenizer = copy.deepcopy(loaded)
    goal, batch = objective(tokenizer), batch_of(tokenizer)
    totals = []
    for rate in (0.0, 0.5):
        for part in model.modules():
            if isinstance(part, Dropout):
                part.p = rate
        train_mode(model)
        torch.manual_seed(4)
        totals.append(goal(model, batch, full_model=itself(model)).total)
    torch.testing.assert_close(*totals)
    assert model.decoder.training


def test_temperature_sharpens_the_policy_that_is_sampled_and_trained(loaded):
    model, tokenizer = loaded
    batch = batch_of(tokenizer)
    greedy = objective(tokenizer, baseline="greedy", temperature=1e-4).sample(model, batch)
    assert (greedy[:, :4] == greedy[:, 4:]).all()
    goal = objective(tokenizer, temperature=0.5)
    torch.manual_seed(5)
    result = goal(model, batch, full_model=itself(model)).total
    torch.manual_seed(5)
    drawn = goal.sample(model, batch)
    logits = model(batch.images, decoder_input(drawn)) / 0.5
    gains = advantages(goal.reward(drawn, batch.indices), 4)
    torch.testing.assert_close(result, self_critical_loss(logits, drawn, gains))


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_backbone_runs_once_per_step_and_gets_a_gradient_unless_frozen(loaded, rate):
    model, tokenizer = loaded
    batch, backbone = batch_of(tokenizer), model.backbone
    with torch.no_grad():
        kept = dataclasses.replace(batch, images=backbone(batch.images))
    model.backbone = counted = Counted(backbone)
    goal = objective(tokenizer, encoder_lr=rate)
    torch.manual_seed(2)
    result = goal(model, batch, full_model=itself(model)).total
    model.backbone = backbone
    assert counted.calls == 1
    torch.manual_seed(2)
    expected = goal(model, kept, full_model=itself(model)).total
    torch.testing.assert_close(result, expected)
    assert expected != 0
    result.backward()
    learned = [p.grad is not None and bool(p.grad.any()) for p in backbone.parameters()]
    assert any(learned) == (rate > 0)
    model.zero_grad()


class Counted(nn.Module):
    """A module that counts its calls."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(x)


def test_cached_features_and_blind_models_do_not_run_the_backbone(loaded):
    model, tokenizer = loaded
    batch = batch_of(tokenizer)
    with torch.no_grad():
        features = model.backbone(batch.images)
    kept = dataclasses.replace(batch, images=features)
    torch.manual_seed(3)
    expected = objective(tokenizer)(model, batch, full_model=itself(model)).total
    torch.manual_seed(3)
    torch.testing.assert_close(
        objective(tokenizer)(model, kept, full_model=itself(model)).total, expected
    )
    model.blind = True
    torch.manual_seed(3)
    blind = objective(tokenizer)(model, batch, full_model=itself(model)).total
    model.blind = False
    assert blind != expected
