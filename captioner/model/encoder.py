"""The vision side: timm backbones to feature positions, and these to the decoder's memory.

Shapes: B images, C feature channels, P memory positions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.layers import Dropout, EncoderLayer


class Backbones(nn.Module):
    """One or more timm models over the same pixels, concatenated channel by channel.

    Each must give as many positions as the others. Tokens are (B, P, C), and a grid has its
    channels first unless timm's `output_fmt` says otherwise; class and register tokens are left
    out, since the decoder attends to places.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to features (B, P, C).

        Raises what the models raise at a size that they do not take, RuntimeError where their
        grids differ, and ValueError for a model with several outputs.
        """
        parts = [_positions(m.forward_features(pixels), m) for m in self.models]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _positions(x: Tensor, model: nn.Module) -> Tensor:
    if not isinstance(x, Tensor):
        raise ValueError(f"{type(model).__name__} gives several feature maps, not one")
    if x.ndim == 3:  # tokens
        return x[:, getattr(model, "num_prefix_tokens", 0) :]
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        return x.flatten(1, 2)
    return x.flatten(2).transpose(1, 2)


class MemoryEncoder(nn.Module):
    """Features (B, P, C) to memory (B, P, D): projection, positions, Transformer layers."""

    def __init__(
        self,
        channels: int,
        positions: int,
        *,
        width: int,
        heads: int,
        ffn: int,
        layers: int,
        dropout: float = 0.0,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.feature_norm = nn.LayerNorm(channels)
        self.feature_dropout = Dropout(feature_dropout)
        self.projection = nn.Linear(channels, width)
        self.positions = nn.Parameter(torch.zeros(positions, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.positions, std=0.02)

    @torch.no_grad()
    def resize(self, positions: int) -> None:
        """Take so many features of an image, a square grid, where there were others.

        The learnt positions are interpolated (Dosovitskiy et al., ViT, 2021, section 3.2). Raises
        ValueError for a grid that is no square.
        """
        sides = [math.isqrt(n) for n in (len(self.positions), positions)]
        if [side**2 for side in sides] != [len(self.positions), positions]:
            raise ValueError(f"{len(self.positions)} and {positions} are no two square grids")
        grid = self.positions.T.unflatten(1, (sides[0], sides[0]))[None]
        grid = F.interpolate(grid, (sides[1], sides[1]), mode="bicubic")
        self.positions = nn.Parameter(grid[0].flatten(1).T.contiguous())

    def forward(self, features: Tensor) -> Tensor:
        x = self.projection(self.feature_dropout(self.feature_norm(features)))
        x = self.dropout(x + self.positions)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
