"""The image encoder: timm backbones, and Transformer layers from their features to memory.

Shapes: B images, H, W pixels, C feature channels, P positions, D width, G tags.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.layers import Dropout, EncoderLayer, module_list, replace_linear
from captioner.model.position_graph import PositionGraph


class Backbones(nn.Module):
    """One or more timm models on the same pixels, with their channels concatenated.

    All must return equally many positions: tokens (B, P, C), or a grid whose channels come first
    unless timm's `output_fmt` is "NHWC". Class and register tokens are removed, because the
    decoder attends to positions of the image.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models: Sequence[Any] = module_list(models)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W) to features (B, P, C).

        Raises:
            RuntimeError: The models return different numbers of positions.
            ValueError: A model returns several feature maps.
        """
        parts = self.features_of_each(pixels)
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def features_of_each(self, pixels: Tensor) -> list[Tensor]:
        """Return the features of each model, (B, P, channels of the model); raise ValueError."""
        return [_flatten_grid(m.forward_features(pixels), m) for m in self.models]


def _flatten_grid(x: Tensor, model: nn.Module) -> Tensor:
    """Return the output of a timm model as (B, P, C)."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{type(model).__name__} returns several feature maps; expected one")
    if x.ndim == 3:  # (B, prefix tokens + P, C)
        return x[:, getattr(model, "num_prefix_tokens", 0) :]
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        return x.flatten(1, 2)
    return x.flatten(2).transpose(1, 2)


def resize_positions(embeddings: Tensor, positions: int) -> Tensor:
    """Return position embeddings (P, D) for another number of positions, by interpolation.

    Source: Dosovitskiy et al., ViT (2021), section 3.2.

    Raises:
        ValueError: The numbers differ, and one of them is not that of a square grid.
    """
    if len(embeddings) == positions:
        return embeddings
    sides = [math.isqrt(n) for n in (len(embeddings), positions)]
    if [side**2 for side in sides] != [len(embeddings), positions]:
        counts = f"{len(embeddings)} and {positions}"
        raise ValueError(f"{counts} positions: expected two square grids")
    grid = embeddings.T.unflatten(1, (sides[0], sides[0]))[None]
    grid = F.interpolate(grid, (sides[1], sides[1]), mode="bicubic")
    return grid[0].flatten(1).T.contiguous()


class MemoryEncoder(nn.Module):
    """Projection, position embeddings, Transformer layers and any graph layers, to memory."""

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
        graph: PositionGraph | None = None,
    ) -> None:
        super().__init__()
        self.feature_norm = nn.LayerNorm(channels)
        self.feature_dropout = Dropout(feature_dropout)
        self.projection = nn.Linear(channels, width)
        self.positions = nn.Parameter(torch.zeros(positions, width))
        self.layers = module_list(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.graph = graph
        nn.init.normal_(self.positions, std=0.02)

    @torch.no_grad()
    def resize(self, positions: int) -> None:
        """Change the number of positions, as `resize_positions` does; raise ValueError."""
        self.positions = nn.Parameter(resize_positions(self.positions, positions))

    @torch.no_grad()
    def keep_channels(self, kept: Tensor) -> None:
        """Remove all other channels of the features, given the indices of those to keep."""
        norm, layer = nn.LayerNorm(len(kept)), self.projection
        norm.weight.copy_(self.feature_norm.weight[kept])
        norm.bias.copy_(self.feature_norm.bias[kept])
        self.feature_norm = norm
        self.projection = replace_linear(layer, layer.weight[:, kept], layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, P, C) to memory (B, P, D)."""
        x = self.projection(self.feature_dropout(self.feature_norm(features)))  # (B, P, D)
        x = self.dropout(x + self.positions)
        for layer in self.layers:
            x = layer(x)
        if self.graph is not None:
            x = self.graph(x)
        return self.norm(x)


class TagHead(nn.Module):
    """A linear classifier of the mean feature: features to logits of tags.

    It exists during training only, where its loss trains the backbone.
    """

    def __init__(self, channels: int, tags: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.classifier = nn.Linear(channels, tags)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, P, C) to logits (B, G)."""
        return self.classifier(self.norm(features).mean(1))
