"""Layers shared by encoder and decoder: dropout, attention, feed-forward, packed batches.

Shapes: N sequences, T query positions, S key positions, D width, H heads, M packed tokens.
Parameters have the names of transformers' MBart (Liu et al. 2020), so that weights can be copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LayerT = TypeVar("LayerT", bound=nn.Module)


def module_list(modules: Iterable[LayerT]) -> Sequence[LayerT]:
    """Return an `nn.ModuleList`, typed as a sequence of its modules."""
    return cast(Sequence[LayerT], nn.ModuleList(modules))


@torch.no_grad()
def replace_linear(layer: nn.Linear, weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer with these weights, in the mode of the given layer."""
    rows, columns = weight.shape
    new = nn.Linear(columns, rows, device=weight.device, dtype=weight.dtype)
    new.weight.copy_(weight)
    new.bias.copy_(bias)
    return new.train(layer.training)


class Dropout(nn.Module):
    """Inverted dropout with masks that are cheap to draw on a CPU.

    `bernoulli_` draws one random number per element, which took 44 % of a small model's training
    step. Here one 64-bit word gives the bytes of eight elements. On a CPU the rate is therefore
    rounded to a multiple of 1/256, and the scale matches the rounded rate.
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout rate {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x, of any shape, in training mode only."""
        dropped = round(self.p * 256)
        if not self.training or dropped == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * keep.to(x.dtype).mul_(256 / (256 - dropped))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), (N, H, T, D/H).

    On a CPU the matrix products are written out where torch's fused kernel is slow: its backward
    pass took 37 % of a training step on captions, and it takes twice as long for few queries of
    many images.

    Args:
        q: Queries (N, H, T, D/H).
        k: Keys (N, H, S, D/H), possibly of a higher precision than the queries.
        v: Values (N, H, S, D/H).
        mask: Boolean, True where a query may attend, or the result of `additive_mask`; broadcast
            to (N, H, T, S).
    """
    if q.dtype != k.dtype and not torch.is_grad_enabled():
        return attend(q.to(k.dtype), k, v, mask).to(q.dtype)
    if q.device.type != "cpu" or not (torch.is_grad_enabled() or _has_few_queries(q)):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    n, h, t, d = q.shape
    # `matmul` would flatten as well, in more calls.
    q, k, v = q.reshape(n * h, t, d), k.flatten(0, 1), v.flatten(0, 1)
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=d**-0.5)
    if mask is not None:
        scores = scores.unflatten(0, (n, h))  # (N, H, T, S)
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores.add_(mask)
        scores = scores.flatten(0, 1)
    return torch.bmm(scores.softmax(-1).to(v.dtype), v).unflatten(0, (n, h))


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the weights of `attend` with a boolean mask, (N, H, T, S), in float32 or better."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(dtype) @ k.to(dtype).transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(dtype).min)
    return scores.softmax(-1)


def _has_few_queries(q: Tensor) -> bool:
    # Few queries of many heads. On two threads, both ways were as fast at about 100 in all.
    return q.shape[-2] < 32 and q.shape[:-1].numel() > 100


def additive_mask(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Convert a boolean mask to values that are added to the scores, once for all layers."""
    return None if mask is None else mask.logical_not().to(dtype).mul_(torch.finfo(dtype).min)


def key_mask(mask: Tensor | None) -> Tensor | None:
    """Expand a mask of key positions (N, S) to the shape that `attend` takes, (N, 1, 1, S)."""
    return None if mask is None else mask[:, None, None]


def extend_embedding(positions: nn.Embedding, count: int) -> nn.Embedding:
    """Return `count` position embeddings: the given ones, followed by copies of the last one.

    Raises:
        ValueError: There are more than `count` already.
    """
    old = positions.weight.detach()  # (T, D)
    if count < len(old):
        raise ValueError(f"{count} is less than the present number of positions, {len(old)}")
    return nn.Embedding.from_pretrained(
        torch.cat([old, old[-1:].expand(count - len(old), -1)]), freeze=False
    )


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2) in parts, for use with a cache."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self._fused_qkv: nn.Module | None = None

    def fuse_qkv(self, qkv: nn.Module) -> None:
        """Replace the three input projections of self-attention by one module, for inference."""
        self._fused_qkv = qkv
        del self.q_proj, self.k_proj, self.v_proj

    def qkv(self, x: Tensor) -> Tensor:
        """Project x (..., D) to queries, keys and values of self-attention, (..., 3 * D)."""
        if self._fused_qkv is not None:
            return self._fused_qkv(x)
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)

    def split_heads(self, x: Tensor) -> Tensor:
        """Reshape (N, T, D) to (N, H, T, D/H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def split_qkv(self, x: Tensor) -> Tensor:
        """Reshape (N, T, 3 * D) to (3, N, H, T, D/H)."""
        return x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def merge_heads(self, x: Tensor) -> Tensor:
        """Reshape (N, H, T, D/H) to (N, T, D)."""
        return x.transpose(1, 2).flatten(2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project x (N, S, D) to keys and values, each (N, H, S, D/H)."""
        return self.split_heads(self.k_proj(x)), self.split_heads(self.v_proj(x))


class FeedForwardLayer(nn.Module):
    """A layer that ends with a pre-norm feed-forward network."""

    def add_feed_forward(self, width: int, ffn: int, dropout: float) -> None:
        """Create the modules of the feed-forward network, after those that precede it."""
        self.fc1 = nn.Linear(width, ffn)
        self.gelu: nn.Module = nn.GELU()
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Apply the feed-forward network to each position of x (..., D)."""
        h = self.dropout(self.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(h))


class Layer(FeedForwardLayer):
    """Pre-norm self-attention and feed-forward: the common part of encoder and decoder layers."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.add_feed_forward(width, ffn, dropout)

    def self_attention(self, x: Tensor, layout: PackedLayout, mask: Tensor | None) -> Tensor:
        """Apply self-attention within each sequence of packed tokens x (M, D)."""
        a = self.self_attn
        qkv = layout.unpack(a.qkv(self.self_attn_layer_norm(x))).flatten(0, -3)  # (N, T, 3 * D)
        q, k, v = a.split_qkv(qkv)  # each (N, H, T, D/H)
        h = a.merge_heads(attend(q, k, v, mask))  # (N, T, D)
        return x + self.dropout(a.out_proj(layout.pack(h)))


class EncoderLayer(Layer):
    """A pre-norm Transformer encoder layer."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (N, S, D) to the same shape.

        Positions where `mask` (N, S) is False are neither attended to nor computed; they are
        returned as zeros.
        """
        layout = PackedLayout(x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask)
        x = self.self_attention(layout.pack(x), layout, key_mask(mask))  # (M, D)
        return layout.unpack(self.feed_forward(x))


class PackedLayout:
    """The positions of the M tokens of a padded batch, for conversion to and from packed rows.

    The sequences of a batch differ in length. The linear layers, which take nearly all of the
    time, compute the M tokens only; attention uses the padded form.

    Args:
        mask: (..., T), True at tokens and False at padding.
    """

    def __init__(self, mask: Tensor) -> None:
        self.shape = mask.shape
        # An exported graph has no control flow that depends on the values of a mask: it computes
        # padding as well, which no token attends to.
        whole = torch.compiler.is_exporting() or bool(mask.all())
        self.index = None if whole else mask.flatten().nonzero().squeeze(1)  # (M,)
        steps = torch.arange(mask.shape[-1], device=mask.device)
        self.causal = steps[:, None] >= steps  # (T, T)

    def pack_ids(self, ids: Tensor) -> Tensor:
        """Pack ids (..., T) to (M,)."""
        return ids.flatten() if self.index is None else ids.flatten()[self.index]

    def pack(self, x: Tensor) -> Tensor:
        """Pack x (..., T, D) to (M, D)."""
        x = x.flatten(0, -2)
        return x if self.index is None else _GatherRows.apply(x, self.index)

    def unpack(self, x: Tensor) -> Tensor:
        """Unpack x (M, D) to (..., T, D), with zeros at padding."""
        if self.index is not None:
            x = _ScatterRows.apply(x, self.index, self.shape.numel())
        return x.unflatten(0, self.shape)


class _GatherRows(torch.autograd.Function):
    """Select rows by distinct indices: the gradient is a copy, where autograd's would add."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return x[index]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _scatter(grad, index, ctx.rows), None


class _ScatterRows(torch.autograd.Function):
    """The inverse of `_GatherRows`, with zeros in the other rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(index)
        return _scatter(x, index, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grad[index], None, None


def _scatter(x: Tensor, index: Tensor, rows: int) -> Tensor:
    return x.new_zeros(rows, x.shape[-1]).index_copy_(0, index, x)
