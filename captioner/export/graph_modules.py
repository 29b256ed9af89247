"""The parts of a model that become ONNX graphs, as modules from arrays to arrays.

Shapes: B images, P memory positions, C feature channels, D width, H heads, N questions, S tokens of
a question, M positions of a fused memory, Q query tokens of an image (of all its rows together), T
tokens in the cache, V vocabulary.

Masks are added to attention scores: 0 where a query may attend, a large negative number elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.decoder import Decoder
from captioner.model.layers import Attention, module_list
from captioner.model.seq2seq import Seq2Seq


class ImageGraph(nn.Module):
    """Pixels (B, 3, H, W) to features (B, P, C)."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.backbone = None if model.blind else model.backbone
        encoder = model.memory_encoder
        self.shape = len(encoder.positions), encoder.projection.in_features

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features of the backbone; zeros for the blind baseline."""
        if self.backbone is None:
            return pixels.new_zeros(len(pixels), *self.shape)
        features: Tensor = self.backbone(pixels)
        return features


class MemoryGraph(nn.Module):
    """Features (B, P, C) to memory (B, P, D) and the probabilities (B, N) of kinds, if any."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.memory_encoder, self.kind_head = model.memory_encoder, model.kind_head
        self.outputs = ("memory",) if model.kind_head is None else ("memory", "kinds")

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the memory encoder and of the kind head."""
        memory: Tensor = self.memory_encoder(features)
        return (memory,) if self.kind_head is None else (memory, self.kind_head(features))


class QuestionGraph(nn.Module):
    """Memory (B, P, D), owners (N,) and question ids (N, S) to fused memory (N, M, D) and mask."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.question_encoder, self.fusion = model.question_encoder, model.fusion
        self.embed_tokens, self.pad = model.decoder.embed_tokens, model.pad

    def forward(self, memory: Tensor, owners: Tensor, questions: Tensor) -> tuple[Tensor, ...]:
        """Return the fused memory and, if the fusion pads, its mask (N, M), False at padding."""
        assert self.question_encoder is not None
        assert self.fusion is not None
        mask = questions != self.pad
        states = self.question_encoder(questions, mask, self.embed_tokens)
        fused, mask = self.fusion(memory, owners, states, mask)
        if mask is None:
            return (fused,)
        return fused, mask


class CrossGraph(nn.Module):
    """Memory (B, P, D) to the cross-attention keys and values of each layer, (B, H, P, D/H)."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.attentions = module_list(layer.encoder_attn for layer in decoder.layers)

    def forward(self, memory: Tensor) -> list[Tensor]:
        """Return keys and values of the first layer, of the second, and so on."""
        return [x for a in self.attentions for x in a.keys_values(memory)]


class DecoderGraph(nn.Module):
    """Query tokens, the cache and the memory's keys and values to logits and the longer cache.

    A search step has one query for each row of an image; scoring has all tokens of given texts. The
    mask states which cached and which other query tokens each query continues, so that the cache is
    never reordered.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.layers, self.layer_norm = decoder.layers, decoder.layer_norm
        self.embed_tokens, self.embed_positions = decoder.embed_tokens, decoder.embed_positions
        self.layernorm_embedding = decoder.layernorm_embedding

    def forward(
        self, tokens: Tensor, positions: Tensor, mask: Tensor, memory_mask: Tensor, *pairs: Tensor
    ) -> tuple[Tensor, ...]:
        """Return logits (B, Q, V), and each layer's keys and values with those of the queries.

        Args:
            tokens: (B, Q).
            positions: (B, Q), the number of tokens of the text before each.
            mask: (B, Q, T + Q).
            memory_mask: (B, P).
            pairs: Keys and values of the memory for each layer, each (B, H, P, D/H); then those of
                the cache, each (B, H, T, D/H).
        """
        cross, cache = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
        x, _, longer = self._run(tokens, positions, mask, memory_mask, cross, cache)
        logits = F.linear(self.layer_norm(x), self.embed_tokens.weight)
        return logits.view(*tokens.shape, -1), *longer

    def _run(
        self, tokens: Tensor, positions: Tensor, mask: Tensor, memory_mask: Tensor,
        cross: Sequence[Tensor], cache: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
        """Return states (B * Q, D), each layer's weights (B, Q, P), and keys and values."""
        shape = (*tokens.shape, -1)
        x = self.embed_tokens(tokens.flatten()) + self.embed_positions(positions.flatten())
        x = self.layernorm_embedding(x)  # (B * Q, D), the form in which ONNX adds a bias at once
        mask, memory_mask = mask[:, None], memory_mask[:, None, None]
        weights, longer = [], []
        for i, layer in enumerate(self.layers):
            a = layer.self_attn
            qkv = _project(layer.self_attn_layer_norm(x), a.q_proj, a.k_proj, a.v_proj)
            q, k, v = a.split_qkv(qkv.view(shape)).unbind()
            if cache:
                k, v = torch.cat([cache[2 * i], k], 2), torch.cat([cache[2 * i + 1], v], 2)
            longer += [k, v]  # (B, H, T + Q, D/H)
            x = x + _attend(a, q, k, v, mask)[0]
            a = layer.encoder_attn
            q = a.split_heads(a.q_proj(layer.encoder_attn_layer_norm(x)).view(shape))
            attended, shares = _attend(a, q, cross[2 * i], cross[2 * i + 1], memory_mask)
            weights.append(shares.mean(1))  # (B, Q, P)
            x = layer.feed_forward(x + attended)
        return x, weights, longer


class AttentionGraph(DecoderGraph):
    """All tokens of given texts to the weights of the memory positions, (B, Q, P).

    The weights are averaged over layers and heads. The inputs are those of `DecoderGraph` without a
    cache.
    """

    def forward(  # type: ignore[override]  # has another result
        self, tokens: Tensor, positions: Tensor, mask: Tensor, memory_mask: Tensor, *cross: Tensor
    ) -> Tensor:
        """Return the weights; see `DecoderGraph.forward`."""
        _, weights, _ = self._run(tokens, positions, mask, memory_mask, cross, [])
        return torch.stack(weights).mean(0)


def _project(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Return the outputs of several linear layers, side by side, as one product."""
    weight = torch.cat([layer.weight for layer in layers])
    return F.linear(x, weight, torch.cat([layer.bias for layer in layers]))


def _attend(a: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return attention (B * Q, D) and its weights (B, H, Q, keys), in operators that ONNX has."""
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask).softmax(-1)
    return a.out_proj(a.merge_heads(weights @ v).flatten(0, 1)), weights
