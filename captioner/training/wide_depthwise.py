"""Wide depthwise convolutions in float32, where bfloat16 has no fast gradient on a CPU.

With oneDNN, the gradient of a depthwise convolution with a kernel of 5 x 5 takes 4 to 15 times as
long in bfloat16 as in float32 (torch 2.14, AVX-512 bf16): most of the time of the backward pass of
an EfficientNet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NARROW = 3
"""Widest kernel with a fast gradient in bfloat16."""


class Float32Conv2d(nn.Conv2d):
    """A convolution in float32 under autocast; the output has the type of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) as the class does that follows in the method resolution order."""
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = super().forward(x.float())
        return y.to(x.dtype)


def run_wide_depthwise_in_float32(module: nn.Module) -> None:
    """Run the wide depthwise convolutions of a module in float32; weights and names stay."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.groups > 1 and max(conv.kernel_size) > NARROW:
            conv.__class__ = _float32_class(type(conv))


def _float32_class(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """Return a class whose convolution is that of `kind`, such as timm's Conv2dSame."""
    return type(f"Float32{kind.__name__}", (Float32Conv2d, kind), {})
