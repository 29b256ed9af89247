"""The state of a search on ONNX graphs: the decoders of all members as one step.

Shapes: B images, K rows (hypotheses) per image, T tokens of a text, P memory positions, D width, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from captioner.backends.encoder_outputs import EncoderOutputs
from captioner.decoding.numpy_arrays import NUMPY
from captioner.tokenizer import BOS, PAD, SPECIAL


class MemberState(Protocol):
    """The state of one member's decoder in a search."""

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits (B, K, V) after tokens (B, K)."""

    def reorder(self, rows: np.ndarray) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""

    def admit(self, memory: np.ndarray, places: np.ndarray) -> None:
        """Put other images, with memory (n, P, D) without padding, in these places (n,)."""


class MemberDecoder(Protocol):
    """One member's decoder, and the memory that it attends to."""

    def start(self, rows: int) -> MemberState:
        """Begin a search with `rows` hypotheses of each image."""

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits (B, K, T, V) after each token (B, K, T)."""

    def attend(self, tokens: np.ndarray) -> np.ndarray:
        """Return the weights of the memory (B, K, T, P) for each token (B, K, T)."""


class OnnxDecodingState:
    """The decoders of all members as one `step`."""

    def __init__(self, members: Sequence[MemberState], *, temperature: float) -> None:
        self.members, self.temperature = members, temperature

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits (B, K, V) after tokens (B, K)."""
        logits = (member.step(tokens) for member in self.members)
        return average_logits([mask_special(x, self.temperature) for x in logits])

    def reorder(self, rows: np.ndarray) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""
        for member in self.members:
            member.reorder(rows)

    def admit(self, memories: Sequence[EncoderOutputs], places: np.ndarray) -> None:
        """Replace the images at `places` (n,)."""
        states = EncoderOutputs.join(memories).states
        for member, memory in zip(self.members, states, strict=True):
            member.admit(memory, places)


def split_texts(texts: np.ndarray, *, limit: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some of the K texts (B, K, T) at a time, and the tokens that a decoder reads for them.

    It reads BOS and all tokens but the last. At most `limit` tokens of an image are read at a time,
    but at least one text.

    Yields:
        The texts as a slice of K, and the tokens (B, texts, T).
    """
    count, length = texts.shape[1:]
    read = np.concatenate([np.full_like(texts[..., :1], BOS), texts[..., :-1]], -1)
    read[texts == PAD] = PAD
    size = max(1, limit // max(1, length))
    for first in range(0, count, size):
        part = slice(first, min(first + size, count))
        yield part, read[:, part]


def mask_special(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return logits (..., V) with -inf at special tokens; may change its argument."""
    logits[..., SPECIAL] = -np.inf
    return logits / np.float32(temperature) if temperature != 1 else logits


def average_logits(members: Sequence[np.ndarray]) -> np.ndarray:
    """Return logits of the mean of the members' probabilities, from logits (..., V) of each."""
    if len(members) == 1:
        return members[0]  # callers normalize
    logprobs = np.stack([NUMPY.log_softmax(logits) for logits in members])
    peak = logprobs.max(0)  # small probabilities would be rounded to 0
    peak[..., SPECIAL] = 0
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logprobs - peak).mean(0)) + peak  # type: ignore[no-any-return]
