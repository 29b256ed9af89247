"""Fitting the head that recognizes images which are not photographs."""

from __future__ import annotations

import pytest
import torch

from captioner.training.kind_fitting import choose_shift, fit_regression


def test_the_regression_minimizes_the_penalized_loss():
    generator = torch.Generator().manual_seed(0)
    classes = [torch.randn(n, 3, generator=generator).double() + n / 20 for n in (20, 10, 15)]
    weight, bias = fit_regression(classes, penalty=0.1)
    x = torch.cat(classes)
    mean, scale = x.mean(0), x.std(0)
    scaled = (weight * scale).requires_grad_()
    constant = (bias + weight @ mean).requires_grad_()
    losses = [
        torch.nn.functional.cross_entropy(
            (rows - mean) / scale @ scaled.T + constant, torch.full((len(rows),), number)
        )
        for number, rows in enumerate(classes)
    ]
    (sum(losses) / 3 + 0.05 * scaled.square().sum()).backward()
    torch.testing.assert_close(scaled.grad, torch.zeros_like(scaled), atol=1e-4, rtol=0)
    torch.testing.assert_close(constant.grad, torch.zeros_like(constant), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("most", "flagged"), [(0.0, 0), (0.01, 2), (0.105, 21)])
def test_the_threshold_flags_the_share_of_the_held_out_photographs(most, flagged):
    logits = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)).double()
    logits[:, 0] += choose_shift(logits, most)
    assert int((logits.argmax(1) > 0).sum()) == flagged
