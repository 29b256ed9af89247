"""Decoders that become ONNX graphs, as modules from arrays to arrays.

A Transformer decoder has graphs for the keys and values of memory, for steps and whole texts, and
for attention. An LSTM decoder has one for its first state and one for a step.

Shapes: B images, K rows of an image, P memory positions, D width, H heads, Q query tokens of an
image (of all its rows together), T tokens in the cache, L layers of an LSTM, V vocabulary.

Masks of a Transformer are added to attention scores: 0 where a query may attend, a large negative
number elsewhere. That of an LSTM is False at ignored positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.checkpoint.graph_files import ATTENTION, CROSS, START
from captioner.export.graph_modules import Part
from captioner.model.decoder import Decoder
from captioner.model.layers import Attention, module_list
from captioner.model.lstm_decoder import LSTMDecoder
from captioner.model.transformer_decoder import TransformerDecoder

# Sizes of the examples that are traced; they differ, so that no two dimensions are taken for one.
_IMAGES, _POSITIONS, _QUERIES, _CACHED = 2, 7, 4, 11


def decoder_parts(name: str, decoder: Decoder) -> Iterator[tuple[str, Part]]:
    """Yield the name and the content of each graph of a decoder."""
    if isinstance(decoder, LSTMDecoder):
        yield from _lstm_parts(name, decoder)
    else:
        assert isinstance(decoder, TransformerDecoder)
        yield from _transformer_parts(name, decoder)


def _lstm_parts(name: str, decoder: LSTMDecoder) -> Iterator[tuple[str, Part]]:
    width = decoder.embed_tokens.embedding_dim
    memory = {
        "memory": torch.randn(_IMAGES, _POSITIONS, width),
        "mask": torch.ones(_IMAGES, _POSITIONS, dtype=torch.bool),
    }
    dynamic = {"memory": (0, 1), "mask": (0, 1)}
    yield f"{name}_{START}", Part(LSTMStartGraph(decoder), memory, dynamic, ("state", "keys"))
    inputs = {
        "tokens": torch.ones(_IMAGES, _QUERIES, dtype=torch.long),
        "state": torch.randn(_IMAGES, _QUERIES, 2 * len(decoder.cells), width),
        "keys": torch.randn(_IMAGES, _POSITIONS, width),
    }
    dynamic |= dict.fromkeys(inputs, (0, 1))
    outputs = ("logits", "next_state", "weights")
    yield name, Part(LSTMStepGraph(decoder), inputs | memory, dynamic, outputs)


def _transformer_parts(name: str, decoder: TransformerDecoder) -> Iterator[tuple[str, Part]]:
    width = decoder.embed_tokens.embedding_dim
    memory = torch.randn(_IMAGES, _POSITIONS, width)
    cross = _example_pairs("cross", [layer.encoder_attn for layer in decoder.layers], _POSITIONS)
    yield (
        f"{name}_{CROSS}",
        Part(CrossGraph(decoder), {"memory": memory}, {"memory": (0, 1)}, tuple(cross)),
    )
    inputs = {
        # Two objects: the exporter would take one tensor for one input.
        "tokens": torch.ones(_IMAGES, _QUERIES, dtype=torch.long),
        "positions": torch.ones(_IMAGES, _QUERIES, dtype=torch.long),
        "mask": torch.zeros(_IMAGES, _QUERIES, _CACHED + _QUERIES),
        "memory_mask": torch.zeros(_IMAGES, _POSITIONS),
    } | cross
    dynamic = {"tokens": (0, 1), "positions": (0, 1), "mask": (0, 1, 2), "memory_mask": (0, 1)}
    dynamic |= dict.fromkeys(cross, (0, 2))
    alone = inputs | {"mask": torch.zeros(_IMAGES, _QUERIES, _QUERIES)}
    yield f"{name}_{ATTENTION}", Part(AttentionGraph(decoder), alone, dynamic, ("weights",))
    cache = _example_pairs("cache", [layer.self_attn for layer in decoder.layers], _CACHED)
    dynamic = dynamic | dict.fromkeys(cache, (0, 2))
    outputs = ("logits", *(key.replace("cache", "longer") for key in cache))
    yield name, Part(DecoderGraph(decoder), inputs | cache, dynamic, outputs)


def _example_pairs(prefix: str, attentions: Iterable[Attention], tokens: int) -> dict[str, Tensor]:
    """Return random keys and values (B, H, `tokens`, D/H) of the attention of each layer."""
    pairs: dict[str, Tensor] = {}
    for i, a in enumerate(attentions):
        shape = (_IMAGES, a.heads, tokens, a.q_proj.out_features // a.heads)
        pairs |= {f"{prefix}_{kind}_{i}": torch.randn(shape) for kind in ("key", "value")}
    return pairs


class LSTMStartGraph(nn.Module):
    """Memory (B, P, D) and its mask (B, P) to the first state (B, 1, 2 L, D) and keys (B, P, D)."""

    def __init__(self, decoder: LSTMDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state and the keys."""
        return self.decoder.begin(memory, mask)


class LSTMStepGraph(nn.Module):
    """A token of each row to logits (B, K, V), state (B, K, 2 L, D) and attention (B, K, P)."""

    def __init__(self, decoder: LSTMDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        if "embed_tokens" not in dict(decoder.named_children()):  # that of another decoder
            self.embed_tokens = decoder.embed_tokens

    def forward(
        self, tokens: Tensor, state: Tensor, keys: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, state and weights; see `LSTMDecoder.advance`."""
        x = self.decoder.embed(tokens)
        output, state, weights = self.decoder.advance(x, state, keys, memory, mask)
        return self.decoder.logits(output), state, weights


class CrossGraph(nn.Module):
    """Memory (B, P, D) to the cross-attention keys and values of each layer, (B, H, P, D/H)."""

    def __init__(self, decoder: TransformerDecoder) -> None:
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

    def __init__(self, decoder: TransformerDecoder) -> None:
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
