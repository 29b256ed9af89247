"""Test-time augmentation: average a backbone's features over flips and scales of the image.

The features of a convolutional backbone vary at random between an image, its mirror image and a
smaller copy. Captions from the average are better, at the cost of one forward pass per view. Source
of the method: Krizhevsky et al., ImageNet classification (2012), section 4.1.

Shapes: B images, H, W pixels, P = S * S positions, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.layers import module_list


class TestTimeAugmentation(nn.Module):
    """A backbone that averages the features of several views.

    The views are the image and its mirror image at each size (H, W), for which there is a backbone
    (possibly the same). The first size is that of the pixels, and its grid that of the features.
    """

    def __init__(self, backbones: Mapping[tuple[int, int], nn.Module]) -> None:
        super().__init__()
        self.sizes, self.backbones = list(backbones), module_list(backbones.values())

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W) to float32 features (B, P, C)."""
        return self.average_views(pixels)[0]

    def average_views(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean features (B, P, C), float32, and those of the first view alone."""
        views = []
        for size, backbone in zip(self.sizes, self.backbones, strict=True):
            scaled = pixels if size == self.sizes[0] else _resize(pixels, size)
            views += [_grid(backbone, scaled), _grid(backbone, scaled.flip(-1)).flip(-1)]
        first, *others = views  # (B, C, S, S)
        total, grid = first, first.shape[2:]
        for x in others:
            same = x.shape[2:] == grid
            total = total + (x if same else F.interpolate(x, grid, mode="bilinear"))
        mean = total / len(views)
        return mean.flatten(2).transpose(1, 2), first.flatten(2).transpose(1, 2)


def view_sizes(size: tuple[int, int], positions: int, views: int) -> list[tuple[int, int]]:
    """Return the sizes for a number of views, two per size, each one grid position smaller.

    `size` is the height and width of the pixels, and `positions` is P at this size.

    Raises:
        ValueError: The positions are not a square grid or do not allow this number of views.
    """
    side = math.isqrt(positions)
    if side**2 != positions:
        raise ValueError(f"{positions} positions are not a square grid")
    smaller = range(views // 2)
    if views % 2 or side <= smaller[-1] or any(length % side for length in size):
        raise ValueError(
            f"a grid of {side} x {side} positions over {size[0]} x {size[1]} pixels does not allow"
            f" {views} views"
        )
    height, width = (length // side for length in size)
    return [(height * (side - n), width * (side - n)) for n in smaller]


def _grid(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """Return the features of pixels (B, 3, H, W) as a float32 grid (B, C, S, S)."""
    features = backbone(pixels.contiguous(memory_format=torch.channels_last))
    side = math.isqrt(features.shape[1])
    return features.float().transpose(1, 2).unflatten(2, (side, side))


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    smaller = F.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
    return smaller.to(pixels.dtype)
