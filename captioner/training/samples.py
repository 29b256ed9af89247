"""Sample captions from a model in training.

Shapes: B images, K samples per image, L generated tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.backends.base import Backend, Memory
from captioner.decoding import greedy_search, sample


@torch.no_grad()
def sample_captions(
    backend: Backend,
    memories: Sequence[Memory],
    *,
    rows: int,
    max_length: int,
    temperature: float = 1.0,
    greedy: bool = False,
) -> Tensor:
    """Draw captions from the model's distribution, with torch's global generator.

    `temperature` divides the logits of the samples, not of the greedy caption.

    Returns:
        Tokens (B, K, L) with K = `rows`, padded after EOS. With `greedy`, the greedy
        caption follows as another row, (B, K + 1, L).
    """
    ids: dict[str, Any] = {"bos": backend.bos, "eos": backend.ends}
    pad = backend.pad
    state = backend.start(memories, rows=rows, room=max_length, temperature=temperature)
    draws = torch.rand(max_length, len(memories), rows, device=backend.device)
    samples: Tensor = sample(state.step, draws, **ids, pad=pad)
    if not greedy:
        return samples
    state = backend.start(memories, rows=1, room=max_length)
    best = greedy_search(
        state.step,
        images=len(memories),
        **ids,
        max_length=max_length,
        arrays=backend.arrays,
    )
    tokens = [hypotheses[0].tokens for hypotheses in best]
    longest = max(samples.shape[-1], *map(len, tokens))
    samples = torch.nn.functional.pad(samples, (0, longest - samples.shape[-1]), value=pad)
    padded = [row + [pad] * (longest - len(row)) for row in tokens]
    return torch.cat([samples, samples.new_tensor(padded)[:, None]], 1)
