"""Fusions of image and question: the memory from which an answer is decoded.

Shapes: B images, N questions, P image positions, S question positions, M fused positions, D width.

A fusion receives the memory of the images (B, P, D), the index of each question's image (N,), the
question states (N, S, D) and their mask (N, S). It returns the fused memory (N, M, D) and its mask
(N, M), or None where all positions count. `keeps_positions` states whether the first P fused
positions are those of the image.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.graph_layers import GraphLayer
from captioner.model.layers import Attention, Dropout, EncoderLayer, attend, key_mask, module_list
from captioner.model.pooling import mean_pool
from captioner.model.position_graph import position_edges

Fused = tuple[Tensor, Tensor | None]


class Concat(nn.Module):
    """Joint self-attention over [image; question], M = P + S.

    Source: the single-stream architecture of VisualBERT (Li et al. 2019) and ViLT (Kim et al.
    2021).
    """

    keeps_positions = True

    def __init__(self, *, width: int, heads: int, ffn: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.kinds = nn.Parameter(torch.zeros(2, width))
        self.layers = module_list(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.kinds, std=0.02)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        """Fuse memory and questions; see the head of this module."""
        image = _select_images(owners, memory)  # (N, P, D)
        x = torch.cat([image + self.kinds[0], question + self.kinds[1]], 1)  # (N, P + S, D)
        mask = torch.cat([mask.new_ones(image.shape[:2]), mask], 1)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x), mask


class CrossAttention(nn.Module):
    """Cross-attention from the question to the image in each layer, and back in one, M = S.

    The question attends to the image before each layer; before the last one, the image first
    attends to the question. This follows the co-attention of ViLBERT (Lu et al. 2019), except that
    the image, which is several times as long as a question, attends only once. Until then its
    queries, keys and values are the same for all questions and are computed once per image.
    """

    keeps_positions = False

    def __init__(self, *, width: int, heads: int, ffn: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cross = module_list(_CrossBlock(width, heads, dropout) for _ in range(layers))
        self.layers = module_list(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.image = _CrossBlock(width, heads, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        """Fuse memory and questions; see the head of this module."""
        *first, (cross, last) = zip(self.cross, self.layers, strict=True)
        for block, layer in first:
            keys, values = (_select_images(owners, x) for x in block.attn.keys_values(memory))
            question = layer(block(question, block.queries(question), keys, values), mask)
        block = self.image
        keys, values = block.attn.keys_values(question)
        queries = _select_images(owners, block.queries(memory))
        image = block(_select_images(owners, memory), queries, keys, values, mask)
        keys, values = cross.attn.keys_values(image)
        question = last(cross(question, cross.queries(question), keys, values), mask)
        return self.norm(question), mask


class _CrossBlock(nn.Module):
    """Pre-norm cross-attention from x (N, T, D) to another sequence, with a residual connection."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def queries(self, x: Tensor) -> Tensor:
        return self.attn.split_heads(self.attn.q_proj(self.layer_norm(x)))

    def forward(
        self, x: Tensor, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        h = self.attn.merge_heads(attend(queries, keys, values, key_mask(mask)))
        return x + self.dropout(self.attn.out_proj(h))


class _Projections(nn.Module):
    """The layers of `Add` and `Multiply`."""

    keeps_positions = True

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.image, self.question = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)


class Add(_Projections):
    """Sum of each image position and the pooled question, both projected, M = P."""

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        """Fuse memory and questions; see the head of this module."""
        pooled = self.question(mean_pool(question, mask))[:, None]
        return self.norm(_select_images(owners, self.image(memory)) + pooled), None


class Multiply(_Projections):
    """Product of each image position and the pooled question, both projected, M = P.

    Source: the element-wise product of the VQA baseline (Antol et al. 2015), at each position.
    """

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        """Fuse memory and questions; see the head of this module."""
        pooled = F.gelu(self.question(mean_pool(question, mask)))[:, None]
        return self.norm(_select_images(owners, F.gelu(self.image(memory))) * pooled), None


class Linear(nn.Module):
    """Linear map of the pooled question t and image i, W_t t + W_i i + b, as one token, M = 1.

    With `per_position`, the sum is added to every image position instead, M = P.
    """

    def __init__(self, *, width: int, per_position: bool = False) -> None:
        super().__init__()
        self.keeps_positions = per_position
        self.image = nn.Linear(width, width)
        self.question = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        """Fuse memory and questions; see the head of this module."""
        image = _select_images(owners, self.image(memory.mean(1)))  # (N, D)
        fused = (self.question(mean_pool(question, mask)) + image)[:, None]  # (N, 1, D)
        if self.keeps_positions:
            fused = _select_images(owners, memory) + fused  # (N, P, D)
        return self.norm(fused), None


class Graph(nn.Module):
    """Graph layers on one graph whose nodes are [image; question], M = P + S.

    The positions of the image have the edges of `position_edges`. The tokens of the question have
    edges to each other and, in both directions, to all positions.
    Teney et al. (2017) also represent image and question by graphs, of which they match the nodes.

    Args:
        layers: The graph layers.
        width: D.
        neighbors: The positions with the most similar features that each position is joined to.
        grid: Height and width of the image in positions; see `position_edges`.
    """

    keeps_positions = True

    def __init__(
        self,
        layers: Iterable[GraphLayer],
        *,
        width: int,
        neighbors: int,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.kinds = nn.Parameter(torch.zeros(2, width))
        self.layers = module_list(layers)
        self.norm = nn.LayerNorm(width)
        self.neighbors, self.grid = neighbors, grid
        nn.init.normal_(self.kinds, std=0.02)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        """Fuse memory and questions; see the head of this module."""
        positions = memory.shape[1]
        image = _select_images(owners, memory)  # (N, P, D)
        x = torch.cat([image + self.kinds[0], question + self.kinds[1]], 1)  # (N, P + S, D)
        inside = _select_images(owners, position_edges(memory, self.neighbors, self.grid))
        across = mask[:, None].expand(-1, positions, -1)  # (N, P, S)
        mask = torch.cat([mask.new_ones(image.shape[:2]), mask], 1)
        edges = torch.cat([inside, across], 2)  # (N, P, P + S)
        edges = torch.cat([edges, mask[:, None].expand(-1, question.shape[1], -1)], 1)
        for layer in self.layers:
            x = layer(x, edges)
        return self.norm(x), mask


def _select_images(owners: Tensor, x: Tensor) -> Tensor:
    """Return x (B, ...) of each question's image, (N, ...)."""
    return x.index_select(0, owners)  # faster in the backward pass than indexing
