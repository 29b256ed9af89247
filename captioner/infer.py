"""A model and images to hypotheses: where the decoder's `step` meets the search.

Shapes: B images, K beams, P positions, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.config import DecodingConfig
from captioner.decoding import Hypothesis, beam_search, greedy_search
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, UNK


@torch.inference_mode()
def search(model: Seq2Seq, images: Tensor, config: DecodingConfig) -> list[list[Hypothesis]]:
    """The hypotheses of each image, best first, from pixels (B, 3, H, W) or features (B, P, C)."""
    memory = model.encode(images)
    beams = config.beam_size
    cache = model.decoder.start(memory, len(memory) * beams, config.max_length)

    def step(tokens: Tensor) -> Tensor:
        logits = model.decoder.step(tokens, cache).float()
        logits[..., [PAD, UNK, BOS]] = float("-inf")  # never part of a caption
        return logits

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
