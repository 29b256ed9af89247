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
)

_MBART_OFFSET = 2  # MBart's position table starts with two unused rows.


class DecoderLayer(Layer):
    """Causal self-attention, cross-attention and feed-forward."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__(width, heads, ffn, dropout)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)

    def cross_attention(
        self, x: Tensor, layout: PackedLayout, cross: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """Attention of all rows of an image to its memory, in one product."""
        a = self.encoder_attn
        h = a.merge_heads(attend(self.queries(x, layout), *cross, key_mask(mask)))
        return x + self.dropout(a.out_proj(layout.pack(h)))

    def queries(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """What all rows of an image ask of its memory: (B, H, K * T, D/H)."""
        a = self.encoder_attn
        q = layout.unpack(a.q_proj(self.encoder_attn_layer_norm(x)))  # (B, K, T, D)
        return a.split_heads(q.flatten(1, 2))


class Decoder(nn.Module):
    """Token and position embeddings, the layers, and logits through the tied embedding.

    With `embed_tokens`, another decoder's, which stays that one's: it is no part of this module.
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
        super().__init__()
        self.pad = pad
        self.max_length = max_length
        if embed_tokens is None:
            self.embed_tokens = nn.Embedding(vocab_size, width, padding_idx=pad)
        else:
            self.__dict__["embed_tokens"] = embed_tokens  # past the registry of a module's parts
        self.embed_positions = nn.Embedding(max_length, width)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self._head: nn.Module | None = None
        if embed_tokens is None:
            nn.init.normal_(self.embed_tokens.weight, std=0.02)
            with torch.no_grad():
                self.embed_tokens.weight[pad].zero_()
        nn.init.normal_(self.embed_positions.weight, std=0.02)

    def extend_positions(self, max_length: int) -> None:
        """Raise the limit of a text to so many tokens; the new positions begin as the last one."""
        self.embed_positions = extend_embedding(self.embed_positions, max_length)
        self.max_length = max_length

    def forward(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (M, V) of the M positions of tokens (B, K, T) that are no padding.

        Positions come in the order of `tokens[tokens != pad]`. Padding stands only at the end
        of a row. What is padding is never computed, so it cannot change anything. `mask` (B, P)
        is False at the memory positions that do not count.
        """
        layout = PackedLayout(tokens != self.pad)
        positions = torch.arange(tokens.shape[-1], device=tokens.device).expand(tokens.shape)
        x = self.embed(layout.pack_ids(tokens), layout.pack_ids(positions))
        for layer in self.layers:
            x = layer.self_attention(x, layout, layout.causal)
            x = layer.cross_attention(x, layout, layer.encoder_attn.keys_values(memory), mask)
            x = layer.feed_forward(x)
        return self.logits(x)

    @torch.no_grad()
    def attention(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Where each position looks in the memory, the mean over heads and layers: (B, K, T, P).

        Arguments are those of `forward`: the weights at t are those of the position that reads
        token t and predicts the one after it. They sum to 1 there, and are 0 at padding.
        """
        layout = PackedLayout(tokens != self.pad)
        positions = torch.arange(tokens.shape[-1], device=tokens.device).expand(tokens.shape)
        x = self.embed(layout.pack_ids(tokens), layout.pack_ids(positions))
        each = []
        for layer in self.layers:
            x = layer.self_attention(x, layout, layout.causal)
            cross = layer.encoder_attn.keys_values(memory)
            each.append(
                attention_weights(layer.queries(x, layout), cross[0], key_mask(mask)).mean(1)
            )
            x = layer.feed_forward(layer.cross_attention(x, layout, cross, mask))
        weights = torch.stack(each).mean(0).unflatten(1, tokens.shape[1:])
        return weights.masked_fill((tokens == self.pad)[..., None], 0)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Ids of any shape to (..., D)."""
        x = self.embed_tokens(tokens) + self.embed_positions(positions)
        return self.dropout(self.layernorm_embedding(x))

    def logits(self, x: Tensor) -> Tensor:
        """Hidden states (..., D) to (..., V)."""
        x = self.layer_norm(x)
        return F.linear(x, self.embed_tokens.weight) if self._head is None else self._head(x)

    def replace_head(self, head: nn.Module) -> None:
        """Compute the logits of normed states by this from now on."""
        self._head = head

    def start(self, memory: Tensor, rows: int, length: int, mask: Tensor | None = None) -> Cache:
        """Keys and values of memory (B, P, D), and room for `length` tokens of B * K `rows`.

        `mask` (B, P) as in `forward`.
        """
        return Cache(self._cross(memory), rows // len(memory), length, mask)

    def admit(self, memory: Tensor, cache: Cache, places: Tensor) -> None:
        """Begin with other images, of memory (B, P, D), in these places (B,) of the cache."""
        cache.admit(self._cross(memory), places)

    def _cross(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        pairs = (layer.encoder_attn.keys_values(memory) for layer in self.layers)
        dtype = memory.dtype
        if memory.device.type == "cpu":
            # Setting up oneDNN's small bfloat16 products takes longer than they do.
            dtype = torch.promote_types(dtype, torch.float32)
        return [(k.to(dtype).contiguous(), v.to(dtype).contiguous()) for k, v in pairs]

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Logits (B, K, V) after the next token of each row, tokens (B, K)."""
        rows = tokens.shape[1]
        if cache.length == 0 < rows - 1 and (tokens == tokens[:, :1]).all():
            return self.step(tokens[:, :1], cache).repeat(1, rows, 1)  # they begin alike
        masks = cache.advance(rows), key_mask(cache.mask)
        seen, over = (additive_mask(mask, cache.own.dtype) for mask in masks)
        ages = cache.ages().clamp(max=self.max_length - 1)[:, None]
        x = self.embed(tokens, ages)  # (B, K, D)
        for i, layer in enumerate(self.layers):
            a, h = layer.self_attn, layer.self_attn_layer_norm(x)
            q, *_ = found = a.split_qkv(a.qkv(h))  # (3, B, H, K, D/H)
            x = x + a.out_proj(a.merge_heads(attend(q, *cache.append(i, found[1:]), seen)))
            a, h = layer.encoder_attn, layer.encoder_attn_layer_norm(x)
            x = x + a.out_proj(
                a.merge_heads(attend(a.split_heads(a.q_proj(h)), *cache.cross[i], over))
            )
            x = layer.feed_forward(x)
        return self.logits(x)

    def from_mbart(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a transformers `MBartDecoder`; raises RuntimeError on a mismatch.

        Its embedding must not be scaled (`scale_embedding=False`).
        """
        state = dict(state)
        positions = state["embed_positions.weight"][_MBART_OFFSET:]
        state["embed_positions.weight"] = positions[: self.max_length]
        self.load_state_dict(state)


class Cache:
    """Keys and values of a search, of each image one set for all its rows.

    `cross` are those of the memory. Of the rows' own tokens, place j * K + k holds what row k had
    at step j, and `seen` says which places each row descends from: reordering the rows moves no
    keys and values. Images come and go; the step at which one came is in `starts`.
    """

    def __init__(
        self,
        cross: list[tuple[Tensor, Tensor]],
        rows: int,
        room: int,
        mask: Tensor | None = None,
    ) -> None:
        k = cross[0][0]  # (B, H, P, D/H)
        images, heads, _, depth = k.shape
        self.cross, self.mask, self.rows, self.room = cross, mask, rows, room
        # What is not seen is multiplied by 0, so all that is read is written before, if with zeros.
        self.own = k.new_empty((len(cross), 2, images, heads, room * rows, depth))
        self.seen = torch.zeros((images, rows, room * rows), dtype=torch.bool, device=k.device)
        self.starts = torch.zeros(images, dtype=torch.long, device=k.device)
        self.first, self.length = 0, 0
        self._itself = torch.eye(rows, dtype=torch.bool, device=k.device)
        self._now = self._so_far = ()

    def ages(self) -> Tensor:
        """Tokens (B,) that each image's rows had before the present one."""
        return self.length - 1 - self.starts

    def advance(self, rows: int) -> Tensor | None:
        """Begin a step; which places of `append` each row may attend to, (B, 1, K, S) or None.

        With one of several `rows` only, all others descend from that.
        """
        if self.length == self.room:
            self._move_up()
        at = self.length * self.rows
        whole = rows == self.rows
        self.seen[..., at : at + self.rows] = self._itself if whole else self._itself[0]
        own = self.own[:, :, : len(self.starts)]
        if not whole:
            own[..., at + rows : at + self.rows, :] = 0
        self._now = own[..., at : at + rows, :].unbind()
        self._so_far = own[..., self.first * self.rows : at + self.rows, :].unbind()
        self.length += 1
        if self.rows == 1 and self.first == 0 and not self.starts.any():
            return None
        return self.seen[:, None, :rows, self.first * self.rows : at + self.rows]

    def append(self, layer: int, keys_values: Tensor) -> Tensor:
        """Write a layer's keys and values of this step (2, B, H, K, D/H); all so far come back."""
        self._now[layer].copy_(keys_values)
        return self._so_far[layer]

    def reorder(self, rows: Tensor) -> None:
        """Row i continues what row `rows[i]` was; rows are numbered over B * K.

        Images none of whose rows is continued are left out.
        """
        images = rows[:: self.rows] // self.rows
        self.seen = self.seen.flatten(0, 1)[rows].unflatten(0, (-1, self.rows))
        if len(images) < len(self.starts):
            self.starts = self.starts[images]
            used = slice(self.first * self.rows, self.length * self.rows)
            self.own[:, :, : len(images), :, used] = self.own[:, :, images, :, used]
            self.cross = [(k[images], v[images]) for k, v in self.cross]
            self.mask = None if self.mask is None else self.mask[images]
            self.first = int(self.starts.min())

    def admit(self, cross: list[tuple[Tensor, Tensor]], places: Tensor) -> None:
        """Other images in these places (B,), with their memory's keys and values; unmasked."""
        for (k, v), (new_k, new_v) in zip(self.cross, cross, strict=True):
            k[places], v[places] = new_k, new_v
        self.seen[places] = False
        self.starts[places] = self.length
        self.first = int(self.starts.min())

    def _move_up(self) -> None:
        """Make room by forgetting the steps before the oldest image came."""
        if not self.first:
            raise ValueError(f"a cache of {self.room} steps is full")
        old, end = self.first * self.rows, self.length * self.rows
        own = self.own[:, :, : len(self.starts)]
        own[..., : end - old, :] = own[..., old:end, :].clone()
        self.seen[..., : end - old] = self.seen[..., old:end].clone()
        self.seen[..., end - old :] = False
        self.starts = self.starts - self.first
        self.length, self.first = self.length - self.first, 0
