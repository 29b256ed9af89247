"""A model and images to hypotheses: where the decoder's `step` meets the search.

Shapes: B images, K beams, P positions, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captioner.config import DecodingConfig
from captioner.decoding import Hypothesis, beam_search, greedy_search, sample
from captioner.model.decoder import Cache
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, UNK


@torch.inference_mode()
def search(model: Seq2Seq, images: Tensor, config: DecodingConfig) -> list[list[Hypothesis]]:
    """The hypotheses of each image, best first, from pixels (B, 3, H, W) or features (B, P, C)."""
    memory = model.encode(images)
    beams = config.beam_size
    step, cache = _start(model, memory, beams, config.max_length)
    common = {
        "images": len(memory),
        "bos": BOS,
        "eos": EOS,
        "max_length": config.max_length,
        "length_penalty": config.length_penalty,
        "device": memory.device,
    }
    if beams == 1:
        return [[h] for h in greedy_search(step, **common)]
    return beam_search(step, cache.reorder, beams=beams, **common)


@torch.no_grad()
def sample_captions(model: Seq2Seq, images: Tensor, *, rows: int, max_length: int) -> Tensor:
    """Tokens (B, K, L) of K = `rows` captions drawn for each image; EOS ends one, PAD follows."""
    memory = model.encode(images)
    step, _ = _start(model, memory, rows, max_length)
    return sample(
        step,
        images=len(memory),
        rows=rows,
        bos=BOS,
        eos=EOS,
        pad=PAD,
        max_length=max_length,
        device=memory.device,
    )


def _start(
    model: Seq2Seq, memory: Tensor, rows: int, max_length: int
) -> tuple[Callable[[Tensor], Tensor], Cache]:
    """The step function that a search over the memory takes, and the cache behind it."""
    cache = model.decoder.start(memory, len(memory) * rows, max_length)

    def step(tokens: Tensor) -> Tensor:
        logits = model.decoder.step(tokens, cache).float()
        logits[..., [PAD, UNK, BOS]] = float("-inf")  # never part of a caption
        return logits

    return step, cache
