"""Gemma 3 (Gemma Team 2025) without its crops for wide images (pan and scan).

Image tokens attend to each other in both directions. Some layers attend to a window of recent
tokens only.

Shapes: B images (or questions), L tokens of a prompt, H, W the size of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from captioner.backends.public.chat import ChatFamily, square_spec
from captioner.backends.public.family import PromptedImage
from captioner.backends.public.prefix import pad_left
from captioner.images.transforms import PixelSpec


class Gemma3(ChatFamily):
    """`Gemma3ForConditionalGeneration`."""

    model_types = ("gemma3",)
    architecture = "Gemma3ForConditionalGeneration"
    processor_options: ClassVar[dict[str, Any]] = {"do_pan_and_scan": False}

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        return square_spec(self)

    def join_images(self, images: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Return the pixels (B, 3, H, W)."""
        return {"pixel_values": torch.cat([pixels for (pixels,) in images])}

    def encode_prompt(self, text: str) -> list[int]:
        """Return the token ids; the template writes the start of an image only."""
        config = self.model.config
        ids = [config.boi_token_index, self.image_token, config.eoi_token_index]
        start, image, end = self.vocabulary.tokenizer.convert_ids_to_tokens(ids)
        return super().encode_prompt(text.replace(start, f"\n\n{start}{image}{end}\n\n"))

    def prompt_inputs(self, memories: Sequence[PromptedImage]) -> dict[str, Tensor]:
        """Return the token types (B, L), 1 at image tokens."""
        types = [(self.expand(memory) == self.image_token).long() for memory in memories]
        return {"token_type_ids": pad_left([x[:, None] for x in types])[0][..., 0]}
