"""Cross-attention of several rows to one copy of their image.

The rows of an image are queries of one attention, as in Shazeer, Fast Transformer Decoding (2019),
and keys and values are computed once for each image.

Shapes: B images (or questions), K rows of each, N = B * K, S positions, P memory positions, D
width, H heads, d width of a head.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from captioner.backends.public.cross_attention import MASK


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (B, S, D) as (B, H, S, d)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2).contiguous()


def attend(queries: Tensor, images: dict[str, Tensor], layer: int) -> Tensor:
    """Return the attention (N, 1, D) of the queries (N, 1, D) of rows to their images.

    Args:
        queries: The projected states of the rows.
        images: Keys and values (B, H, P, d) as `key0`, `value0` and so on, and the mask
            (B, 1, 1, P) as `MASK` if there is padding.
        layer: Number of the layer.
    """
    keys, values = images[f"key{layer}"], images[f"value{layer}"]  # (B, H, P, d)
    rows = queries.view(len(keys), -1, queries.shape[-1])  # (B, K, D)
    rows = split_heads(rows, keys.shape[1])  # (B, H, K, d)
    context = functional.scaled_dot_product_attention(
        rows, keys, values, attn_mask=images.get(MASK)
    )
    return context.transpose(1, 2).reshape(queries.shape)
