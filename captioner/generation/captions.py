"""Search for captions: beam search, samples and streams, on any backend.

Shapes: B images, K rows of an image (beams or samples), L generated tokens.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from captioner.backends.base import Backend, DecodingState, Memory
from captioner.backends.grouping import group_by_layout, map_groups
from captioner.config import DecodingConfig
from captioner.decoding import (
    Hypothesis,
    Sampler,
    beam_stream,
    choose_best,
    collect_hypotheses,
    generate_steps,
    length_normalization,
)
from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.rules import NEVER
from captioner.decoding.search import Choose
from captioner.errors import CaptionerError
from captioner.generation.constraints import Constraints
from captioner.generation.search_rules import rules_of_model

UNCONSTRAINED = Constraints()
_Item = TypeVar("_Item")


def search_captions(
    backend: Backend,
    memories: Sequence[Memory],
    config: DecodingConfig,
    constraints: Constraints = UNCONSTRAINED,
) -> list[list[Hypothesis]]:
    """Return the captions of each image, best first (with sampling, one)."""
    return list(search_caption_stream(backend, [memories], config, constraints))


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
    requested when there is room for it. With sampling, each image has `rows` captions. A backend
    that does not admit images to a running search decodes each batch by itself.
    """
    if config.method == "sample":
        captions = _draw_batches(backend, batches, config, constraints, rows=rows)
    elif backend.admits:
        captions = _search_batches(backend, iter(batches), config, constraints)
    else:
        captions = _search_each_batch(backend, batches, config, constraints)
    return _infer(backend, captions)


def _infer(backend: Backend, items: Iterator[_Item]) -> Iterator[_Item]:
    """Compute each item in the inference context, which does not extend to the caller's code."""
    while True:
        with backend.inference():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _draw_batches(
    backend: Backend,
    batches: Iterable[Sequence[Memory]],
    config: DecodingConfig,
    constraints: Constraints,
    *,
    rows: int,
) -> Iterator[list[Hypothesis]]:

    def draw(group: list[tuple[int, Memory]]) -> list[list[Hypothesis]]:
        numbers, memories = zip(*group, strict=True)
        return draw_captions(backend, memories, config, constraints, rows=rows, numbers=numbers)

    count = 0
    for memories in batches:
        numbered = list(enumerate(memories, count))
        yield from map_groups(numbered, _group(backend, memories), draw)
        count += len(memories)


def _search_each_batch(
    backend: Backend,
    batches: Iterable[Sequence[Memory]],
    config: DecodingConfig,
    constraints: Constraints,
) -> Iterator[list[Hypothesis]]:
    """Yield the captions of batches whose memories may have different layouts."""

    def search(group: list[Memory]) -> Iterator[list[Hypothesis]]:
        return _search_batches(backend, iter([group]), config, constraints)

    for memories in batches:
        yield from map_groups(memories, _group(backend, memories), search)


def _group(backend: Backend, memories: Sequence[Memory]) -> list[list[int]]:
    """Return the places of the memories that can be decoded together."""
    return [[*range(len(memories))]] if backend.admits else group_by_layout(memories)


def _search_batches(
    backend: Backend,
    batches: Iterator[Sequence[Memory]],
    config: DecodingConfig,
    constraints: Constraints,
) -> Iterator[list[Hypothesis]]:
    memories = next(batches, ())
    if not memories:
        return
    room = 2 * config.max_length + 1 if backend.admits else config.max_length
    state = backend.start(memories, rows=config.beam_size, room=room)
    own = rules_of_model(state, config.repetition_penalty, greedy=config.beam_size == 1)
    stream = beam_stream(
        state.step,
        state.reorder,
        images=len(memories),
        beams=config.beam_size,
        bos=backend.bos,
        eos=backend.ends,
        max_length=config.max_length,
        length_penalty=config.length_penalty,
        length_form=config.length_form,
        groups=config.groups,
        diversity=config.diversity,
        rules=(*own, *constraints.rules),
        required=constraints.required,
        admit=_Queue(state, batches).admit,
        arrays=backend.arrays,
    )
    finished: dict[int, list[Hypothesis]] = {}
    turn = 0
    for number, hypotheses in stream:
        finished[number] = hypotheses
        while turn in finished:
            yield finished.pop(turn)
            turn += 1


def draw_captions(
    backend: Backend,
    memories: Sequence[Memory],
    config: DecodingConfig,
    constraints: Constraints = UNCONSTRAINED,
    *,
    rows: int,
    numbers: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """Return `rows` samples of each image, in the order in which they were drawn.

    Row k of image b depends only on the seed, k and `numbers[b]` (b itself by default), not on the
    batch.
    """
    numbers = range(len(memories)) if numbers is None else numbers
    sampler = _sampler(config, numbers, rows, backend.arrays)
    score = length_normalization(config.length_penalty, config.length_form)
    with backend.inference():
        steps = list(_generate(backend, memories, config, constraints, sampler, rows=rows))
        return collect_hypotheses(steps, eos=backend.ends, score=score)


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

    Raises:
        CaptionerError: The options allow no token that can continue the text; raised as soon as
            the search reaches this point, by `next`.
    """
    sampling = config.method == "sample"
    choose = _sampler(config, range(1), 1, backend.arrays) if sampling else choose_best
    steps = _generate(backend, [memory], config, constraints, choose, temperature=temperature)
    for tokens, logprobs in _infer(backend, steps):
        token = int(tokens.item())
        if logprobs.item() == NEVER:
            raise describe_failure("text", config.max_length)
        if token in backend.ends:
            return
        yield token


def describe_failure(text: str, max_length: int) -> CaptionerError:
    """Return the error of a search that ends without a text; `text` is "caption" or "text"."""
    return CaptionerError(
        f"no {text} of at most {max_length} tokens satisfies all options; allow more tokens or"
        " beams, or remove an option"
    )


def _generate(
    backend: Backend,
    memories: Sequence[Memory],
    config: DecodingConfig,
    constraints: Constraints,
    choose: Choose,
    *,
    rows: int = 1,
    temperature: float = 1.0,
) -> Iterator[tuple[Array, Array]]:
    length = config.max_length
    state = backend.start(memories, rows=rows, room=length, temperature=temperature)
    own = rules_of_model(state, config.repetition_penalty, greedy=True)
    yield from generate_steps(
        state.step,
        choose,
        images=len(memories),
        rows=rows,
        bos=backend.bos,
        eos=backend.ends,
        max_length=length,
        rules=(*own, *constraints.rules),
        arrays=backend.arrays,
    )


def _sampler(config: DecodingConfig, images: Iterable[int], rows: int, arrays: Arrays) -> Sampler:
    """Return a sampler with the random numbers of each row of these images."""
    draws = [[_uniform(config, image, row) for row in range(rows)] for image in images]
    return Sampler(
        arrays.asarray(np.array(draws).transpose(2, 0, 1)),  # (L, B, K)
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
