"""The text decoder of BLIP with one copy of the image for all rows of a search.

`BlipTextLMHeadModel` keeps keys and values of the image for each row, and ignores the mask of
`encoder_hidden_states`. Here its modules are called one by one, with the cross-attention of
`shared_attention`.

Shapes: B images (or questions), K rows of each, N = B * K, P memory positions, D width, V
vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from captioner.backends.public.cross_attention import MASK, STATES
from captioner.backends.public.decoder_state import DecoderState, cache_argument
from captioner.backends.public.shared_attention import attend, split_heads


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
            x = getattr(attention, name)(states)
            images[f"{name}{number}"] = split_heads(x, attention.num_attention_heads)
    if MASK in attended:
        images[MASK] = attended[MASK][:, None, None] > 0  # (B, 1, 1, P)
    positions = torch.zeros(len(states), dtype=torch.long, device=states.device)
    return DecoderState(DynamicCache(), positions, images=images)


def decode_token(decoder: Any, tokens: Tensor, state: DecoderState) -> Tensor:
    """Return the logits (N, V) after one more token of each row (N,); update the state."""
    bert = decoder.bert
    hidden = bert.embeddings(tokens[:, None], position_ids=state.positions[:, None])  # (N, 1, D)
    for number, layer in enumerate(bert.encoder.layer):
        cache = {cache_argument(layer.attention): state.cache}
        hidden = layer.attention(hidden, **cache)[0]
        queries = layer.crossattention.self.query(hidden)
        context = attend(queries, state.images, number)
        hidden = layer.feed_forward_chunk(layer.crossattention.output(context, hidden))
    state.advance()
    logits: Tensor = decoder.cls(hidden[:, -1])
    return logits
