"""The interface of decoders: memory and tokens to logits, for whole sequences or step by step.

Shapes: B images, K rows per image (captions in training, beams in a search), T tokens, P memory
positions, D width, V vocabulary, M tokens without padding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DecoderCache(Protocol):
    """What a decoder keeps of a running search: the tokens so far and the memory."""

    def reorder(self, rows: Tensor) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""


class Decoder(nn.Module, ABC):
    """A decoder whose logits come from normalized states through its token embedding.

    `embed_tokens` is the embedding of another decoder to use; it does not become a submodule.
    """

    layer_norm: nn.LayerNorm
    """The norm before the logits."""

    def __init__(
        self,
        vocab_size: int,
        *,
        width: int,
        max_length: int,
        pad: int,
        embed_tokens: nn.Embedding | None = None,
    ) -> None:
        super().__init__()
        self.pad, self.max_length = pad, max_length
        self._owns_embedding = embed_tokens is None
        if embed_tokens is None:
            self.embed_tokens = nn.Embedding(vocab_size, width, padding_idx=pad)
        else:
            self.__dict__["embed_tokens"] = embed_tokens  # without registration as a submodule
        self._head: nn.Module | None = None

    def _init_embedding(self) -> None:
        """Draw the initial token embedding, unless it is that of another decoder."""
        if self._owns_embedding:
            nn.init.normal_(self.embed_tokens.weight, std=0.02)
            with torch.no_grad():
                self.embed_tokens.weight[self.pad].zero_()

    @abstractmethod
    def extend_positions(self, max_length: int) -> None:
        """Raise the maximum length."""

    @abstractmethod
    def forward(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logits (M, V) at `tokens[tokens != pad]`, in that order.

        The tokens (B, K, T) are padded at the end of each row only. Padding does not affect the
        result. The mask (B, P) is False at ignored positions of memory (B, P, D).
        """

    @abstractmethod
    def attention(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the weights of the memory positions, (B, K, T, P), without gradients.

        The arguments are those of `forward`. The weights at t are those of the position that reads
        token t and predicts the next one. They sum to 1, or are 0 at padding.
        """

    @abstractmethod
    def start(
        self, memory: Tensor, rows: int, length: int, mask: Tensor | None = None
    ) -> DecoderCache:
        """Return a cache with space for `length` steps of B * K `rows`; mask as in `forward`."""

    @abstractmethod
    def admit(self, memory: Tensor, cache: Any, places: Tensor) -> None:
        """Put other images, with memory (n, P, D), in these places (n,) of the cache."""

    @abstractmethod
    def step(self, tokens: Tensor, cache: Any) -> Tensor:
        """Return the logits (B, K, V) after the last token of each row, tokens (B, K)."""

    def logits(self, x: Tensor) -> Tensor:
        """Map hidden states (..., D) to logits (..., V)."""
        x = self.layer_norm(x)
        return F.linear(x, self.embed_tokens.weight) if self._head is None else self._head(x)

    def replace_head(self, head: nn.Module) -> None:
        """Compute logits from normalized states by this module, for inference."""
        self._head = head
