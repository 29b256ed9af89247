"""The exponential moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captioner.training.ema import MovingAverage


def test_average_equals_its_closed_form():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.5)
    expected = {k: v.detach().clone() for k, v in model.named_parameters()}
    for n in range(1, 30):
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape))
        average.update(model)
        decay = min(0.5, (1 + n) / (10 + n))
        for k, v in model.named_parameters():
            expected[k] = decay * expected[k] + (1 - decay) * v.detach()
    for k, v in expected.items():
        torch.testing.assert_close(average.state[k], v)


def test_applied_gives_the_average_within_the_block_only():
    model = nn.Linear(3, 3)
    average = MovingAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1)
    average.update(model)
    own, averaged = model.weight.detach().clone(), average.state["weight"].clone()
    pointer = model.weight.data_ptr()
    assert not torch.equal(own, averaged)

    def fail_inside():
        with average.applied(model):
            assert torch.equal(model.weight, averaged)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert torch.equal(model.weight, own)
    assert torch.equal(average.state["weight"], averaged)
    assert model.weight.data_ptr() == pointer


def test_frozen_weights_are_not_averaged_and_reset_starts_again():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.9)
    model.bias.requires_grad_(False)
    before = average.state["bias"].clone()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    average.update(model)
    assert torch.equal(average.state["bias"], before)
    average.reset(model)
    assert average.updates == 0
    assert all(torch.equal(average.state[k], v) for k, v in model.named_parameters())
    with torch.no_grad():
        model.weight.add_(1)
    assert not torch.equal(average.state["weight"], model.weight)


def test_decay_of_zero_disables_the_average():
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.0)
    own = model.weight.detach().clone()
    average.update(model)
    with average.applied(model):
        assert torch.equal(model.weight, own)
    assert average.state == {}
