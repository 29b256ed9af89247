"""Search for captions: beam search, samples and streams, on any backend.

Shapes: B images, K rows of an image (beams or samples), L generated tokens.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.backends.base import Backend, DecodingState, Memory
from captioner.config import DecodingConfig
from captioner.decoding import (
    Hypothesis,
    Sampler,
    beam_stream,
    choose_best,
    collect_hypotheses,
    generate_steps,
    greedy_search,
    length_normalization,
    sample,
)
from captioner.decoding.arrays import Array
from captioner.decoding.search import Choose
from captioner.generation.constraints import Constraints
from captioner.tokenizer import BOS, EOS, PAD

UNCONSTRAINED = Constraints()


def search_captions(
    backend: Backend,
    memories: Sequence[Memory],
    config: DecodingConfig,
    constraints: Constraints = UNCONSTRAINED,
) -> list[list[Hypothesis]]:
    """Return the captions of each image, best first (with sampling, one)."""
    return list(search_caption_stream(backend, [memories], config, constraints))


@torch.inference_mode()
def search_caption_stream(
    backend: Backend,
    batches: Iterable[Sequence[Memory]],
    config: DecodingConfig,
    constraints: Constraints = UNCONSTRAINED,
    *,
    rows: int = 1,
) -> Iterator[list[Hypothesis]]:
    """Yield the captions of each image in order, best first.

    In a beam search, images of a later batch take the places of finished ones: a batch is
    requested when there is room for it. With sampling, each image has `rows` captions.
    """
    if config.method == "sample":
        count = 0
        for memories in batches:
            yield from draw_captions(backend, memories, config, constraints, rows=rows, first=count)
            count += len(memories)
        return
    batches = iter(batches)
    memories = next(batches, ())
    if not memories:
        return
    room = 2 * config.max_length + 1
    state = backend.start(memories, rows=config.beam_size, room=room)
    stream = beam_stream(
        state.step,
        state.reorder,
        images=len(memories),
        beams=config.beam_size,
        bos=BOS,
        eos=EOS,
        max_length=config.max_length,
        length_penalty=config.length_penalty,
        length_form=config.length_form,
        groups=config.groups,
        diversity=config.diversity,
        rules=constraints.rules,
        required=constraints.required,
        admit=_Queue(state, batches).admit,
        device=backend.device,
    )
    finished: dict[int, list[Hypothesis]] = {}
    turn = 0
    for number, hypotheses in stream:
        finished[number] = hypotheses
        while turn in finished:
            yield finished.pop(turn)
            turn += 1


@torch.inference_mode()
def draw_captions(
    backend: Backend,
    memories: Sequence[Memory],
    config: DecodingConfig,
    constraints: Constraints = UNCONSTRAINED,
    *,
    rows: int,
    first: int = 0,
) -> list[list[Hypothesis]]:
    """Return `rows` samples of each image, in the order in which they were drawn.

    Row k of image b depends only on the seed, k and `first` + b, not on the batch.
    """
    sampler = _sampler(config, range(first, first + len(memories)), rows, backend.device)
    steps = _generate(backend, memories, config, constraints, sampler, rows=rows)
    score = length_normalization(config.length_penalty, config.length_form)
    return collect_hypotheses(list(steps), eos=EOS, score=score)


@torch.inference_mode()
def stream_tokens(
    backend: Backend,
    memory: Memory,
    config: DecodingConfig,
    constraints: Constraints = UNCONSTRAINED,
    *,
    temperature: float = 1.0,
) -> Iterator[int]:
    """Yield the tokens of one text as they are generated, without EOS.

    Each is the most likely next token, or is drawn (`config.method` is `sample`). `memory` is that
    of an image or a question; `temperature` divides the logits before the sampling temperature.
    """
    sampling = config.method == "sample"
    choose = _sampler(config, range(1), 1, backend.device) if sampling else choose_best
    steps = _generate(backend, [memory], config, constraints, choose, temperature=temperature)
    for tokens, logprobs in steps:
        if tokens.item() == EOS or logprobs.item() == float("-inf"):
            return
        yield int(tokens.item())


def _generate(
    backend: Backend,
    memories: Sequence[Memory],
    config: DecodingConfig,
    constraints: Constraints,
    choose: Choose,
    *,
    rows: int = 1,
    temperature: float = 1.0,
) -> Iterator[tuple[Tensor, Tensor]]:
    length, rules = config.max_length, constraints.rules
    state = backend.start(memories, rows=rows, room=length, temperature=temperature)
    options = {"images": len(memories), "rows": rows, "bos": BOS, "eos": EOS, "max_length": length}
    return generate_steps(state.step, choose, **options, rules=rules, device=backend.device)


@torch.no_grad()
def sample_captions(
    backend: Backend,
    memories: Sequence[Memory],
    *,
    rows: int,
    max_length: int,
    greedy: bool = False,
) -> Tensor:
    """Draw captions from the model's own distribution, with torch's global generator.

    Returns:
        Tokens (B, K, L) with K = `rows`, padded with PAD after EOS. With `greedy`, the greedy
        caption follows as another row, (B, K + 1, L).
    """
    limits: dict[str, Any] = {"images": len(memories), "bos": BOS, "eos": EOS}
    limits |= {"max_length": max_length, "device": backend.device}
    state = backend.start(memories, rows=rows, room=max_length)
    samples = sample(state.step, rows=rows, pad=PAD, **limits)
    if not greedy:
        return samples
    state = backend.start(memories, rows=1, room=max_length)
    best = greedy_search(state.step, **limits)
    tokens = [hypotheses[0].tokens for hypotheses in best]
    longest = max(samples.shape[-1], *map(len, tokens))
    samples = torch.nn.functional.pad(samples, (0, longest - samples.shape[-1]), value=PAD)
    padded = [row + [PAD] * (longest - len(row)) for row in tokens]
    return torch.cat([samples, samples.new_tensor(padded)[:, None]], 1)


def _sampler(config: DecodingConfig, images: Iterable[int], rows: int, device: Any) -> Sampler:
    """Return a sampler with the random numbers of each row of these images."""
    draws = [[_uniform(config, image, row) for row in range(rows)] for image in images]
    return Sampler(
        torch.tensor(draws, dtype=torch.float64, device=device).permute(2, 0, 1),  # (L, B, K)
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
    )


def _uniform(config: DecodingConfig, image: int, row: int) -> list[float]:
    generator = random.Random(f"sample {config.seed} {image} {row}")
    return [generator.random() for _ in range(config.max_length)]


class _Queue:
    """Memories of images that wait for a place in a running search."""

    def __init__(self, state: DecodingState, batches: Iterator[Sequence[Memory]]) -> None:
        self.state, self.batches = state, batches
        self.waiting: deque[Memory] = deque()

    def admit(self, places: Array) -> int:
        """Fill the first of these places; return how many images there were for them."""
        while len(self.waiting) < len(places) and (memories := next(self.batches, ())):
            self.waiting.extend(memories)
        count = min(len(places), len(self.waiting))
        if count:
            self.state.admit([self.waiting.popleft() for _ in range(count)], places[:count])
        return count
