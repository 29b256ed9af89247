"""Weights of rows in the losses: a row of weight 2 counts as two rows, one of weight 0 as none."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from tiny import make_checkpoint
from torch import Tensor, nn

from captioner.build import load_checkpoint
from captioner.config import StageConfig
from captioner.data.collate import Batch, collate
from captioner.data.dataset import Sample
from captioner.training.loss import (
    Loss,
    Objective,
    advantages,
    caption_loss,
    self_critical_loss,
    tag_loss,
)
from captioner.training.teacher import distillation_loss

TEXTS = ["a red dog by the street", "a boat", "a blue boat by the beach"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    model, tokenizer, _ = load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("tiny")))
    model.memory_encoder.requires_grad_(True)
    model.eval()
    return model, tokenizer


def batch_of(tokenizer, *weighted: tuple[int, float]) -> Batch:
    """Return a batch of images, each with the text of its number and a weight."""
    torch.manual_seed(0)
    pixels = torch.randn(len(TEXTS), 3, 64, 64)
    return collate(
        [
            Sample(i, pixels[i], [tokenizer.encode(TEXTS[i], max_length=12)], weights=[weight])
            for i, weight in weighted
        ]
    )


def gradient_of(model: nn.Module, batch: Batch, goal: Objective) -> tuple[Loss, Tensor]:
    """Return the loss, and the gradient of the loss per token."""
    model.zero_grad()
    loss = goal(model, batch, full_model=lambda: nullcontext(model))
    (loss.total / loss.tokens).backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss, torch.cat(gradients)


CROSS_ENTROPY = Objective(StageConfig(), smoothing=0.1, max_length=8)


def test_weight_2_equals_a_row_that_occurs_twice(loaded):
    model, tokenizer = loaded
    once = batch_of(tokenizer, (0, 1.0), (1, 2.0))
    twice = batch_of(tokenizer, (0, 1.0), (1, 1.0), (1, 1.0))
    (one, gradient), (other, expected) = (
        gradient_of(model, batch, CROSS_ENTROPY) for batch in (once, twice)
    )
    assert one.tokens == other.tokens
    torch.testing.assert_close(one.total, other.total)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_weight_0_equals_leaving_the_row_out(loaded):
    model, tokenizer = loaded
    with_row = batch_of(tokenizer, (0, 1.0), (1, 0.0), (2, 0.5))
    without = batch_of(tokenizer, (0, 1.0), (2, 0.5))
    (one, gradient), (other, expected) = (
        gradient_of(model, batch, CROSS_ENTROPY) for batch in (with_row, without)
    )
    assert one.tokens == other.tokens
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_equal_weights_give_the_gradient_of_none(loaded):
    model, tokenizer = loaded
    _, gradient = gradient_of(model, batch_of(tokenizer, (0, 0.5), (1, 0.5)), CROSS_ENTROPY)
    _, expected = gradient_of(model, batch_of(tokenizer, (0, 1.0), (1, 1.0)), CROSS_ENTROPY)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_weights_of_1_take_the_path_without_weights(loaded):
    model, tokenizer = loaded
    batch = batch_of(tokenizer, (0, 1.0), (1, 1.0))
    assert batch.weights is None
    bare = dataclasses.replace(batch, weights=None)
    assert torch.equal(*(gradient_of(model, b, CROSS_ENTROPY)[1] for b in (batch, bare)))


def test_advantages_of_an_image_are_multiplied_by_the_mean_weight_of_its_captions(loaded):
    model, tokenizer = loaded
    batch = batch_of(tokenizer, (0, 1.0), (1, 0.5))
    reward = lambda drawn, _: (drawn % 7).float().mean(-1)  # noqa: E731
    stage = StageConfig(objective="scst", samples=4)
    goal = Objective(stage, smoothing=0.0, max_length=8, reward=reward)
    torch.manual_seed(1)
    drawn = goal.sample(model, batch)
    torch.manual_seed(1)
    loss, _ = gradient_of(model, batch, goal)
    from captioner.data.collate import decoder_input

    logits = model(batch.images, decoder_input(drawn))
    weights = torch.tensor([1.0, 0.5])
    gains = advantages(reward(drawn, None), 4) * weights[:, None]
    torch.testing.assert_close(loss.total, self_critical_loss(logits, drawn, gains))
    lengths = (drawn != tokenizer.pad).sum((1, 2))
    assert loss.tokens == (lengths * weights).sum()


def test_losses_of_single_tokens_and_images_are_weighted():
    torch.manual_seed(2)
    logits, weights = torch.randn(3, 5), torch.tensor([2.0, 0.0, 1.0])
    repeated = logits[[0, 0, 2]]
    labels = torch.tensor([1, 4, 2])
    torch.testing.assert_close(
        caption_loss(logits, labels, smoothing=0.1, weights=weights),
        caption_loss(repeated, labels[[0, 0, 2]], smoothing=0.1),
    )
    tags = torch.tensor([[1.0, 0, -1, 0, 1], [0, 1, 0, 0, 0], [1, 1, 0, -1, 0]])
    torch.testing.assert_close(
        tag_loss(logits, tags, weights=weights), tag_loss(repeated, tags[[0, 0, 2]])
    )
    target = torch.randn(3, 5)
    torch.testing.assert_close(
        distillation_loss(logits, [target], temperature=2, weights=weights),
        distillation_loss(repeated, [target[[0, 0, 2]]], temperature=2),
    )


def test_tagged_images_are_counted_by_weight():
    samples = [
        Sample(i, torch.zeros(3, 4, 4), [], tags=torch.ones(2), weights=[weight])
        for i, weight in enumerate((0.5, 1.0))
    ]
    batch = collate(samples)
    assert batch.weights.tolist() == [0.5, 1.0]
    assert batch.count() == 1.5
