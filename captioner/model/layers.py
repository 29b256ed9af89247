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

    `mask` is boolean, True = may attend, and broadcasts to (N, H, T, S). While training on a
    CPU the products are written out: the fused kernel's backward took 37 % of a step on
    captions, whose few dozen positions are too short for it.
    """
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2) whose keys can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self._fused: nn.Module | None = None

    def fuse(self, queries_keys_values: nn.Module) -> None:
        """Compute these three at once from now on; there is no one without the others then."""
        self._fused = queries_keys_values
        del self.q_proj, self.k_proj, self.v_proj

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        """Of self-attention over x (..., D), each (..., D)."""
        if self._fused is not None:
            return self._fused(x).chunk(3, -1)
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def split(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, H, T, D/H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """(N, H, T, D/H) to (N, T, D)."""
        return x.transpose(1, 2).flatten(2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of (N, S, D), each (N, H, S, D/H)."""
        return self.split(self.k_proj(x)), self.split(self.v_proj(x))


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward over positions (N, S, D).

    `mask` (N, S) is True at the positions that count; the others are not computed, and come out
    as zeros.
    """

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return self.feed_forward(x + self._attend(x))
        layout = Layout(mask)
        x = layout.pack(x)
        return layout.unpack(self.feed_forward(x + self._attend(x, layout, mask)))

    def _attend(
        self, x: Tensor, layout: Layout | None = None, mask: Tensor | None = None
    ) -> Tensor:
        a = self.self_attn
        h = self.self_attn_layer_norm(x)
        q, k, v = a.queries_keys_values(h)
        if layout is not None:
            q, k, v = map(layout.unpack, (q, k, v))
        h = a.merge(attend(*map(a.split, (q, k, v)), over_keys(mask)))
        return self.dropout(a.out_proj(h if layout is None else layout.pack(h)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Each position by itself, x of any shape (..., D)."""
        h = self.dropout(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(h))


def over_keys(mask: Tensor | None) -> Tensor | None:
    """A mask (N, S) of key positions, as `attend` takes it: (N, 1, 1, S)."""
    return None if mask is None else mask[:, None, None]


class Layout:
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
        return x if self.full else _Pack.apply(x, self.index)

    def unpack(self, x: Tensor) -> Tensor:
        """(M, D) to (..., T, D), zero where there is no token."""
        if not self.full:
            x = _Unpack.apply(x, self.index, self.shape.numel())
        return x.unflatten(0, self.shape)


class _Pack(torch.autograd.Function):
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


class _Unpack(torch.autograd.Function):
    """The inverse of `_Pack`, with zeros elsewhere."""

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
