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
    """Pre-norm self-attention and feed-forward over memory positions (N, S, D)."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        a = self.self_attn
        h = self.self_attn_layer_norm(x)
        h = a.merge(attend(a.split(a.q_proj(h)), *a.keys_values(h)))
        x = x + self.dropout(a.out_proj(h))
        h = self.dropout(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(h))
