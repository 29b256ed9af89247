"""Florence-2 (Xiao et al. 2024): captions of a DaViT encoder with a BART encoder-decoder.

A task is a fixed sentence; the text encoder reads the image, and then this sentence between the
tokens that begin and end a text. The features of an image are its average followed by a grid. The
released checkpoints were not trained to answer questions, so that questions are refused.

Shapes: B images, P image features, K texts, T tokens of a text, L positions of image and prompt, D
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.backends.public.family import ImageFeatures, PromptedImage
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.public.text_encoder import Seq2SeqFamily
from captioner.backends.public.text_rules import as_ids
from captioner.images.transforms import PixelSpec

CAPTION = "What does the image describe?"
"""The sentence of the task `<CAPTION>`."""


class Florence2(Seq2SeqFamily):
    """`Florence2ForConditionalGeneration`."""

    model_types = ("florence2",)
    skipped_positions = 1  # the average of the grid

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> Florence2:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = cls()
        family.model = load_model(folder, "Florence2ForConditionalGeneration", dtype)
        family.processor = load_processor(folder)
        text, ends = family.model.config.text_config, family.model.generation_config.eos_token_id
        family.vocabulary = Vocabulary(
            load_tokenizer(folder), size=text.vocab_size, ends=as_ids(ends)
        )
        family.set_start(folder)
        family.max_length = text.max_position_embeddings - len(family.start_tokens)
        return family

    @property
    def decoder(self) -> Any:
        """The model, whose `forward` takes the states of the text encoder."""
        return self.model

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        size = self.processor.size
        return PixelSpec((size["height"], size["width"]), (0.0,) * 3, (1.0,) * 3)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return their projected features (P, D)."""
        pixels = torch.cat([pixels for (pixels,) in images])
        features = self.model.get_image_features(pixels).pooler_output  # (B, P, D)
        return [ImageFeatures({"features": x}) for x in features]

    def caption_prompt(self) -> list[int]:
        """Return the sentence of the task, between the tokens that begin and end a text."""
        tokenizer = self.vocabulary.tokenizer
        text = f"{tokenizer.bos_token}{CAPTION}{tokenizer.eos_token}"
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the image features and the embeddings of the prompt (L, D)."""
        prompt = torch.tensor(memory.prompt, device=self.device)
        tokens = self.model.get_input_embeddings()(prompt)
        return torch.cat([memory.features.tensors["features"].to(tokens.dtype), tokens])

    def attention(self, memory: PromptedImage, texts: Tensor) -> Tensor:
        """Return the cross-attention (K, T, P - 1) to the grid; see `Family.attention`."""
        grid = len(memory.features.tensors["features"]) - self.skipped_positions
        return super().attention(memory, texts)[..., :grid]
