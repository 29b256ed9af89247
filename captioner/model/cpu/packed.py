"""Linear layers and convolutions for use on a CPU, laid out once as the kernels read them.

`F.linear` rearranges the weight at every call, or takes a kernel that is slow on some processors:
for the few dozen rows of a search that is most of the time. Here the weight is laid out when the
model is loaded. With `int8`, weights are integers with a scale for each output channel, and inputs
are quantized at each call, with one scale for all of them. The processor must compute int8
correctly (`captioner.model.cpu.processor.int8_accumulator`). A convolution's activation is
applied before its results leave the cache.

Shapes: N rows, I inputs, O outputs; B images, C channels, H, W places.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.cpu.processor import int8_accumulator, quantize
from captioner.model.decoder import Decoder
from captioner.model.layers import Attention, Layer


class PackedLinear(nn.Module):
    """One linear layer, or several of the same input side by side; it cannot be trained.

    With `gelu`, which is not for int8, that comes after it.
    """

    def __init__(self, *layers: nn.Linear, int8: bool = False, gelu: bool = False) -> None:
        super().__init__()
        weight = torch.cat([layer.weight for layer in layers]).detach()  # (O, I)
        biases = [_bias(layer) for layer in layers]
        bias = torch.cat(biases).detach()
        self.int8, (self.out_features, self.in_features) = int8, weight.shape
        if int8:
            self.packed = quantize(weight.float(), bias.float(), int8_accumulator())
        else:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
            self.bias = bias
            self.then = "gelu" if gelu else "none"

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        if self.int8:
            return torch.ops.quantized.linear_dynamic(x, self.packed, False)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, self.then, [], "none")


class PackedConv(nn.Module):
    """A convolution of stride 1 or 2 and TensorFlow's padding, for inputs of one size (H, W).

    With `relu6`, that comes after it; `out_size` is the height and width of what it gives.
    """

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int], *, relu6: bool) -> None:
        super().__init__()
        stride, kernel, weight = conv.stride[0], conv.kernel_size[0], conv.weight.detach()
        if stride > 1:
            # An even side is padded at its end alone. With zeros before the kernel's weights, it is
            # padded at both, as the kernels do it themselves, and the input is not copied.
            above, left = (1 - side % 2 for side in size)
            weight = F.pad(weight, (left, 0, above, 0))
        pads = [kernel // 2] * 2
        self.how = (pads, list(conv.stride), list(conv.dilation), conv.groups)
        self.then = ("hardtanh", [0.0, 6.0], "") if relu6 else ("none", [], "")
        shape = [1, conv.in_channels, *size]
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.how, shape)
        self.bias = conv.bias.detach()
        self.size, self.out_size = tuple(size), tuple(-(-side // stride) for side in size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), channels last, to the same; raises ValueError for another size."""
        if x.shape[-2:] != self.size:
            raise ValueError(f"laid out for {self.size}, and given {tuple(x.shape[-2:])}")
        how = torch.ops.mkldnn._convolution_pointwise
        return how(x, self.packed, self.bias, *self.how, *self.then)


def pack_linear_layers(module: nn.Module, *, int8: bool = False) -> None:
    """Replace the linear layers within a module, in place; it is for use only then."""
    for name, child in list(module.named_modules()):
        if isinstance(child, Decoder):
            child.replace_head(PackedLinear(_head(child), int8=int8))
        elif isinstance(child, Attention) and name.endswith("self_attn"):
            child.fuse_qkv(PackedLinear(child.q_proj, child.k_proj, child.v_proj, int8=int8))
        elif isinstance(child, Layer) and not int8:
            child.fc1, child.gelu = PackedLinear(child.fc1, gelu=True), nn.Identity()
        for own, layer in list(child.named_children()):
            if type(layer) is nn.Linear:
                setattr(child, own, PackedLinear(layer, int8=int8))


def _head(decoder: Decoder) -> nn.Linear:
    """The layer of the tied embedding."""
    weight = decoder.embed_tokens.weight
    head = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
    head.weight = weight
    return head


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
