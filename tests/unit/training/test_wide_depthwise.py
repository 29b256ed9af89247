"""Wide depthwise convolutions in float32: which ones, the same values, and gradients."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from captioner.training.wide_depthwise import Float32Conv2d, run_wide_depthwise_in_float32


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()


def test_only_wide_depthwise_convolutions_change(backbone):
    plain = {name: type(module) for name, module in backbone.named_modules()}
    state = copy.deepcopy(backbone.state_dict())
    run_wide_depthwise_in_float32(backbone)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.kernel_size == (5, 5):
            assert isinstance(module, Float32Conv2d)
            assert isinstance(module, plain[name])
        else:
            assert type(module) is plain[name]
    changed = {type(m).__name__ for m in backbone.modules() if isinstance(m, Float32Conv2d)}
    assert changed == {"Float32Conv2d", "Float32Conv2dSame"}
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in state.items())


def test_values_and_gradients_stay_the_same(backbone):
    changed = copy.deepcopy(backbone)
    run_wide_depthwise_in_float32(changed)
    changed = copy.deepcopy(changed)  # a copy must use its own weights
    x = torch.randn(2, 3, 64, 64)
    results = []
    for model in (backbone, changed):
        features = model.forward_features(x)
        features.square().mean().backward()
        gradients = [p.grad for p in model.parameters()]
        assert all(gradient is not None for gradient in gradients)
        results.append([features.detach(), *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_they_run_in_float32_under_autocast(backbone):
    seen = []
    run_wide_depthwise_in_float32(backbone)
    for module in backbone.modules():
        if isinstance(module, Float32Conv2d):
            module.register_forward_hook(lambda m, x, y: seen.append((x[0].dtype, y.dtype)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = backbone.forward_features(torch.randn(1, 3, 64, 64))
    assert features.dtype == torch.bfloat16
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}
    conv = Float32Conv2d(4, 4, 5, groups=4, bias=False)
    x = torch.randn(1, 4, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = conv(x)
    exact = nn.functional.conv2d(x.float(), conv.weight, groups=4)
    assert torch.equal(rounded, exact.bfloat16())
