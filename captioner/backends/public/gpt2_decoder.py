"""The text decoder GPT-2 with one copy of the image for all rows of a search.

`GPT2LMHeadModel` keeps keys and values of the image for each row. Here its modules are called one
by one, with the cross-attention of `shared_attention`.

Shapes: B images, K rows of each, N = B * K, P memory positions, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from captioner.backends.public.cross_attention import STATES
from captioner.backends.public.decoder_state import DecoderState, cache_argument
from captioner.backends.public.shared_attention import attend, split_heads


def is_gpt2(decoder: Any) -> bool:
    """Return whether `decode_token` computes a decoder: a GPT-2 with the usual attention."""
    config = decoder.config
    usual = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
    return config.model_type == "gpt2" and all(getattr(config, k) == v for k, v in usual.items())


def start_decoder(decoder: Any, attended: dict[str, Tensor]) -> DecoderState:
    """Return the state before the first token.

    Args:
        decoder: A `GPT2LMHeadModel`.
        attended: The states (B, P, D) of images that it attends to.
    """
    states, images = attended[STATES], {}
    for number, block in enumerate(decoder.transformer.h):
        cross = block.crossattention
        for name, x in zip(("key", "value"), cross.c_attn(states).chunk(2, -1), strict=True):
            images[f"{name}{number}"] = split_heads(x, cross.num_heads)
    positions = torch.zeros(len(states), dtype=torch.long, device=states.device)
    return DecoderState(DynamicCache(), positions, images=images)


def decode_token(decoder: Any, tokens: Tensor, state: DecoderState) -> Tensor:
    """Return the logits (N, V) after one more token of each row (N,); update the state."""
    gpt2 = decoder.transformer
    hidden = gpt2.wte(tokens[:, None]) + gpt2.wpe(state.positions[:, None])  # (N, 1, D)
    for number, block in enumerate(gpt2.h):
        cache = {cache_argument(block.attn): state.cache}
        hidden = hidden + block.attn(block.ln_1(hidden), **cache)[0]
        cross = block.crossattention
        context = attend(cross.q_attn(block.ln_cross_attn(hidden)), state.images, number)
        hidden = hidden + cross.c_proj(context)
        hidden = hidden + block.mlp(block.ln_2(hidden))
    state.advance()
    logits: Tensor = decoder.lm_head(gpt2.ln_f(hidden[:, -1]))
    return logits
