"""The parts that encoder and decoder share: dropout, attention, feed-forward.

Shapes: N rows, T query positions, S key positions, D width, H heads.
Parameter names are those of transformers' MBart, so that weights can be moved either way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout with masks that are cheap to draw on a CPU.

    `bernoulli_` draws one random number per element and was 44 % of a small model's step;
    here one 64-bit word gives the bytes of eight elements, so on a CPU the rate is rounded to
    a multiple of 1/256, and the scale matches the rounded rate exactly.
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout rate {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape, unchanged outside training."""
        dropped = round(self.p * 256)
        if not self.training or dropped == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * keep.to(x.dtype).mul_(256 / (256 - dropped))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention over (N, H, T, D/H) and (N, H, S, D/H).

    `mask` is boolean, True = may attend, or what `additive_mask` makes of that, and broadcasts to
    (N, H, T, S). On a CPU the products are written out where the fused kernel is slow: its
    backward took 37 % of a training step on captions, and it takes twice as long over the few
    queries of many images. Keys and values may be of a higher precision than queries.
    """
    if q.dtype != k.dtype and not torch.is_grad_enabled():
        return attend(q.to(k.dtype), k, v, mask).to(q.dtype)
    if q.device.type != "cpu" or not (torch.is_grad_enabled() or _many_small(q)):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    n, h, t, d = q.shape
    # Flattened, as `matmul` would do in more calls.
    q, k, v = q.reshape(n * h, t, d), k.flatten(0, 1), v.flatten(0, 1)
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=d**-0.5)
    if mask is not None:
        scores = scores.unflatten(0, (n, h))
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores.add_(mask)
        scores = scores.flatten(0, 1)
    return torch.bmm(scores.softmax(-1).to(v.dtype), v).unflatten(0, (n, h))


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """The weights that `attend` gives the keys: (N, H, T, S), of which each row sums to 1.

    `mask` is boolean. Computed in float32 or better.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(dtype) @ k.to(dtype).transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(dtype).min)
    return scores.softmax(-1)


def _many_small(q: Tensor) -> bool:
    """Few queries of many heads: two threads were as fast either way at about 100 in all."""
    return q.shape[-2] < 32 and q.shape[:-1].numel() > 100


def additive_mask(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A boolean mask as what is added to the scores: converted once for all layers."""
    return None if mask is None else mask.logical_not().to(dtype).mul_(torch.finfo(dtype).min)


def extend_embedding(positions: nn.Embedding, count: int) -> nn.Embedding:
    """Return so many position embeddings: the old ones, then copies of the last.

    Raises ValueError where there are more already.
    """
    old = positions.weight.detach()  # (T, D)
    if count < len(old):
        raise ValueError(f"{count} is less than the {len(old)} positions that there are")
    return nn.Embedding.from_pretrained(
        torch.cat([old, old[-1:].expand(count - len(old), -1)]), freeze=False
    )


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2) whose keys can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self._fused_qkv: nn.Module | None = None

    def fuse_qkv(self, qkv: nn.Module) -> None:
        """Compute these three at once from now on; there is no one without the others then."""
        self._fused_qkv = qkv
        del self.q_proj, self.k_proj, self.v_proj

    def qkv(self, x: Tensor) -> Tensor:
        """Of self-attention over x (..., D), side by side: (..., 3 * D)."""
        if self._fused_qkv is not None:
            return self._fused_qkv(x)
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)

    def split_heads(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, H, T, D/H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def split_qkv(self, x: Tensor) -> Tensor:
        """(N, T, 3 * D) to (3, N, H, T, D/H)."""
        return x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def merge_heads(self, x: Tensor) -> Tensor:
        """(N, H, T, D/H) to (N, T, D)."""
        return x.transpose(1, 2).flatten(2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of (N, S, D), each (N, H, S, D/H)."""
        return self.split_heads(self.k_proj(x)), self.split_heads(self.v_proj(x))


class Layer(nn.Module):
    """What a layer of either side has: pre-norm self-attention, and a feed-forward."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.gelu: nn.Module = nn.GELU()
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def self_attention(self, x: Tensor, layout: PackedLayout, mask: Tensor | None) -> Tensor:
        """Attention within each row of the layout; x holds the packed tokens (M, D)."""
        a = self.self_attn
        found = a.qkv(self.self_attn_layer_norm(x))
        q, k, v = a.split_qkv(layout.unpack(found).flatten(0, -3))
        h = a.merge_heads(attend(q, k, v, mask))
        return x + self.dropout(a.out_proj(layout.pack(h)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Each position by itself, x of any shape (..., D)."""
        h = self.dropout(self.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(h))


class EncoderLayer(Layer):
    """Over positions (N, S, D).

    `mask` (N, S) is True at the positions that count; the others are not computed, and come out
    as zeros.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        layout = PackedLayout(
            mask if mask is not None else x.new_ones(x.shape[:2], dtype=torch.bool)
        )
        x = self.self_attention(layout.pack(x), layout, key_mask(mask))
        return layout.unpack(self.feed_forward(x))


def key_mask(mask: Tensor | None) -> Tensor | None:
    """A mask (N, S) of key positions, as `attend` takes it: (N, 1, 1, S)."""
    return None if mask is None else mask[:, None, None]


class PackedLayout:
    """Which places of a mask (..., T) hold tokens, and the way between them and a packed row.

    Texts of one batch differ in length; the linear layers, where nearly all the work lies,
    see the M tokens alone, and attention sees them in place.
    """

    def __init__(self, mask: Tensor) -> None:
        self.shape = mask.shape
        self.full = bool(mask.all())
        self.index = None if self.full else mask.flatten().nonzero().squeeze(1)
        steps = torch.arange(mask.shape[-1], device=mask.device)
        self.causal = steps[:, None] >= steps  # (T, T)

    def pack_ids(self, ids: Tensor) -> Tensor:
        """(..., T) to (M,)."""
        return ids.flatten() if self.full else ids.flatten()[self.index]

    def pack(self, x: Tensor) -> Tensor:
        """(..., D) over all places to (M, D)."""
        x = x.flatten(0, -2)
        return x if self.full else _GatherRows.apply(x, self.index)

    def unpack(self, x: Tensor) -> Tensor:
        """(M, D) to (..., T, D), zero where there is no token."""
        if not self.full:
            x = _ScatterRows.apply(x, self.index, self.shape.numel())
        return x.unflatten(0, self.shape)


class _GatherRows(torch.autograd.Function):
    """Rows by distinct indices; the gradient is a copy, where autograd's own would add."""

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return x[index]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _scatter(grad, index, ctx.rows), None


class _ScatterRows(torch.autograd.Function):
    """The inverse of `_GatherRows`, with zeros elsewhere."""

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(index)
        return _scatter(x, index, rows)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grad[index], None, None


def _scatter(x: Tensor, index: Tensor, rows: int) -> Tensor:
    return x.new_zeros(rows, x.shape[-1]).index_copy_(0, index, x)
