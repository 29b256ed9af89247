"""The whole model: an image becomes memory, memory and tokens become logits.

Shapes: B images, K captions per image, T tokens, P positions, C channels, D width, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from captioner.model.decoder import Decoder
from captioner.model.encoder import MemoryEncoder


class Seq2Seq(nn.Module):
    """Backbone, memory encoder and decoder.

    The backbone may be any module from pixels (B, 3, H, W) to features (B, P, C); what comes
    behind it starts from features, so that a frozen backbone's can be kept.
    """

    def __init__(self, backbone: nn.Module, memory_encoder: MemoryEncoder, decoder: Decoder):
        super().__init__()
        self.backbone = backbone
        self.memory_encoder = memory_encoder
        self.decoder = decoder

    def encode(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), or features (B, P, C) kept from before, to memory (B, P, D)."""
        features = self.backbone(images) if images.ndim == 4 else images
        return self.memory_encoder(features.to(self.memory_encoder.projection.weight.dtype))

    def decode(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """Logits (M, V) at the M places of tokens (B, K, T) that are no padding."""
        return self.decoder(memory, tokens)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return self.decode(self.encode(images), tokens)
