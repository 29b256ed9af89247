"""Qwen2-VL and Qwen2.5-VL: images keep their resolution and aspect ratio.

Sources: Wang et al., Qwen2-VL: enhancing vision-language model's perception of the world at any
resolution (2024); Bai et al., Qwen2.5-VL technical report (2025). Each position has three
numbers, for time, row and column (section 2.1 of the first). They are equal at text tokens.

Shapes: B images (or questions), L tokens of a prompt, P positions of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.backends.public.chat import ChatFamily
from captioner.backends.public.family import ImageFeatures, PromptedImage

GRID = "image_grid_thw"


class Qwen2Vl(ChatFamily):
    """`Qwen2VLForConditionalGeneration`."""

    model_types = ("qwen2_vl",)
    architecture = "Qwen2VLForConditionalGeneration"
    pixel_inputs = ("pixel_values", GRID)

    def join_images(self, images: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Return the patches of all images, and the grid (B, 3) of patches of each."""
        pixels, grids = zip(*images, strict=True)
        return {"pixel_values": torch.cat(pixels), GRID: torch.cat(grids)}

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return the states (P, D) and the grid (3,) of positions."""
        merge = self.model.config.vision_config.spatial_merge_size
        scale = torch.tensor([1, merge, merge], device=self.device)
        pairs = zip(super().encode(images), images, strict=True)
        return [
            ImageFeatures({**features.tensors, "grid": grid[0] // scale})
            for features, (_, grid) in pairs
        ]

    def prompt_positions(
        self, memories: Sequence[PromptedImage], mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return position ids (3, B, L), and the positions (B,) of the next tokens."""
        positions = mask.new_zeros(3, *mask.shape)
        following = []
        for row, memory in enumerate(memories):
            own = self.positions(memory)
            positions[:, row, mask.shape[1] - own.shape[1] :] = own
            following.append(own.max() + 1)
        return positions, torch.stack(following)

    def positions(self, memory: PromptedImage) -> Tensor:
        """Return the positions (3, L) of a prompt; text follows the largest of the image."""
        start = memory.prompt.index(self.image_token)
        rest = len(memory.prompt) - start - 1
        grid = memory.features.tensors["grid"]
        axes = [torch.arange(int(size), device=self.device) for size in grid]
        image = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)  # (3, P)
        before, after = torch.arange(start), torch.arange(rest) + start + int(grid[1:].max())
        texts = [x.to(self.device).expand(3, -1) for x in (before, after)]
        return torch.cat([texts[0], image + start, texts[1]], 1)


class Qwen2p5Vl(Qwen2Vl):
    """`Qwen2_5_VLForConditionalGeneration`."""

    model_types = ("qwen2_5_vl",)
    architecture = "Qwen2_5_VLForConditionalGeneration"
