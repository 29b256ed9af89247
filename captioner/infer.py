"""A model and images to hypotheses: where the decoder's `step` meets the search.

Shapes: B images, K beams, P positions, C channels, D width; N questions, S tokens of a question.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captioner.config import AnswerConfig, DecodingConfig
from captioner.decoding import Hypothesis, Trie, beam_search, constrain, greedy_search, sample
from captioner.model.decoder import Cache
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, UNK


@torch.inference_mode()
def search(model: Seq2Seq, images: Tensor, config: DecodingConfig) -> list[list[Hypothesis]]:
    """The captions of each image, best first, from pixels (B, 3, H, W) or features (B, P, C)."""
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


@torch.inference_mode()
def answer(
    model: Seq2Seq,
    memory: Tensor,
    questions: Tensor,
    owners: Tensor,
    config: AnswerConfig,
    *,
    wanted: int | None = None,
    closed: Trie | None = None,
) -> list[list[Hypothesis]]:
    """The answers to each question, likeliest first; `logprob` is that of the whole answer.

    Question i, ids (N, S), is about image `owners[i]` of memory (B, P, D). Where only the first
    `wanted` matter, the search ends as soon as it has these. With `closed`, only its
    members can come: each token's probability is renormalised over what may follow, so those of
    all members sum to 1. None of them may be longer than the decoder has positions.
    """
    memory, mask = model.ask(memory, questions, owners)
    beams, length = config.beam_size, config.max_length if closed is None else closed.longest
    step, cache = _start(model, memory, beams, length, mask=mask, temperature=config.temperature)
    reorder = cache.reorder
    if closed is not None:
        step, reorder = constrain(step, reorder, closed)
    common = {"images": len(memory), "bos": BOS, "eos": EOS, "device": memory.device}
    common |= {"max_length": length, "length_penalty": 0.0}
    if beams == 1:
        return [[h] for h in greedy_search(step, **common)]
    return beam_search(step, reorder, beams=beams, stop="exact", wanted=wanted, **common)


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
    model: Seq2Seq,
    memory: Tensor,
    rows: int,
    max_length: int,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> tuple[Callable[[Tensor], Tensor], Cache]:
    """The step function that a search over the memory takes, and the cache behind it."""
    cache = model.decoder.start(memory, len(memory) * rows, max_length, mask)

    def step(tokens: Tensor) -> Tensor:
        logits = model.decoder.step(tokens, cache).float() / temperature
        logits[..., [PAD, UNK, BOS]] = float("-inf")  # never part of a text
        return logits

    return step, cache
