"""Score given texts: their log-probabilities as captions of an image or answers to a question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.backends.base import Backend, Memory
from captioner.tokenizer import PAD


def score_texts(
    backend: Backend, memory: Memory, texts: Sequence[Sequence[int]], *, temperature: float = 1.0
) -> list[float]:
    """Return the summed log-probability of each text, token ids that end in EOS.

    `memory` is that of an image or a question; `temperature` divides the logits.
    """
    tokens = np.full((1, len(texts), max(map(len, texts), default=0)), PAD)
    for row, text in zip(tokens[0], texts, strict=True):
        row[: len(text)] = text
    totals = backend.score([memory], tokens, temperature=temperature).sum(-1)
    return [float(total) for total in totals[0]]
