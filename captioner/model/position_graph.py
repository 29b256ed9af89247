"""The graph of the positions of an image, and graph layers on it.

Two positions are neighbors if they touch in the grid, diagonals included (the 8-neighborhood), or
if one is among the k positions whose features are most similar to those of the other. Source of the
second kind: ViG (Han et al. 2022).

Shapes: B images, P positions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.graph_layers import GraphLayer
from captioner.model.layers import module_list

Grid = tuple[int, int]
"""Height and width in positions."""


class PositionGraph(nn.Module):
    """Graph layers between positions, on edges that are computed once for all layers.

    Args:
        layers: The layers.
        neighbors: k.
        grid: The grid of the positions, which are in row-major order; see `position_edges`.
    """

    def __init__(
        self, layers: Iterable[GraphLayer], *, neighbors: int, grid: Grid | None = None
    ) -> None:
        super().__init__()
        self.layers = module_list(layers)
        self.neighbors, self.grid = neighbors, grid

    def forward(self, x: Tensor) -> Tensor:
        """Map states x (B, P, D) to the same shape."""
        edges = position_edges(x, self.neighbors, self.grid)
        for layer in self.layers:
            x = layer(x, edges)
        return x


def position_edges(x: Tensor, neighbors: int, grid: Grid | None = None) -> Tensor:
    """Return the edges (B, P, P) of positions with features x (B, P, D), boolean and symmetric.

    Each position has an edge to itself. Without `grid`, the positions are a square, or a row if
    their number is no square.
    """
    positions = x.shape[1]
    if grid is None:
        side = math.isqrt(positions)
        grid = (side, side) if side**2 == positions else (1, positions)
    edges = grid_edges(grid, x.device).expand(len(x), -1, -1)
    k = min(neighbors, positions - 1)
    return edges | nearest_edges(x, k) if k else edges


def grid_edges(grid: Grid, device: torch.device | None = None) -> Tensor:
    """Return the edges (P, P) from positions to those around them in a grid, and to themselves."""
    height, width = grid
    index = torch.arange(height * width, device=device)
    rows, columns = index // width, index % width
    vertical, horizontal = ((x[:, None] - x).abs() for x in (rows, columns))
    return torch.maximum(vertical, horizontal) <= 1


def nearest_edges(x: Tensor, k: int) -> Tensor:
    """Return the edges (B, P, P) between each position, the k most similar to it, and itself.

    Similarity is the cosine of features x (B, P, D), which is highest for the position itself. If
    several others are as similar as the last of the k, all of them are neighbors, so that the order
    of the positions has no effect.
    """
    unit = F.normalize(x.detach().to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
    similarity = unit @ unit.mT  # (B, P, P)
    nearest = similarity >= similarity.topk(k + 1).values[..., -1:]
    return nearest | nearest.mT
