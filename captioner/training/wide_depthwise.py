"""Wide depthwise convolutions in float32, where bfloat16 has no fast gradient on a CPU.

The gradient of a depthwise convolution with a kernel of 5 x 5 takes oneDNN 4 to 15 times as long in
bfloat16 as in float32 (torch 2.14, AVX-512 bf16), and most of the backward pass of an EfficientNet.
"""

from __future__ import annotations

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

NARROW = 3
"""Widest kernel with a fast gradient in bfloat16."""


class _Float32(nn.Module):
    """Runs a module in float32 under autocast; the output has the type of the input."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = super().forward(x.float())
        return y.to(x.dtype)


class Float32Conv2d(_Float32, nn.Conv2d):
    """`nn.Conv2d` in float32."""


class Float32Conv2dSame(_Float32, Conv2dSame):
    """timm's convolution with TensorFlow's padding in float32."""


_CLASSES = {nn.Conv2d: Float32Conv2d, Conv2dSame: Float32Conv2dSame}


def run_wide_depthwise_in_float32(module: nn.Module) -> None:
    """Change the wide depthwise convolutions in a module, in place; weights and names stay."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and type(conv) in _CLASSES:
            is_wide = conv.groups > 1 and max(conv.kernel_size) > NARROW
            conv.__class__ = _CLASSES[type(conv)] if is_wide else type(conv)
