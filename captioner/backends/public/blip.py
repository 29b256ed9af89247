"""BLIP (Li et al. 2022): captions.

Shapes: B images, P memory positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captioner.backends.public.blip_decoder import decode_token, start_decoder
from captioner.backends.public.cross_attention import CrossAttentionFamily
from captioner.backends.public.decoder_state import DecoderState
from captioner.backends.public.family import ImageFeatures, PromptedImage, square_spec
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.images.transforms import PixelSpec


class BlipCaptions(CrossAttentionFamily):
    """`BlipForConditionalGeneration`: the decoder attends to the image."""

    model_types = ("blip",)
    architecture = "BlipForConditionalGeneration"
    """The class of transformers."""
    skipped_positions = 1  # the class token
    trainable = True

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> BlipCaptions:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = cls()
        family.model = load_model(folder, cls.architecture, dtype)
        family.processor = load_processor(folder)
        text = family.model.config.text_config
        family.vocabulary = Vocabulary(
            load_tokenizer(folder), size=text.vocab_size, ends=[text.sep_token_id]
        )
        family.start_tokens = (text.bos_token_id,)
        family.max_length = text.max_position_embeddings - len(family.start_tokens)
        return family

    @property
    def image_encoder(self) -> nn.Module:
        """The vision Transformer."""
        module: nn.Module = self.model.vision_model
        return module

    @property
    def decoder(self) -> Any:
        """The text decoder."""
        return self.model.text_decoder

    @property
    def generator(self) -> Any:
        """The text decoder, because the whole model passes its inputs to it."""
        return self.decoder

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        return square_spec(self.model.config.vision_config.image_size)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return their states (P, D)."""
        pixels = torch.cat([pixels for (pixels,) in images])
        states = self.model.vision_model(pixel_values=pixels).last_hidden_state  # (B, P, D)
        return [ImageFeatures({"states": x}) for x in states]

    def caption_prompt(self) -> list[int]:
        """Return an empty prompt."""
        return []

    def prefill(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, DecoderState]:
        """Compute the start token; return the logits (B, V) of the first token, and the state."""
        state = start_decoder(self.decoder, self.attended(memories))
        tokens = torch.tensor(self.start_tokens * len(memories), device=self.device)
        return self.step(tokens, state), state

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after one more token of each row (N,); update the state."""
        return decode_token(self.decoder, tokens, state)

    def memory(self, memory: PromptedImage) -> Tensor:
        """Return the states (P, D) of the image."""
        return memory.features.tensors["states"]
