"""The second encoder of a model of images and recordings.

Shapes: B recordings, M mel bands, T frames, P positions, C channels, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.model.image_encoder import MemoryEncoder


class AudioBranch(nn.Module):
    """Spectrograms to memory, which is concatenated with that of an image on positions.

    Learned embeddings state which positions are of the image and which of the recording, as the
    type embeddings of ViLT do (Kim et al., 2021).
    """

    def __init__(self, backbone: nn.Module, memory_encoder: MemoryEncoder, width: int) -> None:
        super().__init__()
        self.backbone, self.memory_encoder = backbone, memory_encoder
        self.types = nn.Parameter(torch.zeros(2, width))
        nn.init.normal_(self.types, std=0.02)

    def extract(self, spectrograms: Tensor) -> Tensor:
        """Map spectrograms (B, 1, M, T) to features (B, P, C)."""
        features: Tensor = self.backbone(spectrograms)
        return features.to(self.types.dtype)

    def encode(self, features: Tensor) -> Tensor:
        """Map features (B, P, C) of recordings to memory (B, P, D)."""
        memory: Tensor = self.memory_encoder(features)
        return memory + self.types[1]

    def mark_image(self, memory: Tensor) -> Tensor:
        """Return the memory (B, P, D) of images, marked as such."""
        return memory + self.types[0]
