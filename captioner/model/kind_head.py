"""The kind of an image (photograph, text, screenshot, ...) from the features of its backbone.

Multinomial logistic regression on the mean and the standard deviation of each channel over the
positions. A class at least is for photographs; the others are for images on which captions are
often wrong.

Shapes: B images, P positions, C channels, N kinds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class KindHead(nn.Module):
    """A linear layer on statistics of the features.

    Args:
        channels: C.
        kinds: The names of the kinds.
    """

    def __init__(self, channels: int, kinds: Sequence[str]) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.weight = nn.Parameter(torch.zeros(len(kinds), 2 * channels))
        self.bias = nn.Parameter(torch.zeros(len(kinds)))

    @torch.no_grad()
    def keep_channels(self, kept: Tensor) -> None:
        """Remove all other channels of the features, given the indices of those to keep."""
        weight = self.weight.unflatten(1, (2, -1))[..., kept]  # (N, 2, channels to keep)
        self.weight = nn.Parameter(weight.flatten(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, P, C) to the probabilities (B, N) of the kinds, float32."""
        x = summarize(features)[:, None]  # (B, 1, 2C)
        # A sum of products, because the layers of a graph are rounded to integers.
        logits = (x * self.weight.float()).sum(-1) + self.bias.float()
        return logits.softmax(-1)


def summarize(features: Tensor) -> Tensor:
    """Return the mean and the standard deviation over the positions of features (B, P, C).

    The result is float32 (B, 2C).
    """
    x = features.float()
    mean = x.mean(1)
    variance = (x - mean[:, None]).square().mean(1)
    return torch.cat([mean, variance.sqrt()], -1)
