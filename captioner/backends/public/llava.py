"""LLaVA 1.5, LLaVA-NeXT and LLaVA-OneVision.

Sources: Liu et al., Improved baselines with visual instruction tuning (2024); Liu et al.,
LLaVA-NeXT: improved reasoning, OCR, and world knowledge (2024); Li et al., LLaVA-OneVision: easy
visual task transfer (2024). LLaVA 1.5 reads a square. The others add the parts of an image of
higher resolution, with a learned embedding at the end of each row.

Shapes: B images, C parts of an image, H, W their size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.backends.public.chat import ChatFamily, square_spec
from captioner.errors import CheckpointError
from captioner.images.transforms import PixelSpec


class Llava(ChatFamily):
    """`LlavaForConditionalGeneration` with a vision encoder for squares, such as CLIP's.

    Questions end as in the training data of short answers (section 3.2 of the paper).
    """

    model_types = ("llava",)
    architecture = "LlavaForConditionalGeneration"
    plain_prompt = "USER: <image>\n{text} ASSISTANT:"
    answer_suffix = "\nAnswer the question using a single word or phrase."

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> ChatFamily:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = super().load(folder, dtype)
        kind = family.model.config.vision_config.model_type
        if kind == "pixtral":
            raise CheckpointError(
                f"{folder}: LLaVA with the vision encoder {kind!r} is not supported; expected one"
                " of a fixed image size, such as 'clip_vision_model'"
            )
        return family

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        return square_spec(self)

    def join_images(self, images: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Return the pixels (B, 3, H, W)."""
        return {"pixel_values": torch.cat([pixels for (pixels,) in images])}


class LlavaNext(ChatFamily):
    """`LlavaNextForConditionalGeneration`."""

    model_types = ("llava_next",)
    architecture = "LlavaNextForConditionalGeneration"
    pixel_inputs = ("pixel_values", "image_sizes")

    def join_images(self, images: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Return the pixels (sum of C, 3, H, W) of all parts, and the sizes (B, 2) of images."""
        pixels = torch.cat([pixels[0] for pixels, _ in images])
        return {"pixel_values": pixels, "image_sizes": torch.cat([size for _, size in images])}


class LlavaOnevision(LlavaNext):
    """`LlavaOnevisionForConditionalGeneration`; many parts are reduced by interpolation."""

    model_types = ("llava_onevision",)
    architecture = "LlavaOnevisionForConditionalGeneration"
