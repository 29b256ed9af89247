"""Families whose decoder attends to a memory by cross-attention, such as BLIP.

Shapes: B images (or questions), N rows of a search, K texts of an image, S start tokens, T tokens
of a text, P memory positions, D width, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, EncoderDecoderCache

from captioner.backends.public.decoder_state import DecoderState, cache_argument
from captioner.backends.public.family import Family, PromptedImage

STATES, MASK = "encoder_hidden_states", "encoder_attention_mask"


class CrossAttentionFamily(Family):
    """A family with a decoder that attends to a memory of image and question."""

    attends = True
    skipped_positions = 0
    """Positions of the memory before those of the image, such as a class token."""

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The decoder with its language-model head."""

    def prompt_tokens(self, memory: PromptedImage) -> Sequence[int]:
        """Return the start tokens; see `Family.prompt_tokens`."""
        return self.start_tokens

    @abstractmethod
    def memory(self, memory: PromptedImage) -> Tensor:
        """Return the states (P, D) that the decoder attends to."""

    def attended(self, memories: Sequence[PromptedImage]) -> dict[str, Tensor]:
        """Return the states (B, P, D) that the decoder attends to, and their mask (B, P)."""
        return join_memories([self.memory(memory) for memory in memories])

    def decode(self, tokens: Tensor, shared: dict[str, Any], **options: Any) -> Any:
        """Return the outputs of the decoder after tokens (N, S) and the result of `attended`."""
        return self.decoder(tokens, **shared, **options)

    def prefill(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, DecoderState]:
        """Compute the start tokens; return the logits (B, V) of the first token, and the state."""
        shared = self.attended(memories)
        tokens = torch.tensor([self.start_tokens] * len(memories), device=self.device)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        positions = torch.zeros(len(memories), dtype=torch.long, device=self.device)
        state = DecoderState(cache, positions + len(self.start_tokens), shared=shared)
        return self.run(tokens, state), state

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after one more token of each row (N,); update the state."""
        logits = self.run(tokens[:, None], state)
        state.advance()
        return logits

    def run(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after tokens (N, S), which are added to the cache."""
        cache = {cache_argument(self.decoder): state.cache}
        outputs = self.decode(tokens, state.shared, **cache, use_cache=True)
        logits: Tensor = outputs.logits[:, -1]
        return logits

    def continuation_logits(self, memories: Sequence[PromptedImage], tokens: Tensor) -> Tensor:
        """Return the logits (N, T + 1, V) after each prompt and after each of tokens (N, T)."""
        start = torch.tensor([self.start_tokens] * len(memories), device=self.device)
        ids = torch.cat([start, tokens], 1)  # (N, S + T)
        mask = (ids >= 0).long()
        shared = self.attended(memories)
        outputs = self.decode(ids.clamp(min=0), shared, attention_mask=mask, use_cache=False)
        logits: Tensor = outputs.logits[:, len(self.start_tokens) - 1 :]
        return logits

    def attention(self, memory: PromptedImage, texts: Tensor) -> Tensor:
        """Return the cross-attention (K, T, P) to an image; see `Family.attention`."""
        one = self.attended([memory])
        start = torch.tensor([self.start_tokens] * len(texts), device=self.device)
        tokens = torch.cat([start, texts[:, :-1].clamp(min=0)], 1)
        shared = {name: x.expand(len(texts), *x.shape[1:]) for name, x in one.items()}
        with eager_attention(self.decoder):
            outputs = self.decode(tokens, shared, use_cache=False, output_attentions=True)
        weights = torch.stack(outputs.cross_attentions).mean((0, 2))  # (K, S + T - 1, P)
        image = weights[:, len(self.start_tokens) - 1 :, self.skipped_positions :]
        return image * (texts >= 0)[..., None]


class eager_attention:
    """A context in which a module computes attention weights that it can return."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.kept = self.module.config._attn_implementation
        self.module.set_attn_implementation("eager")

    def __exit__(self, *error: object) -> None:
        self.module.set_attn_implementation(self.kept)


def join_memories(memories: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return states (P, D) of several lengths as one batch (B, P, D), with its mask (B, P).

    States of equal lengths need no mask, and have none.
    """
    states = pad_sequence(list(memories), batch_first=True)
    lengths = torch.tensor([len(memory) for memory in memories], device=states.device)
    if (lengths == states.shape[1]).all():
        return {STATES: states}
    places = torch.arange(states.shape[1], device=states.device)
    return {STATES: states, MASK: (places < lengths[:, None]).long()}
