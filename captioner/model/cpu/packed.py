"""Prepacked linear layers and convolutions for inference on a CPU, through oneDNN.

`F.linear` reorders the weight at every call, or uses a kernel that is slow on some processors;
this dominates for the few dozen rows of a search. Here the weight is reordered once, when the model
is loaded. With `int8`, weights have one scale per output channel, and inputs are quantized
dynamically with one scale per call; `captioner.model.cpu.processor.int8_accumulator` states
whether the processor computes int8 correctly. Activations are fused into the kernels.

Shapes: I inputs, O outputs; B images, C channels, H, W pixels or positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.cpu.processor import int8_accumulator, quantize
from captioner.model.decoder import Decoder
from captioner.model.layers import Attention, FeedForwardLayer


class PackedLinear(nn.Module):
    """One linear layer, or several with the same input whose outputs are concatenated.

    `int8` quantizes the weights; `gelu`, not available with it, applies GELU to the result.
    """

    def __init__(self, *layers: nn.Linear, int8: bool = False, gelu: bool = False) -> None:
        super().__init__()
        weight = torch.cat([layer.weight for layer in layers]).detach()  # (O, I)
        bias = torch.cat([_bias(layer) for layer in layers]).detach()
        self.int8, (self.out_features, self.in_features) = int8, weight.shape
        if int8:
            accumulator = int8_accumulator()
            assert accumulator is not None, "the processor has no correct int8 kernels"
            self.packed = quantize(weight.float(), bias.float(), accumulator)
        else:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
            self.bias = bias
            self.activation = "gelu" if gelu else "none"

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., I) to (..., O)."""
        if self.int8:
            return torch.ops.quantized.linear_dynamic(x, self.packed, False)
        return torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, self.activation, [], "none"
        )


class PackedConv(nn.Module):
    """A convolution with TensorFlow's padding, prepacked for inputs of one size (H, W).

    It has a bias and stride 1 or 2. `relu6` applies ReLU6 to the result, whose size is `out_size`.
    """

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int], *, relu6: bool) -> None:
        super().__init__()
        stride, kernel, weight = conv.stride[0], conv.kernel_size[0], conv.weight.detach()
        if stride > 1:
            # TensorFlow pads an even side only at its end. With zeros added before the weights, the
            # symmetric padding of the kernels gives the same result without copying the input.
            above, left = (1 - side % 2 for side in size)
            weight = F.pad(weight, (left, 0, above, 0))
        pads = [kernel // 2] * 2
        self.geometry = (pads, list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = ("hardtanh", [0.0, 6.0], "") if relu6 else ("none", [], "")
        shape = [1, conv.in_channels, *size]
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, shape)
        assert conv.bias is not None
        self.bias = conv.bias.detach()
        self.size, self.out_size = tuple(size), (-(-size[0] // stride), -(-size[1] // stride))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W), in channels-last format, to the same format.

        Raises:
            ValueError: The input has another size.
        """
        if x.shape[-2:] != self.size:
            raise ValueError(
                f"input of {tuple(x.shape[-2:])}: expected {self.size}, for which it was packed"
            )
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(x, self.packed, self.bias, *self.geometry, *self.activation)


def pack_linear_layers(module: nn.Module, *, int8: bool = False) -> None:
    """Replace the linear layers in a module by packed ones, in place, for inference only."""
    for name, child in list(module.named_modules()):
        if isinstance(child, Decoder):
            child.replace_head(PackedLinear(_head(child), int8=int8))
        elif isinstance(child, Attention) and name.endswith("self_attn"):
            child.fuse_qkv(PackedLinear(child.q_proj, child.k_proj, child.v_proj, int8=int8))
        elif isinstance(child, FeedForwardLayer) and not int8:
            child.register_module("fc1", PackedLinear(child.fc1, gelu=True))
            child.gelu = nn.Identity()
        for attribute, layer in list(child.named_children()):
            if type(layer) is nn.Linear:
                setattr(child, attribute, PackedLinear(layer, int8=int8))


def _head(decoder: Decoder) -> nn.Linear:
    """Return the tied embedding as a linear layer."""
    weight = decoder.embed_tokens.weight
    head = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
    head.weight = weight
    return head


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
