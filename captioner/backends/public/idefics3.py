"""Idefics3 and SmolVLM: an image and its parts, with tokens for rows and columns.

Sources: Laurencon et al., Building and better understanding vision-language models (2024);
Marafioti et al., SmolVLM: redefining small and efficient multimodal models (2025).

Shapes: B images, C parts of an image, H, W their size, P positions of an image, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from captioner.backends.public.chat import ChatFamily
from captioner.backends.public.family import ImageFeatures

AROUND, WHOLE = "<fake_token_around_image>", "<global-img>"


class Idefics3(ChatFamily):
    """`Idefics3ForConditionalGeneration`."""

    model_types = ("idefics3",)
    architecture = "Idefics3ForConditionalGeneration"
    pixel_inputs = ("pixel_values", "rows", "cols")
    processor_options: ClassVar[dict[str, Any]] = {"return_row_col_info": True}

    def join_images(self, images: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Return the pixels (1, sum of C, 3, H, W) of all parts, as if of one image."""
        return {"pixel_values": torch.cat([pixels for pixels, *_ in images], 1)}

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return the states (P, D), and the tokens with one image token per part."""
        # One element for all images, or one for each part, depending on the version.
        states = torch.cat([x.tensors["states"] for x in super().encode(images)])  # (sum of P, D)
        counts = [pixels.shape[1] for pixels, *_ in images]
        size = len(states) // sum(counts)
        parts = states.split([count * size for count in counts])
        tokens = [self.image_tokens(int(rows), int(columns)) for _, rows, columns in images]
        pairs = zip(parts, tokens, strict=True)
        return [ImageFeatures({"states": part, "tokens": ids}) for part, ids in pairs]

    def image_tokens(self, rows: int, columns: int) -> Tensor:
        """Return the token ids of an image of rows and columns of parts; 0 if it is not divided."""
        tokenizer = self.vocabulary.tokenizer
        image = tokenizer.convert_ids_to_tokens(self.image_token)
        lines = [
            "".join(f"{AROUND}<row_{y + 1}_col_{x + 1}>{image}" for x in range(columns)) + "\n"
            for y in range(rows)
        ]
        text = "".join([*lines, "\n" if rows else "", f"{AROUND}{WHOLE}{image}{AROUND}"])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, device=self.device)


class SmolVlm(Idefics3):
    """`SmolVLMForConditionalGeneration`, for images."""

    model_types = ("smolvlm",)
    architecture = "SmolVLMForConditionalGeneration"
