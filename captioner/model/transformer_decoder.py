"""The Transformer decoder.

Shapes: B images, K rows per image (captions in training, beams in a search), T tokens, P memory
positions, D width, H heads, V vocabulary, M tokens without padding. The K rows of an image are
query positions over one set of cross-attention keys and values, which are never repeated.

The architecture is that of transformers' MBart decoder (Liu et al. 2020), with the same parameter
names; `from_mbart` copies its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from captioner.model.cache import Cache
from captioner.model.decoder import Decoder
from captioner.model.layers import (
    Attention,
    Dropout,
    Layer,
    PackedLayout,
    additive_mask,
    attend,
    attention_weights,
    extend_embedding,
    key_mask,
    module_list,
)

_MBART_OFFSET = 2  # MBart's position embedding starts with two unused rows.


class DecoderLayer(Layer):
    """Causal self-attention, cross-attention and feed-forward."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__(width, heads, ffn, dropout)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)

    def cross_attention(
        self, x: Tensor, layout: PackedLayout, cross: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """Attend from packed tokens x (M, D) to the memory, all rows of an image in one product."""
        a = self.encoder_attn
        h = a.merge_heads(attend(self.queries(x, layout), *cross, key_mask(mask)))  # (B, K * T, D)
        return x + self.dropout(a.out_proj(layout.pack(h)))

    def queries(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Return the cross-attention queries of all rows of an image, (B, H, K * T, D/H)."""
        a = self.encoder_attn
        q = layout.unpack(a.q_proj(self.encoder_attn_layer_norm(x)))  # (B, K, T, D)
        return a.split_heads(q.flatten(1, 2))


class TransformerDecoder(Decoder):
    """Token and position embeddings, decoder layers, and logits through the tied embedding.

    `ffn` is the inner width of the feed-forward network.
    """

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
        embed_tokens: nn.Embedding | None = None,
    ) -> None:
        super().__init__(
            vocab_size, width=width, max_length=max_length, pad=pad, embed_tokens=embed_tokens
        )
        self.embed_positions = nn.Embedding(max_length, width)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.layers = module_list(DecoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self._init_embedding()
        nn.init.normal_(self.embed_positions.weight, std=0.02)

    def extend_positions(self, max_length: int) -> None:
        """Raise the maximum length; each new position starts as a copy of the last one."""
        self.embed_positions = extend_embedding(self.embed_positions, max_length)
        self.max_length = max_length

    def forward(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logits (M, V) at tokens (B, K, T); see `Decoder.forward`.

        Padding is not computed.
        """
        x, layout = self._embed_packed(tokens)  # (M, D)
        for layer in self.layers:
            x = layer.self_attention(x, layout, layout.causal)
            x = layer.cross_attention(x, layout, layer.encoder_attn.keys_values(memory), mask)
            x = layer.feed_forward(x)
        return self.logits(x)

    @torch.no_grad()
    def attention(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the cross-attention weights, averaged over heads and layers, (B, K, T, P).

        See `Decoder.attention`.
        """
        x, layout = self._embed_packed(tokens)  # (M, D)
        by_layer = []
        for layer in self.layers:
            x = layer.self_attention(x, layout, layout.causal)
            cross = layer.encoder_attn.keys_values(memory)
            weights = attention_weights(layer.queries(x, layout), cross[0], key_mask(mask))
            by_layer.append(weights.mean(1))  # (B, K * T, P)
            x = layer.feed_forward(layer.cross_attention(x, layout, cross, mask))
        weights = torch.stack(by_layer).mean(0).unflatten(1, tokens.shape[1:])  # (B, K, T, P)
        return weights.masked_fill((tokens == self.pad)[..., None], 0)

    def _embed_packed(self, tokens: Tensor) -> tuple[Tensor, PackedLayout]:
        """Embed tokens (B, K, T) as packed rows (M, D)."""
        layout = PackedLayout(tokens != self.pad)
        positions = torch.arange(tokens.shape[-1], device=tokens.device).expand(tokens.shape)
        return self.embed(layout.pack_ids(tokens), layout.pack_ids(positions)), layout

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed token and position ids of any shape, (...) to (..., D)."""
        x = self.embed_tokens(tokens) + self.embed_positions(positions)
        return self.dropout(self.layernorm_embedding(x))

    def start(self, memory: Tensor, rows: int, length: int, mask: Tensor | None = None) -> Cache:
        """Return a cache with space for `length` steps of B * K `rows`; mask as in `forward`."""
        heads = [layer.self_attn.heads for layer in self.layers]
        return Cache(self._cross(memory), heads, rows // len(memory), length, mask)

    def admit(self, memory: Tensor, cache: Cache, places: Tensor) -> None:
        """Put other images, with memory (n, P, D), in these places (n,) of the cache."""
        cache.admit(self._cross(memory), places)

    def _cross(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values of the memory for each layer, each (B, H, P, D/H)."""
        pairs = (layer.encoder_attn.keys_values(memory) for layer in self.layers)
        dtype = memory.dtype
        if memory.device.type == "cpu":
            # Small bfloat16 products in oneDNN take less time than their preparation.
            dtype = torch.promote_types(dtype, torch.float32)
        return [(k.to(dtype).contiguous(), v.to(dtype).contiguous()) for k, v in pairs]

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Return the logits (B, K, V) after the last token of each row, tokens (B, K)."""
        rows = tokens.shape[1]
        if cache.length == 0 < rows - 1 and (tokens == tokens[:, :1]).all():
            return self.step(tokens[:, :1], cache).repeat(1, rows, 1)  # all rows are equal
        own_mask = additive_mask(cache.advance(rows), cache.dtype)
        cross_mask = additive_mask(key_mask(cache.mask), cache.dtype)
        ages = cache.ages().clamp(max=self.max_length - 1)[:, None]
        x = self.embed(tokens, ages)  # (B, K, D)
        for i, layer in enumerate(self.layers):
            a, h = layer.self_attn, layer.self_attn_layer_norm(x)
            qkv = a.split_qkv(a.qkv(h))  # (3, B, H, K, D/H)
            keys, values = cache.append(i, qkv[1:])
            x = x + a.out_proj(a.merge_heads(attend(qkv[0], keys, values, own_mask)))
            a, h = layer.encoder_attn, layer.encoder_attn_layer_norm(x)
            q = a.split_heads(a.q_proj(h))
            x = x + a.out_proj(a.merge_heads(attend(q, *cache.cross[i], cross_mask)))
            x = layer.feed_forward(x)
        return self.logits(x)

    def from_mbart(self, state: Mapping[str, Tensor]) -> None:
        """Copy the weights of a transformers `MBartDecoder` with `scale_embedding=False`.

        Raises:
            RuntimeError: Names or shapes differ.
        """
        state = dict(state)
        positions = state["embed_positions.weight"][_MBART_OFFSET:]
        state["embed_positions.weight"] = positions[: self.max_length]
        self.load_state_dict(state)
