"""Graph layers on dense, batched adjacency matrices: GCN, GAT and GATv2.

Shapes: N graphs, M nodes, D width, H heads.

Edges are boolean (N, M, M): entry (i, j) is True where node i receives from node j. Every layer
adds self-loops, so that a node without edges receives from itself only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.layers import FeedForwardLayer

SLOPE = 0.2
"""Slope of LeakyReLU below 0 (Veličković et al. 2018, section 2.1)."""


class GraphConvolution(nn.Module):
    """GCN: the mean of the neighbors, normalized symmetrically (Kipf and Welling 2017, equation 2).

    Edges may also be weights of at least 0 instead of booleans. They should be symmetric.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map node states x (N, M, D) to the same shape."""
        loops = _self_loops(edges) & (edges == 0)
        weights = edges.to(x.dtype).masked_fill(loops, 1)  # (N, M, M)
        scale = weights.sum(-1, keepdim=True).rsqrt()  # (N, M, 1)
        return scale * (weights @ (scale * self.projection(x))) + self.bias


class GraphAttention(nn.Module):
    """GAT: attention to the neighbors, additive in source and target (Veličković et al. 2018)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=False)
        self.source = nn.Parameter(torch.empty(heads, width // heads))
        self.target = nn.Parameter(torch.empty(heads, width // heads))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.source)
        nn.init.xavier_uniform_(self.target)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map node states x (N, M, D) to the same shape."""
        values = _split_heads(self.projection(x), len(self.source))
        scores = values @ self.target[..., None] + (values @ self.source[..., None]).mT
        return _aggregate(F.leaky_relu(scores, SLOPE), edges, values) + self.bias


class GraphAttentionV2(nn.Module):
    """GATv2: attention whose ranking of neighbors depends on the target (Brody et al. 2022)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(width, width), nn.Linear(width, width)
        self.attention = nn.Parameter(torch.empty(heads, width // heads))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.attention)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map node states x (N, M, D) to the same shape."""
        heads = len(self.attention)
        source, target = _split_heads(self.source(x), heads), _split_heads(self.target(x), heads)
        return _aggregate(self._scores(source, target), edges, source) + self.bias

    def _scores(self, source: Tensor, target: Tensor) -> Tensor:
        """Return a · LeakyReLU(source + target) for each pair of nodes, (N, H, M, M).

        LeakyReLU(z) is a multiple of z plus a multiple of |z|. The sums of a · |z| over the
        channels where a is positive, and over those where it is negative, are L1 distances. No
        array of all pairs and channels is stored, and a training step is five times as fast.
        """
        if torch.compiler.is_exporting():  # ONNX has no L1 distance
            heads = zip(source.unbind(1), target.unbind(1), self.attention.unbind(), strict=True)
            return torch.stack([_pair_scores(*head) for head in heads], 1)
        a = self.attention[:, None]  # (H, 1, D/H)
        linear = (target * a).sum(-1, keepdim=True) + (source * a).sum(-1)[..., None, :]
        absolute = _l1_distances(target * a.relu(), -source * a.relu())
        absolute = absolute - _l1_distances(target * (-a).relu(), -source * (-a).relu())
        return (1 + SLOPE) / 2 * linear + (1 - SLOPE) / 2 * absolute


def _pair_scores(source: Tensor, target: Tensor, a: Tensor) -> Tensor:
    """Return the scores of one head, (N, M, M), from source and target (N, M, D/H)."""
    return F.leaky_relu(target[:, :, None] + source[:, None], SLOPE) @ a


def _l1_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the L1 distances (N, H, M, M) of all pairs of rows of a and b (N, H, M, D/H)."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return torch.cdist(a.to(dtype), b.to(dtype), p=1).to(a.dtype)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """Reshape (N, M, D) to (N, H, M, D/H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _aggregate(scores: Tensor, edges: Tensor, values: Tensor) -> Tensor:
    """Return the sums of values (N, H, M, D/H), weighted by a softmax over edges, (N, M, D)."""
    allowed = (edges | _self_loops(edges))[:, None]
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)
    return (weights @ values).transpose(1, 2).flatten(2)


def _self_loops(edges: Tensor) -> Tensor:
    """Return the diagonal of the last two dimensions, (M, M) boolean."""
    index = torch.arange(edges.shape[-1], device=edges.device)
    return index[:, None] == index


class GraphLayer(FeedForwardLayer):
    """A pre-norm residual block of graph convolution or attention, and a feed-forward network.

    Args:
        conv: One of the layers above.
        width: D.
        ffn: Width of the feed-forward network.
        dropout: Dropout on both branches.
    """

    def __init__(self, conv: nn.Module, *, width: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.conv, self.conv_layer_norm = conv, nn.LayerNorm(width)
        self.add_feed_forward(width, ffn, dropout)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map node states x (N, M, D) to the same shape."""
        return self.feed_forward(x + self.dropout(self.conv(self.conv_layer_norm(x), edges)))
