"""Families whose encoder reads image and prompt, and whose decoder attends to both, such as T5.

Shapes: B images (or questions), N rows of a search, S tokens, L positions of image and prompt, D
width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from captioner.backends.public.cross_attention import (
    MASK,
    STATES,
    CrossAttentionFamily,
    join_memories,
)
from captioner.backends.public.family import PromptedImage
from captioner.backends.public.text_rules import as_ids
from captioner.errors import CheckpointError


class Seq2SeqFamily(CrossAttentionFamily):
    """A family with a text encoder; `decoder` is the encoder-decoder model with its head."""

    @abstractmethod
    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the embeddings (L, D) of image and prompt, the input of the encoder."""

    def set_start(self, folder: str) -> None:
        """Set the first token of the decoder; raise CheckpointError if none is stated."""
        settings = self.decoder.generation_config
        first = as_ids(settings.decoder_start_token_id) or as_ids(settings.bos_token_id)
        if not first:
            raise CheckpointError(f"{folder}: config.json states no decoder_start_token_id; add it")
        self.start_tokens = first[:1]

    def memory(self, memory: PromptedImage) -> Tensor:
        """Return the states (L, D) of the encoder."""
        return self.attended([memory])[STATES][0]

    def attended(self, memories: Sequence[PromptedImage]) -> dict[str, Tensor]:
        """Return the states (B, L, D) of the encoder, and their mask (B, L) if lengths differ."""
        joined = join_memories([self.embed(memory) for memory in memories])
        encoder = self.decoder.get_encoder()
        outputs = encoder(inputs_embeds=joined[STATES], attention_mask=joined.get(MASK))
        return {**joined, STATES: outputs.last_hidden_state}

    def decode(self, tokens: Tensor, shared: dict[str, Any], **options: Any) -> Any:
        """Return the outputs of the decoder after tokens (N, S) and the result of `attended`."""
        return self.decoder(
            encoder_outputs=BaseModelOutput(last_hidden_state=shared[STATES]),
            attention_mask=shared.get(MASK),
            decoder_input_ids=tokens,
            **options,
        )
