"""Pooling of the states of a graph or a sequence to one vector, for closed sets of answers.

Shapes: N graphs, M nodes, D width. A mask (N, M) is True at nodes and False at padding; without it,
all nodes count. Each graph needs at least one node.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_pool(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean (N, D) of x (N, M, D) over the positions where mask (N, M) is True."""
    if mask is None:
        return x.mean(1)
    weights = mask[..., None].to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1)


class MeanPool(nn.Module):
    """The mean of the nodes."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (N, M, D) to (N, D)."""
        return mean_pool(x, mask)


class MaxPool(nn.Module):
    """The maximum of the nodes in each channel."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (N, M, D) to (N, D)."""
        if mask is not None:
            x = x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min)
        return x.amax(1)


class AttentionPool(nn.Module):
    """The mean of projected nodes, weighted by a learned score of each.

    Source: the graph-level output of gated graph networks (Li et al. 2016, equation 7), with a
    softmax over the nodes instead of a sigmoid, so that the scale does not depend on their number.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score, self.projection = nn.Linear(width, 1), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (N, M, D) to (N, D)."""
        scores = self.score(x)  # (N, M, 1)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], torch.finfo(x.dtype).min)
        return (scores.softmax(1) * self.projection(x)).sum(1)
