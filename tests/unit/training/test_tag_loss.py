"""The loss of tags, and the head that it trains."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from tiny import make_checkpoint

from captioner.build import load_checkpoint
from captioner.checkpoint.weights import load_best, save_best
from captioner.config import StageConfig
from captioner.data.collate import collate
from captioner.data.dataset import Sample
from captioner.model.image_encoder import TagHead
from captioner.training.loss import Objective, tag_loss


def test_loss_is_the_asymmetric_loss_with_a_margin():
    logits = torch.tensor([[0.3, -2.0, 1.5, 0.7]])
    tags = torch.tensor([[1.0, 0.0, 0.0, -1.0]])
    present, easy, hard = (1 / (1 + math.exp(-x)) for x in (0.3, -2.0, 1.5))
    expected = -math.log(present)
    expected -= sum((p - 0.05) ** 4 * math.log(1 - (p - 0.05)) for p in (easy, hard))
    assert tag_loss(logits, tags).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("logit", [-100.0, 0.0, 100.0])
def test_loss_and_gradient_are_finite(logit):
    logits = torch.full((1, 3), logit, requires_grad=True)
    loss = tag_loss(logits, torch.tensor([[1.0, 0.0, -1.0]]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] <= 0 <= logits.grad[0, 1]
    assert logits.grad[0, 2] == 0


def test_absent_tags_with_a_low_probability_have_no_loss():
    assert tag_loss(torch.tensor([[-3.0]]), torch.tensor([[0.0]])) == 0


@pytest.fixture
def loaded(tmp_path):
    model, tokenizer, config = load_checkpoint(
        make_checkpoint(tmp_path / "tiny"), for_training=True
    )
    model.tag_head = TagHead(model.memory_encoder.projection.in_features, 3)
    return model.requires_grad_(True), tokenizer, config


def test_loss_of_a_batch_trains_the_head_and_the_backbone_only(loaded):
    model, *_ = loaded
    tags = torch.tensor([1.0, 0.0, -1.0])
    samples = [Sample(i, torch.randn(3, 64, 64), [], tags=tags) for i in range(2)]
    goal = Objective(StageConfig(), smoothing=0.1, max_length=8)
    result = goal(model, collate(samples), full_model=lambda: nullcontext(model))
    assert (result.tokens.item(), result.texts, result.kind) == (2, 2, "loss")
    result.total.backward()
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"backbone", "tag_head"}


def test_features_and_pixels_give_the_same_logits(loaded):
    model, *_ = loaded
    pixels = torch.randn(2, 3, 64, 64)
    logits = model.eval()(pixels)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(model(model.backbone(pixels)), logits)
    model.blind = True
    assert torch.equal(model(pixels), model(pixels * 0))


def test_checkpoints_leave_the_head_out(loaded, tmp_path):
    model, tokenizer, config = loaded
    save_best(tmp_path / "best", config, tokenizer, model, {"val": {}})
    plain, *_ = load_checkpoint(tmp_path / "best")
    assert plain.tag_head is None
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.decoder.embed_tokens.weight.zero_()
    load_best(tmp_path / "best", model)
    assert [k for k, v in model.state_dict().items() if not torch.equal(v, kept[k])] == []
