"""Several looks at one picture, for use: the mean of what a backbone makes of each.

What a convolutional backbone makes of a picture, of its mirror image and of a smaller copy differs
by chance, and captions from the mean are better, at the cost of a pass for each. Averaging over
crops and mirror images is as old as Krizhevsky et al., ImageNet classification (2012), section 4.1.

Shapes: B images, H, W pixels, P positions, a grid of S x S places, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TestTimeAugmentation(nn.Module):
    """A backbone, or one for each size (H, W) that pictures are looked at in, as one backbone.

    The first size is the pictures' own, and its grid that of the features; each picture is seen in
    every size as it is and mirrored.
    """

    def __init__(self, backbones: Mapping[tuple[int, int], nn.Module]) -> None:
        super().__init__()
        self.sizes, self.backbones = list(backbones), nn.ModuleList(backbones.values())

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to float32 features (B, P, C)."""
        views = []
        for size, backbone in zip(self.sizes, self.backbones, strict=True):
            seen = pixels if size == self.sizes[0] else _resize(pixels, size)
            views += [_grid(backbone, seen), _grid(backbone, seen.flip(-1)).flip(-1)]
        grid = views[0].shape[2:]
        total = sum(x if x.shape[2:] == grid else _stretch(x, grid) for x in views)
        return (total / len(views)).flatten(2).transpose(1, 2)


def view_sizes(size: tuple[int, int], positions: int, views: int) -> list[tuple[int, int]]:
    """The sizes of so many looks, two of each, at a picture of `size` with so many positions.

    Each is smaller by a place of the grid than the one before. Raises ValueError where there are
    no such: for a grid that is no square, say.
    """
    side = math.isqrt(positions)
    if side**2 != positions:
        raise ValueError(f"{positions} positions are no square grid")
    smaller = range(views // 2)
    if views % 2 or side <= smaller[-1] or any(length % side for length in size):
        raise ValueError(f"a grid of {side} x {side} places over {size[0]} x {size[1]} pixels")
    return [tuple(length // side * (side - n) for length in size) for n in smaller]


def _grid(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """The features of pixels (B, 3, H, W) as (B, C, S, S), in float32."""
    features = backbone(pixels.contiguous(memory_format=torch.channels_last))
    side = math.isqrt(features.shape[1])
    return features.float().transpose(1, 2).unflatten(2, (side, side))


def _stretch(grid: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(grid, size, mode="bilinear")


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    smaller = F.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
    return smaller.to(pixels.dtype)
