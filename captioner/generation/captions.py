"""Models and images to hypotheses: where the decoders' `step` meets the search.

Several models are an ensemble: a token's probability is the mean of theirs. They share one
vocabulary, and each has its own memory of an image.

Shapes: B images, K rows of an image (beams or samples), P positions, C channels, D width;
N questions, S tokens of a question, T tokens of a text, V vocabulary.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.config import AnswerConfig, DecodingConfig
from captioner.decoding import (
    Hypothesis,
    Sampler,
    Trie,
    beam_search,
    beam_stream,
    choose_best,
    collect_hypotheses,
    constrain_to_trie,
    generate_steps,
    greedy_search,
    length_normalization,
    sample,
)
from captioner.generation.constraints import Constraints
from captioner.model.decoder import Decoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD

Models = Sequence[Seq2Seq]
FREE = Constraints()
SPECIAL = slice(PAD, EOS)
"""PAD, UNK and BOS are never part of a text."""


@torch.inference_mode()
def encode(models: Models, images: Sequence[Tensor]) -> list[Tensor]:
    """Each model's memory (B, P, D) of its images: pixels (B, 3, H, W), or features (B, P, C)."""
    return [model.encode(pixels) for model, pixels in zip(models, images, strict=True)]


def search(
    models: Models,
    images: Sequence[Tensor],
    config: DecodingConfig,
    constraints: Constraints = FREE,
) -> list[list[Hypothesis]]:
    """The captions of each image, best first (of sampling, one); images as in `encode`."""
    return list(search_stream(models, [images], config, constraints))


@torch.inference_mode()
def search_stream(
    models: Models,
    batches: Iterable[Sequence[Tensor]],
    config: DecodingConfig,
    constraints: Constraints = FREE,
    *,
    rows: int = 1,
) -> Iterator[list[Hypothesis]]:
    """As `search`, for batch after batch, in order; a batch is encoded when there is room for it.

    In a beam search, images of a later batch take the places of those that are done. Of sampling,
    `rows` captions of each image come.
    """
    if config.method == "sample":
        count = 0
        for images in batches:
            found = draw(models, images, config, constraints, rows=rows, first=count)
            count += len(found)
            yield from found
        return
    queue = _Queue(models, batches)
    memories = queue.batch()
    if not memories:
        return
    steps = _Steps(models, memories, rows=config.beam_size, room=2 * config.max_length + 1)

    def admit(places: Tensor) -> int:
        memories = queue.take(len(places))
        count = len(memories[0]) if memories else 0
        if count:
            steps.admit(memories, places[:count])
        return count

    stream = beam_stream(
        steps.step,
        steps.reorder,
        images=len(memories[0]),
        beams=config.beam_size,
        length_penalty=config.length_penalty,
        length_form=config.length_form,
        groups=config.groups,
        diversity=config.diversity,
        required=constraints.must,
        admit=admit,
        **_common(config, constraints, memories),
    )
    early, turn = {}, 0
    for number, found in stream:
        early[number] = found
        while turn in early:
            yield early.pop(turn)
            turn += 1


@torch.inference_mode()
def draw(
    models: Models,
    images: Sequence[Tensor],
    config: DecodingConfig,
    constraints: Constraints = FREE,
    *,
    rows: int,
    first: int = 0,
) -> list[list[Hypothesis]]:
    """So many samples of each image, in the order of the draws; images as in `encode`.

    Row k of image b depends on nothing but the seed, k and `first` + b.
    """
    memories = encode(models, images)
    steps = _Steps(models, memories, rows=rows, room=config.max_length)
    numbers = range(first, first + len(memories[0]))
    choose = _sampler(config, numbers, rows, memories[0].device)
    found = generate_steps(
        steps.step,
        choose,
        images=len(numbers),
        rows=rows,
        **_common(config, constraints, memories),
    )
    return collect_hypotheses(
        list(found), eos=EOS, score=length_normalization(config.length_penalty, config.length_form)
    )


@torch.inference_mode()
def spell(
    models: Models,
    memories: Sequence[Tensor],
    config: DecodingConfig,
    constraints: Constraints = FREE,
    *,
    masks: Sequence[Tensor | None] | None = None,
    temperature: float = 1.0,
) -> Iterator[int]:
    """The tokens of one text, as they are found: the likeliest each, or those that are drawn."""
    steps = _Steps(
        models, memories, rows=1, room=config.max_length, masks=masks, temperature=temperature
    )
    choose = choose_best
    if config.method == "sample":
        choose = _sampler(config, range(1), 1, memories[0].device)
    common = _common(config, constraints, memories)
    for tokens, logprobs in generate_steps(steps.step, choose, images=1, rows=1, **common):
        if tokens.item() == EOS or logprobs.item() == float("-inf"):
            return
        yield tokens.item()


@torch.inference_mode()
def answer(
    models: Models,
    memories: Sequence[Tensor],
    questions: Tensor,
    owners: Tensor,
    config: AnswerConfig,
    *,
    wanted: int | None = None,
    closed: Trie | None = None,
) -> list[list[Hypothesis]]:
    """The answers to each question, likeliest first; `logprob` is that of the whole answer.

    Question i, ids (N, S), is about image `owners[i]` of each memory (B, P, D). Where only the
    first `wanted` matter, the search ends as soon as it has these. With `closed`, only its
    members can come: each token's probability is renormalised over what may follow, so those of
    all members sum to 1. None of them may be longer than the decoder has positions.
    """
    memories, masks = ask(models, memories, questions, owners)
    beams, length = config.beam_size, config.max_length if closed is None else closed.longest
    steps = _Steps(
        models, memories, rows=beams, room=length, masks=masks, temperature=config.temperature
    )
    step, reorder = steps.step, steps.reorder
    if closed is not None:
        step, reorder = constrain_to_trie(step, reorder, closed)
    common = {"images": len(questions), "bos": BOS, "eos": EOS, "device": questions.device}
    common |= {"max_length": length, "length_penalty": 0.0}
    if beams == 1:
        return greedy_search(step, **common)
    return beam_search(step, reorder, beams=beams, stop="exact", num_return=wanted, **common)


def ask(
    models: Models, memories: Sequence[Tensor], questions: Tensor, owners: Tensor
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Each model's memory of the questions (N, S) about its images, and its mask."""
    pairs = zip(models, memories, strict=True)
    found = [model.fuse_questions(memory, questions, owners) for model, memory in pairs]
    return [memory for memory, _ in found], [mask for _, mask in found]


@torch.inference_mode()
def score_texts(
    models: Models,
    memories: Sequence[Tensor],
    texts: Tensor,
    *,
    masks: Sequence[Tensor | None] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The log-probabilities (B, K, T) of the tokens of given texts (B, K, T), 0 at padding.

    Texts end in EOS where they are whole; what a search found has here the sum that it has there.
    """
    places, tokens = texts != PAD, _inputs(texts)
    each = [
        _writable(decoder(memory, tokens, mask), temperature)
        for decoder, memory, mask in _decoders(models, memories, masks)
    ]
    logprobs = _mean(each).log_softmax(-1)
    found = logprobs.gather(-1, texts[places][:, None])[:, 0]
    return found.new_zeros(texts.shape).masked_scatter(places, found)


@torch.inference_mode()
def attention(
    models: Models,
    memories: Sequence[Tensor],
    texts: Tensor,
    *,
    masks: Sequence[Tensor | None] | None = None,
) -> list[Tensor]:
    """Where each model looks in its memory to write given texts (B, K, T): (B, K, T, P) of each.

    The weights at t are those of the position that predicts token t of the text, having read what
    comes before it; 0 at padding.
    """
    return [
        decoder.attention(memory, _inputs(texts), mask)
        for decoder, memory, mask in _decoders(models, memories, masks)
    ]


def _decoders(
    models: Models, memories: Sequence[Tensor], masks: Sequence[Tensor | None] | None
) -> list[tuple[Decoder, Tensor, Tensor | None]]:
    """Each model's decoder, of answers where there are masks, with its memory and the mask."""
    decoders = [model.decoder_for(answers=masks is not None) for model in models]
    return list(zip(decoders, memories, masks or [None] * len(models), strict=True))


def _inputs(texts: Tensor) -> Tensor:
    """What the decoder reads to predict each token of texts (B, K, T): BOS and all but the last."""
    start = torch.full_like(texts[..., :1], BOS)
    return torch.cat([start, texts[..., :-1]], -1).masked_fill(texts == PAD, PAD)


@torch.no_grad()
def sample_captions(
    model: Seq2Seq, images: Tensor, *, rows: int, max_length: int, greedy: bool = False
) -> Tensor:
    """Tokens (B, K, L) of K = `rows` captions drawn for each image; EOS ends one, PAD follows.

    With `greedy`, the likeliest caption follows them as another row.
    """
    memory = model.encode(images)
    common = {"images": len(memory), "bos": BOS, "eos": EOS, "max_length": max_length}
    common |= {"device": memory.device}
    steps = _Steps([model], [memory], rows=rows, room=max_length)
    found = sample(steps.step, rows=rows, pad=PAD, **common)
    if not greedy:
        return found
    steps = _Steps([model], [memory], rows=1, room=max_length)
    best = [x[0].tokens for x in greedy_search(steps.step, **common)]
    longest = max(found.shape[-1], *map(len, best))
    found = torch.nn.functional.pad(found, (0, longest - found.shape[-1]), value=PAD)
    best = [row + [PAD] * (longest - len(row)) for row in best]
    return torch.cat([found, found.new_tensor(best)[:, None]], 1)


def _common(
    config: DecodingConfig, constraints: Constraints, memories: Sequence[Tensor]
) -> dict[str, Any]:
    """What every search is given."""
    common = {"bos": BOS, "eos": EOS, "max_length": config.max_length, "rules": constraints.rules}
    return common | {"device": memories[0].device}


def _sampler(
    config: DecodingConfig, images: Iterable[int], rows: int, device: torch.device
) -> Sampler:
    """Draws for the rows of these images."""
    draws = [[_uniform(config, image, row) for row in range(rows)] for image in images]
    return Sampler(
        torch.tensor(draws, dtype=torch.float64, device=device).permute(2, 0, 1),
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
    )


def _uniform(config: DecodingConfig, image: int, row: int) -> list[float]:
    generator = random.Random(f"sample {config.seed} {image} {row}")
    return [generator.random() for _ in range(config.max_length)]


def _writable(logits: Tensor, temperature: float) -> Tensor:
    """Logits (..., V) of what may stand in a text; those that are given may be written to."""
    logits = logits.float()
    logits[..., SPECIAL] = float("-inf")
    return logits / temperature if temperature != 1 else logits


def _mean(members: Sequence[Tensor]) -> Tensor:
    """Logits of the mean of the members' probabilities."""
    if len(members) == 1:
        return members[0]  # whoever reads them normalises them
    each = torch.stack([logits.log_softmax(-1) for logits in members])
    return each.logsumexp(0) - math.log(len(members))


class _Steps:
    """The decoders of all models as one `step`, and the caches behind it."""

    def __init__(
        self,
        models: Models,
        memories: Sequence[Tensor],
        *,
        rows: int,
        room: int,
        masks: Sequence[Tensor | None] | None = None,
        temperature: float = 1.0,
    ) -> None:
        found = _decoders(models, memories, masks)
        self.decoders, self.temperature = [decoder for decoder, _, _ in found], temperature
        self.caches = [
            decoder.start(memory, len(memory) * rows, room, mask) for decoder, memory, mask in found
        ]

    def step(self, tokens: Tensor) -> Tensor:
        """Logits (B, K, V) after tokens (B, K)."""
        pairs = zip(self.decoders, self.caches, strict=True)
        logits = (decoder.step(tokens, cache) for decoder, cache in pairs)
        return _mean([_writable(x, self.temperature) for x in logits])

    def reorder(self, rows: Tensor) -> None:
        for cache in self.caches:
            cache.reorder(rows)

    def admit(self, memories: Sequence[Tensor], places: Tensor) -> None:
        """Other images in these places."""
        for decoder, memory, cache in zip(self.decoders, memories, self.caches, strict=True):
            decoder.admit(memory, cache, places)


class _Queue:
    """Batches of images, encoded when they are asked for, in parts of any size."""

    def __init__(self, models: Models, batches: Iterable[Sequence[Tensor]]) -> None:
        self.models, self.batches = models, iter(batches)
        self.waiting: deque[tuple[Tensor, ...]] = deque()

    def batch(self) -> list[Tensor]:
        """The memories (B, P, D) of the next batch; nothing at the end."""
        images = next(self.batches, None)
        return [] if images is None else encode(self.models, images)

    def take(self, count: int) -> list[Tensor]:
        """The memories of so many of the next images, or of those that there are."""
        while len(self.waiting) < count and (memories := self.batch()):
            self.waiting.extend(zip(*(memory.split(1) for memory in memories), strict=True))
        chosen = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        return [torch.cat(parts) for parts in zip(*chosen, strict=True)]
