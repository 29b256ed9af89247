"""Small decoders of each architecture with random weights, and their inputs."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor

from captioner.model.decoder import Decoder
from captioner.model.lstm_decoder import LSTMDecoder
from captioner.model.transformer_decoder import TransformerDecoder

VOCAB, WIDTH, PAD, LONGEST = 23, 12, 0, 9
SIZES = {"width": WIDTH, "max_length": LONGEST, "pad": PAD}
DecoderT = TypeVar("DecoderT", bound=Decoder)
LENGTHS = [[3, 7, 1], [7, 2, 5]]


@pytest.fixture
def nan_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill uninitialized memory with NaN, so that reading it changes a result."""
    monkeypatch.setattr(
        Tensor, "new_empty", lambda x, size, **how: x.new_full(size, float("nan"), **how)
    )


def make_decoder(
    *, layers: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64
) -> TransformerDecoder:
    """Return a decoder without default weights, so that every weight affects the result."""
    torch.manual_seed(seed)
    return _shake(TransformerDecoder(VOCAB, heads=3, ffn=20, layers=layers, **SIZES), dtype)


def make_lstm(*, layers: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> LSTMDecoder:
    """Return an LSTM decoder without default weights."""
    torch.manual_seed(seed)
    return _shake(LSTMDecoder(VOCAB, layers=layers, **SIZES), dtype)


def _shake(decoder: DecoderT, dtype: torch.dtype) -> DecoderT:
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.4)
    return decoder.to(dtype).eval()


def make_memory(images: int, positions: int = 5) -> Tensor:
    return torch.randn(images, positions, WIDTH, dtype=torch.float64)


def make_tokens(lengths: list[list[int]], width: int | None = None) -> Tensor:
    """Return random tokens (B, K, T), padded after the given lengths."""
    longest = max(max(row) for row in lengths)
    tokens = torch.randint(1, VOCAB, (len(lengths), len(lengths[0]), width or longest))
    steps = torch.arange(tokens.shape[-1])
    return tokens.masked_fill(steps >= torch.tensor(lengths)[..., None], PAD)


def spread(logits: Tensor, tokens: Tensor) -> Tensor:
    """Unpack logits to (B, K, T, V), zero at padding."""
    out = logits.new_zeros(*tokens.shape, logits.shape[-1])
    out[tokens != PAD] = logits
    return out
