"""The decoder: memory and tokens to logits, all at once for training or step by step.

Shapes: B images, K rows per image (captions in training, beams in a search), T tokens,
P memory positions, D width, H heads, V vocabulary. The K rows of an image are query rows over
its one set of cross-attention keys and values, which are never repeated.

The block is that of transformers' MBart decoder (Liu et al. 2020), parameter for parameter;
`from_mbart` moves its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.layers import Attention, Dropout, Layout, attend, over_keys

_MBART_OFFSET = 2  # MBart's position table starts with two unused rows.


class DecoderLayer(nn.Module):
    """Pre-norm self-attention, cross-attention and feed-forward."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def self_attention(self, x: Tensor, layout: Layout) -> Tensor:
        """Causal attention within each row; x holds the packed tokens (M, D)."""
        a = self.self_attn
        h = self.self_attn_layer_norm(x)
        q, k, v = (
            a.split(layout.unpack(project(h)).flatten(0, 1))
            for project in (a.q_proj, a.k_proj, a.v_proj)
        )  # (B * K, H, T, D/H)
        h = a.merge(attend(q, k, v, layout.causal))
        return x + self.dropout(a.out_proj(layout.pack(h)))

    def cross_attention(
        self, x: Tensor, layout: Layout, cross: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """Attention of all rows of an image to its memory, in one product."""
        a = self.encoder_attn
        q = layout.unpack(a.q_proj(self.encoder_attn_layer_norm(x)))  # (B, K, T, D)
        h = a.merge(attend(a.split(q.flatten(1, 2)), *cross, over_keys(mask)))
        return x + self.dropout(a.out_proj(layout.pack(h)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Each position by itself, x of any shape (..., D)."""
        h = self.dropout(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(h))


class Decoder(nn.Module):
    """Token and position embeddings, the layers, and logits through the tied embedding."""

    def __init__(
        self,
        vocab_size: int,
        *,
        width: int,
        heads: int,
        ffn: int,
        layers: int,
        max_length: int,
        pad: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pad = pad
        self.max_length = max_length
        self.embed_tokens = nn.Embedding(vocab_size, width, padding_idx=pad)
        self.embed_positions = nn.Embedding(max_length, width)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        nn.init.normal_(self.embed_positions.weight, std=0.02)
        with torch.no_grad():
            self.embed_tokens.weight[pad].zero_()

    def forward(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (M, V) of the M positions of tokens (B, K, T) that are no padding.

        Positions come in the order of `tokens[tokens != pad]`. Padding stands only at the end
        of a row. What is padding is never computed, so it cannot change anything. `mask` (B, P)
        is False at the memory positions that do not count.
        """
        layout = Layout(tokens != self.pad)
        positions = torch.arange(tokens.shape[-1], device=tokens.device).expand(tokens.shape)
        x = self.embed(layout.pack_ids(tokens), layout.pack_ids(positions))
        for layer in self.layers:
            x = layer.self_attention(x, layout)
            x = layer.cross_attention(x, layout, layer.encoder_attn.keys_values(memory), mask)
            x = layer.feed_forward(x)
        return self.logits(x)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Ids of any shape to (..., D)."""
        x = self.embed_tokens(tokens) + self.embed_positions(positions)
        return self.dropout(self.layernorm_embedding(x))

    def logits(self, x: Tensor) -> Tensor:
        """Hidden states (..., D) to (..., V)."""
        return F.linear(self.layer_norm(x), self.embed_tokens.weight)

    def start(self, memory: Tensor, rows: int, length: int, mask: Tensor | None = None) -> Cache:
        """Keys and values of memory (B, P, D), and room for `length` tokens of B * K `rows`.

        `mask` (B, P) as in `forward`.
        """
        cross = [layer.encoder_attn.keys_values(memory) for layer in self.layers]
        return Cache(cross, rows, length, mask)

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Logits (B, K, V) after the next token of each row, tokens (B, K)."""
        images, rows = tokens.shape
        t = cache.length
        x = self.embed(tokens.flatten(), torch.full_like(tokens.flatten(), t))  # (B * K, D)
        for i, layer in enumerate(self.layers):
            a, h = layer.self_attn, layer.self_attn_layer_norm(x).unsqueeze(1)
            k, v = cache.append(i, *a.keys_values(h))
            x = x + a.out_proj(a.merge(attend(a.split(a.q_proj(h)), k, v))).squeeze(1)
            a, h = layer.encoder_attn, layer.encoder_attn_layer_norm(x)
            q = a.split(a.q_proj(h).unflatten(0, (images, rows)))  # (B, H, K, D/H)
            x = x + a.out_proj(
                a.merge(attend(q, *cache.cross[i], over_keys(cache.mask))).flatten(0, 1)
            )
            x = layer.feed_forward(x)
        cache.length += 1
        return self.logits(x).unflatten(0, (images, rows))

    def from_mbart(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a transformers `MBartDecoder`; raises RuntimeError on a mismatch.

        Its embedding must not be scaled (`scale_embedding=False`).
        """
        state = dict(state)
        positions = state["embed_positions.weight"][_MBART_OFFSET:]
        state["embed_positions.weight"] = positions[: self.max_length]
        self.load_state_dict(state)


class Cache:
    """Keys and values of a search: one set of `cross` per image, `self` ones per row."""

    def __init__(
        self,
        cross: list[tuple[Tensor, Tensor]],
        rows: int,
        room: int,
        mask: Tensor | None = None,
    ) -> None:
        k = cross[0][0]  # (B, H, P, D/H)
        _, heads, _, depth = k.shape
        shape = (len(cross), 2, rows, heads, room, depth)
        self.cross, self.mask = cross, mask
        self.self = k.new_empty(shape)
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write one position (B * K, H, 1, D/H) of a layer; all positions so far come back."""
        end = self.length + 1
        keys, values = self.self[layer]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

    def reorder(self, rows: Tensor) -> None:
        """Row i continues what row `rows[i]` was; rows are numbered over B * K."""
        n = self.length
        self.self[..., :n, :] = self.self[..., :n, :].index_select(2, rows)
