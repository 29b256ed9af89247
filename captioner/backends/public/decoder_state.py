"""The cache of a transformers decoder during a search, for several rows of each image.

Shapes: B images (or questions), K rows of each, N = B * K, H heads, L cached positions, D width of
a head, V vocabulary.

The prompt of each image is computed once. The rows of an image are equal until the first token is
chosen, so that the cache has B entries until then, and N entries after it. Tensors that all rows of
an image share are copied only when images leave the batch, not when beams change their order.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache


@dataclass
class DecoderState:
    """What a decoder has computed from the tokens so far."""

    cache: Any
    """A `Cache` of transformers."""
    positions: Tensor
    """(N,), the position of the next token of each row."""
    mask: Tensor | None = None
    """(N, L), 1 at cached tokens and 0 at padding on the left; None if there is no padding."""
    shared: dict[str, Any] = field(default_factory=dict)
    """Further inputs of each step, equal for all rows of an image: tensors (N, ...) by name."""
    images: dict[str, Tensor] = field(default_factory=dict)
    """What the rows of an image share without a copy for each: tensors (B, ...) by name."""

    def advance(self) -> None:
        """Count one more cached token of each row."""
        self.positions = self.positions + 1
        if self.mask is not None:
            self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)

    def select(self, rows: Tensor, images: Tensor | None = None) -> None:
        """Let row i continue row `rows[i]`, and keep these images, or all of them."""
        if images is not None:
            self.images = {name: value[images] for name, value in self.images.items()}
        self.cache.batch_select_indices(rows)
        self.positions = self.positions[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        self.shared = {name: value[rows] for name, value in self.shared.items()}

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue row `rows[i]` of the same image."""
        cache = self.cache
        if isinstance(cache, EncoderDecoderCache):
            cache = cache.self_attention_cache
        cache.reorder_cache(rows)


def cache_argument(module: nn.Module) -> str:
    """Return the name of the argument of a module's `forward` that takes its cache.

    transformers 5.24 renamed `past_key_values` to `cache`.
    """
    names: Sequence[str] = list(inspect.signature(module.forward).parameters)
    return "cache" if "cache" in names else "past_key_values"
