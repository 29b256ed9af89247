"""The vision side: timm backbones to feature positions, and these to the decoder's memory.

Shapes: B images, C feature channels, P memory positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captioner.model.layers import Dropout, EncoderLayer


class Backbones(nn.Module):
    """One or more timm models over the same pixels, concatenated channel by channel.

    Each must give as many positions as the others. CNN grids, channels-last grids and ViT
    tokens are told apart by where their `num_features` channels stand; class and register
    tokens are left out, since the decoder attends to places.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to features (B, P, C)."""
        parts = [_positions(m.forward_features(pixels), m) for m in self.models]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _positions(x: Tensor, model: nn.Module) -> Tensor:
    if x.ndim == 3:  # tokens
        return x[:, getattr(model, "num_prefix_tokens", 0) :]
    # A head convolution behind the features widens them past `num_features`.
    channels = {model.num_features, getattr(model, "head_hidden_size", None)}
    if x.shape[1] in channels or x.shape[-1] not in channels:
        return x.flatten(2).transpose(1, 2)
    return x.flatten(1, 2)


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

    def forward(self, features: Tensor) -> Tensor:
        x = self.projection(self.feature_dropout(self.feature_norm(features)))
        x = self.dropout(x + self.positions)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
