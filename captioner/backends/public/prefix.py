"""Families whose decoder reads image and prompt as one sequence, such as LLaVA.

Shapes: B images (or questions), N rows of a search, L tokens of a prompt with the positions of its
image, D width, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from captioner.backends.public.decoder_state import DecoderState, cache_argument
from captioner.backends.public.family import Family, PromptedImage


class PrefixFamily(Family):
    """A family with a decoder that continues the sequence of image and prompt.

    Prompts of different lengths are padded on the left, and masks and position ids make the result
    of each independent of the others.
    """

    first_position = 0
    """Position id of the first token."""

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The language model with its head, which takes `inputs_embeds` or `input_ids`."""

    @abstractmethod
    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the embeddings (L, D) of image and prompt."""

    def prefill(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, DecoderState]:
        """Compute the prompts; return the logits (B, V) of the first token, and the state."""
        embedded, mask = pad_left([self.embed(memory) for memory in memories])
        positions, following = self.prompt_positions(memories, mask)
        cache = DynamicCache(config=self.decoder.config)
        state = DecoderState(cache, following, None if mask.all() else mask)
        inputs: dict[str, Any] = {
            "inputs_embeds": embedded,
            "logits_to_keep": 1,
            **self.prompt_inputs(memories),
        }
        return self.run(state, mask, positions, inputs), state

    def prompt_positions(
        self, memories: Sequence[PromptedImage], mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return position ids of the prompts, padded on the left, and those (B,) of next tokens.

        Args:
            memories: The prompts.
            mask: (B, L), 0 at padding. The position ids have this shape unless the decoder expects
                another one.
        """
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return positions + self.first_position, mask.sum(1) + self.first_position

    def prompt_inputs(self, memories: Sequence[PromptedImage]) -> dict[str, Tensor]:
        """Return further inputs of the decoder for the prompts."""
        return {}

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after one more token of each row (N,); update the state."""
        positions = state.positions[:, None]
        state.advance()
        return self.run(state, state.mask, positions, {"input_ids": tokens[:, None]})

    def run(
        self,
        state: DecoderState,
        mask: Tensor | None,
        positions: Tensor,
        inputs: dict[str, Any],
    ) -> Tensor:
        """Return the logits (N, V) of the next token after inputs, which are added to the cache.

        Args:
            state: The state, whose cache is updated.
            mask: (N, L) of cache and inputs, or None without padding.
            positions: (N, S), position ids of the S inputs.
            inputs: Arguments of the decoder.
        """
        cache = {cache_argument(self.decoder): state.cache}
        outputs = self.decoder(
            **inputs, attention_mask=mask, position_ids=positions, use_cache=True, **cache
        )
        logits: Tensor = outputs.logits[:, -1]
        return logits


def pad_left(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return sequences (L, D) as a batch (B, L, D), padded at the start, and its mask (B, L)."""
    longest = max(map(len, sequences))
    padded = sequences[0].new_zeros(len(sequences), longest, sequences[0].shape[1])
    mask = torch.zeros(padded.shape[:2], dtype=torch.long, device=padded.device)
    for row, sequence in enumerate(sequences):
        padded[row, longest - len(sequence) :] = sequence
        mask[row, longest - len(sequence) :] = 1
    return padded, mask
