"""MobileNet V1, V2 and EfficientNet-Lite2 for inference, without timm, with folded batch norms.

Importing timm would take longer than importing torch and captioning one photograph
together. The models return timm's features with its parameter names and use the same checkpoint.

Sources: Howard et al., MobileNets (2017); Sandler et al., MobileNetV2 (2018); Tan and Le,
EfficientNet (2019), in the variant for mobile devices: no squeeze-and-excitation, ReLU6. "Same"
padding is that of TensorFlow. Shapes: B images, C channels, H, W pixels or positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioner.model.cpu.packed import PackedConv

# For each stage: type of block, kernel, number of blocks, stride of the first block, channels.
STAGES = {
    "mobilenetv1_100": (
        ("plain", 3, 1, 1, 64),
        ("plain", 3, 2, 2, 128),
        ("plain", 3, 2, 2, 256),
        ("plain", 3, 6, 2, 512),
        ("plain", 3, 2, 2, 1024),
    ),
    "mobilenetv2_100": (
        ("separable", 3, 1, 1, 16),
        ("inverted", 3, 2, 2, 24),
        ("inverted", 3, 3, 2, 32),
        ("inverted", 3, 4, 2, 64),
        ("inverted", 3, 3, 1, 96),
        ("inverted", 3, 3, 2, 160),
        ("inverted", 3, 1, 1, 320),
    ),
    "tf_efficientnet_lite2": (
        ("separable", 3, 1, 1, 16),
        ("inverted", 3, 3, 2, 24),
        ("inverted", 5, 3, 2, 48),
        ("inverted", 3, 4, 2, 88),
        ("inverted", 5, 4, 1, 120),
        ("inverted", 5, 5, 2, 208),
        ("inverted", 3, 1, 1, 352),
    ),
}
HEADS = {"mobilenetv1_100": None, "mobilenetv2_100": 1280, "tf_efficientnet_lite2": 1280}
_LITE2 = "tf_efficientnet_lite2"
_EPS = {_LITE2: 1e-3}
_STEM, _EXPANSION = 32, 6
_STEM_LAYERS, _HEAD_LAYERS = ("conv_stem", "bn1", True), ("conv_head", "bn2", True)


def is_supported_mobilenet(name: str, args: Mapping[str, Any]) -> bool:
    """Return whether `MobileNet` implements the timm model with this name and arguments."""
    if name == _LITE2:  # always has "same" padding
        return args.keys() <= {"bn_eps"}
    known = args.keys() <= {"pad_type", "bn_eps"}
    return name in STAGES and args.get("pad_type") == "same" and known


class MobileNet(nn.Module):
    """The features of a timm model of `STAGES` with TensorFlow's padding.

    Load timm's state, then call `fold_batch_norms`. `name` is a key of `STAGES`, and `remove` are
    the names of pruned blocks, such as "blocks.4.1".
    """

    def __init__(
        self, name: str, *, bn_eps: float | None = None, remove: Iterable[str] = ()
    ) -> None:
        super().__init__()
        eps = _EPS.get(name, 1e-5) if bn_eps is None else bn_eps
        self.num_features = STAGES[name][-1][-1]
        self.conv_stem = _conv(3, _STEM, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(_STEM, eps=eps)
        self.blocks, channels = nn.Sequential(), _STEM
        for kind, kernel, repeats, stride, out in STAGES[name]:
            stage = nn.Sequential()
            for i in range(repeats):
                step = stride if i == 0 else 1
                stage.append(_Block(kind, kernel, channels, out, step, eps))
                channels = out
            self.blocks.append(stage)
        head = HEADS[name]
        self.conv_head = _conv(channels, head, 1) if head else None
        self.bn2 = nn.BatchNorm2d(head, eps=eps) if head else None
        for path in remove:
            parent, _, child = path.rpartition(".")
            setattr(self.get_submodule(parent), child, nn.Identity())

    def forward_features(self, x: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W) to features (B, C, H / 32, W / 32)."""
        x = self.blocks(_run(self, *_STEM_LAYERS, x))
        return x if self.conv_head is None else _run(self, *_HEAD_LAYERS, x)

    def fold_batch_norms(self) -> None:
        """Merge every batch norm into the preceding convolution; requires evaluation mode."""
        for module, conv, norm, _ in self._layers():
            folded = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
            setattr(module, conv, folded)
            setattr(module, norm, nn.Identity())

    def pack_convolutions(self, size: tuple[int, int]) -> None:
        """Prepack the folded convolutions for pixels of this size (H, W), on a CPU."""
        for module, conv, _, activate in self._layers():
            packed = PackedConv(getattr(module, conv), size, relu6=activate)
            setattr(module, conv, packed)
            size = packed.out_size

    def _layers(self) -> Iterator[tuple[nn.Module, str, str, bool]]:
        """Yield each convolution's module, its name, its norm's name and whether ReLU6 follows."""
        yield self, *_STEM_LAYERS
        for module in self.blocks.modules():
            if isinstance(module, _Block):
                yield from ((module, *names) for names in module.order)
        if self.conv_head is not None:
            yield self, *_HEAD_LAYERS


class _Block(nn.Module):
    """A depthwise-separable block or an inverted residual block, with timm's parameter names."""

    def __init__(
        self, kind: str, kernel: int, channels: int, out: int, stride: int, eps: float
    ) -> None:
        super().__init__()
        wide = channels * _EXPANSION if kind == "inverted" else channels
        if kind == "inverted":
            self.conv_pw, self.bn1 = _conv(channels, wide, 1), nn.BatchNorm2d(wide, eps=eps)
            self.conv_dw, self.bn2 = _depthwise(wide, kernel, stride), nn.BatchNorm2d(wide, eps=eps)
            self.conv_pwl, self.bn3 = _conv(wide, out, 1), nn.BatchNorm2d(out, eps=eps)
            self.order = [("conv_pw", "bn1", True), ("conv_dw", "bn2", True)]
            self.order += [("conv_pwl", "bn3", False)]
        else:
            self.conv_dw, self.bn1 = _depthwise(wide, kernel, stride), nn.BatchNorm2d(wide, eps=eps)
            self.conv_pw, self.bn2 = _conv(wide, out, 1), nn.BatchNorm2d(out, eps=eps)
            self.order = [("conv_dw", "bn1", True), ("conv_pw", "bn2", kind == "plain")]
        self.skip = kind != "plain" and stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv, norm, activate in self.order:
            y = _run(self, conv, norm, activate, y)
        return x + y if self.skip else y


def _conv(channels: int, out: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride=stride, bias=False)


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride=stride, groups=channels, bias=False)


def _run(module: nn.Module, conv: str, norm: str, activate: bool, x: Tensor) -> Tensor:
    layer = getattr(module, conv)
    if isinstance(layer, PackedConv):
        return layer(x)
    x = getattr(module, norm)(_convolve_same(layer, x))
    return F.relu6(x) if activate else x


def _convolve_same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a convolution with TensorFlow's padding: an odd pixel is added right and below."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if kernel == 1:
        return conv(x)
    if stride == 1:
        return F.conv2d(x, conv.weight, conv.bias, 1, kernel // 2, 1, conv.groups)
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
    top, left = pads[0] // 2, pads[1] // 2
    return conv(F.pad(x, (left, pads[1] - left, top, pads[0] - top)))
