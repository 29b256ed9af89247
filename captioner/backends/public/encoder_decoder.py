"""VisionEncoderDecoder: an image encoder, such as ViT or Swin, with a text decoder, such as GPT-2.

Source: Rothe et al., Leveraging pre-trained checkpoints for sequence generation tasks (TACL 2020),
with an image encoder; TrOCR and Donut have the same form. Encoders differ in their class tokens,
decoders in their start token and in where their end token is stated. The pooling layer of the
encoder is not used, and its weights may be missing.

Shapes: B images, P memory positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captioner.backends.public.cross_attention import CrossAttentionFamily
from captioner.backends.public.decoder_state import DecoderState
from captioner.backends.public.family import ImageFeatures, PromptedImage
from captioner.backends.public.gpt2_decoder import decode_token, is_gpt2, start_decoder
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.public.text_rules import as_ids
from captioner.errors import CheckpointError
from captioner.images.transforms import PixelSpec

ADDED_POSITIONS = ("cls_token", "distillation_token", "register_tokens")
"""The parameters of encoders whose states come before those of the image."""
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")
"""Decoders whose first position id is the one after that of padding."""


class EncoderDecoder(CrossAttentionFamily):
    """`VisionEncoderDecoderModel`."""

    model_types = ("vision-encoder-decoder",)
    trainable = True

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> EncoderDecoder:
        """Load a model from a transformers folder; raise CheckpointError."""
        family, name = cls(), "VisionEncoderDecoderModel"
        family.model = load_model(folder, name, dtype, unused="encoder.pooler.")
        family.processor, tokenizer = load_processor(folder), load_tokenizer(folder)
        text = family.decoder.config
        ends = family.stated_ids("eos_token_id") or as_ids(
            tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        )
        start = family.stated_ids("decoder_start_token_id") or family.stated_ids("bos_token_id")
        for ids, what in ((ends, "eos_token_id"), (start, "decoder_start_token_id")):
            if not ids:
                raise CheckpointError(f"{folder}: config.json states no {what}; add it")
        family.vocabulary = Vocabulary(tokenizer, size=text.vocab_size, ends=ends)
        family.start_tokens = start[:1]
        family.skipped_positions = count_added_positions(family.model.encoder)
        unusable = text.pad_token_id + 1 if text.model_type in POSITIONS_AFTER_PADDING else 0
        family.max_length = text.max_position_embeddings - unusable - len(family.start_tokens)
        return family

    def stated_ids(self, name: str) -> tuple[int, ...]:
        """Return a token id of the generation settings, of the model or of its decoder."""
        model = self.model
        places = (model.generation_config, model.config, model.config.decoder)
        ids = (as_ids(getattr(place, name, None)) for place in places)
        return next(filter(None, ids), ())

    @property
    def image_encoder(self) -> nn.Module:
        """The encoder, and the projection to the width of the decoder if there is one."""
        parts = {"encoder": self.model.encoder}
        if project := getattr(self.model, "enc_to_dec_proj", None):
            parts["projection"] = project
        return nn.ModuleDict(parts)

    @property
    def decoder(self) -> Any:
        """The text decoder."""
        return self.model.decoder

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        size = self.model.config.encoder.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return PixelSpec((height, width), (0.0,) * 3, (1.0,) * 3)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return their states (P, D) in the width of the decoder."""
        pixels = torch.cat([pixels for (pixels,) in images])
        states = self.model.encoder(pixel_values=pixels).last_hidden_state  # (B, P, D)
        project = getattr(self.model, "enc_to_dec_proj", None)
        if project is not None:
            states = project(states)
        return [ImageFeatures({"states": x}) for x in states]

    def prefill(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, DecoderState]:
        """Compute the start token; return the logits (B, V) of the first token, and the state."""
        if not is_gpt2(self.decoder):
            return super().prefill(memories)
        state = start_decoder(self.decoder, self.attended(memories))
        tokens = torch.tensor(self.start_tokens * len(memories), device=self.device)
        return self.step(tokens, state), state

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after one more token of each row (N,); update the state."""
        if state.images:
            return decode_token(self.decoder, tokens, state)
        return super().step(tokens, state)

    def caption_prompt(self) -> list[int]:
        """Return an empty prompt."""
        return []

    def memory(self, memory: PromptedImage) -> Tensor:
        """Return the states (P, D) of the image."""
        return memory.features.tensors["states"]


def count_added_positions(encoder: nn.Module) -> int:
    """Return the number of states of an encoder before those of the image."""
    embeddings = getattr(encoder, "embeddings", None)
    tokens = [getattr(embeddings, name, None) for name in ADDED_POSITIONS]
    return sum(token.shape[1] for token in tokens if token is not None)
