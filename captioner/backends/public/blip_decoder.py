"""The text decoder of BLIP with one copy of the image for all rows of a search.

`BlipTextLMHeadModel` keeps keys and values of the image for each row, and ignores the mask of
`encoder_hidden_states`. Here the rows of an image are queries of one attention, as in Shazeer,
Fast Transformer Decoding (2019), and keys and values are computed once for each image. Its other
modules are called as they are.

Shapes: B images (or questions), K rows of each, N = B * K, P memory positions, D width, H heads, d
width of a head, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from captioner.backends.public.cross_attention import MASK, STATES
from captioner.backends.public.decoder_state import DecoderState, cache_argument


def start_decoder(decoder: Any, attended: dict[str, Tensor]) -> DecoderState:
    """Return the state before the first token.

    Args:
        decoder: A `BlipTextLMHeadModel`.
        attended: The states (B, P, D) that it attends to, with their mask (B, P) if there is
            padding.
    """
    states, images = attended[STATES], {}
    for number, layer in enumerate(decoder.bert.encoder.layer):
        attention = layer.crossattention.self
        for name in ("key", "value"):
            images[f"{name}{number}"] = _split_heads(getattr(attention, name)(states), attention)
    if MASK in attended:
        images[MASK] = attended[MASK][:, None, None] > 0  # (B, 1, 1, P)
    positions = torch.zeros(len(states), dtype=torch.long, device=states.device)
    return DecoderState(DynamicCache(), positions, images=images)


def _split_heads(x: Tensor, attention: Any) -> Tensor:
    """Return (B, S, D) as (B, H, S, d)."""
    heads = x.view(*x.shape[:2], attention.num_attention_heads, -1)
    return heads.transpose(1, 2).contiguous()


def decode_token(decoder: Any, tokens: Tensor, state: DecoderState) -> Tensor:
    """Return the logits (N, V) after one more token of each row (N,); update the state."""
    bert = decoder.bert
    hidden = bert.embeddings(tokens[:, None], position_ids=state.positions[:, None])  # (N, 1, D)
    for number, layer in enumerate(bert.encoder.layer):
        cache = {cache_argument(layer.attention): state.cache}
        hidden = layer.attention(hidden, **cache)[0]
        context = _attend(layer.crossattention.self, hidden, number, state.images)
        hidden = layer.feed_forward_chunk(layer.crossattention.output(context, hidden))
    state.advance()
    logits: Tensor = decoder.cls(hidden[:, -1])
    return logits


def _attend(attention: Any, hidden: Tensor, number: int, images: dict[str, Tensor]) -> Tensor:
    """Return the cross-attention (N, 1, D) of rows (N, 1, D) to their images."""
    keys, values = images[f"key{number}"], images[f"value{number}"]  # (B, H, P, d)
    queries = attention.query(hidden).view(len(keys), -1, hidden.shape[-1])  # (B, K, D)
    queries = _split_heads(queries, attention)  # (B, H, K, d)
    context = functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=images.get(MASK)
    )
    return context.transpose(1, 2).reshape(hidden.shape)
