"""Fusions: an image's memory and a question to the memory that the answer is decoded from.

Shapes: B images, N questions, P image positions, S question positions, M fused positions, D width.
Each takes the images' memory (B, P, D), the image that each question is about (N,), the questions
(N, S, D) and their mask (N, S), and gives the fused memory (N, M, D) with its mask (N, M), or None
where all of it counts. `keeps_positions` says whether its first P positions are the image's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.layers import Attention, Dropout, EncoderLayer, attend, key_mask

Fused = tuple[Tensor, Tensor | None]


class Concat(nn.Module):
    """Joint self-attention over [image; question], M = P + S.

    The single-stream form of VisualBERT (Li et al. 2019) and ViLT (Kim et al. 2021).
    """

    keeps_positions = True

    def __init__(self, *, width: int, heads: int, ffn: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.kinds = nn.Parameter(torch.zeros(2, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.kinds, std=0.02)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        image = _of(owners, memory)
        x = torch.cat([image + self.kinds[0], question + self.kinds[1]], 1)
        mask = torch.cat([mask.new_ones(image.shape[:2]), mask], 1)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x), mask


class CrossAttention(nn.Module):
    """The question attends to the image, layer by layer, and before the last, the image to it.

    M = S: the question's positions, which hold what the image says to them. After the co-attention
    of ViLBERT (Lu et al. 2019), but that the image's side, which is several times as long as a
    question, takes part once: until then its queries, keys and values are the same for all of an
    image's questions and are projected one time.
    """

    keeps_positions = False

    def __init__(self, *, width: int, heads: int, ffn: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cross = nn.ModuleList(_CrossBlock(width, heads, dropout) for _ in range(layers))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.image = _CrossBlock(width, heads, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        *first, (cross, last) = zip(self.cross, self.layers, strict=True)
        for block, layer in first:
            keys, values = (_of(owners, x) for x in block.attn.keys_values(memory))
            question = layer(block(question, block.queries(question), keys, values), mask)
        block = self.image
        keys, values = block.attn.keys_values(question)
        queries = _of(owners, block.queries(memory))
        image = block(_of(owners, memory), queries, keys, values, mask)
        keys, values = cross.attn.keys_values(image)
        question = last(cross(question, cross.queries(question), keys, values), mask)
        return self.norm(question), mask


class _CrossBlock(nn.Module):
    """Pre-norm attention of one sequence x (N, T, D) to another, and the residual."""

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


class Add(nn.Module):
    """Each image position plus the question as one vector, both projected; M = P."""

    keeps_positions = True

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.image, self.question = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        pooled = self.question(mean_pool(question, mask))[:, None]
        return self.norm(_of(owners, self.image(memory)) + pooled), None


class Multiply(nn.Module):
    """Each image position times the question as one vector, both projected; M = P.

    The element-wise product of the VQA baseline (Antol et al. 2015), position by position.
    """

    keeps_positions = True

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.image, self.question = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        pooled = F.gelu(self.question(mean_pool(question, mask)))[:, None]
        return self.norm(_of(owners, F.gelu(self.image(memory))) * pooled), None


class Linear(nn.Module):
    """W_t t + W_i i + b of the two pooled vectors t and i: one memory token, M = 1.

    With `each`, that sum is added to every image position instead, and M = P.
    """

    def __init__(self, *, width: int, per_position: bool = False) -> None:
        super().__init__()
        self.keeps_positions = per_position
        self.image = nn.Linear(width, width)
        self.question = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, owners: Tensor, question: Tensor, mask: Tensor) -> Fused:
        image = _of(owners, self.image(memory.mean(1)))
        fused = (self.question(mean_pool(question, mask)) + image)[:, None]
        return self.norm(_of(owners, memory) + fused if self.keeps_positions else fused), None


def mean_pool(x: Tensor, mask: Tensor) -> Tensor:
    """The mean (N, D) of x (N, S, D) over the positions that the mask (N, S) lets count."""
    weights = mask[..., None].to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1)


def _of(owners: Tensor, x: Tensor) -> Tensor:
    """x (B, ...) of each question's image: (N, ...)."""
    return x.index_select(0, owners)  # whose gradient is summed faster than that of indexing
