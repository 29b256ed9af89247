"""A model, its tokenizer and its configuration, ready for use.

Shapes: B images, P memory positions, D width, N questions, S tokens of a question.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from captioner.build import load_checkpoint, pixel_spec
from captioner.config import Config, DecodingConfig
from captioner.errors import CaptionerError, ImageError, QuestionError
from captioner.images import load_image
from captioner.infer import answer, search
from captioner.model.seq2seq import Seq2Seq
from captioner.predict.asking import (
    Asking,
    ClosedSet,
    batches,
    encode_question,
    identity,
    read_rows,
)
from captioner.predict.results import Answers, Caption, Encoded, Result
from captioner.tokenizer import Tokenizer
from captioner.transforms import to_pixels

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CLOSED_SETS = 8
"""How many closed answer sets a captioner remembers."""


def load(checkpoint: str | Path = "bundled", **kwargs: Any) -> Captioner:
    """A captioner from a checkpoint folder; see `Captioner` for the keyword arguments.

    Raises CheckpointError when the folder holds no checkpoint or one that does not fit.
    """
    return Captioner(*load_checkpoint(checkpoint), **kwargs)


class Captioner:
    """A model ready for use on one device.

    `dtype` is that of weights and arithmetic: float32 (default), bfloat16 or float16.
    """

    def __init__(
        self,
        model: Seq2Seq,
        tokenizer: Tokenizer,
        config: Config,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise CaptionerError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        try:
            self.device = torch.device(device)
            model = model.to(self.device, DTYPES[dtype], memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise CaptionerError(f"device {device!r} cannot be used: {reason}") from None
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config
        self.dtype, self.spec = DTYPES[dtype], pixel_spec(config)
        closed = partial(ClosedSet, tokenizer=tokenizer, config=config)
        self._closed_set = lru_cache(CLOSED_SETS)(closed)

    def caption(
        self,
        images: Sequence[Any] | Any,
        *,
        beam_size: int | None = None,
        num_captions: int = 1,
        batch_size: int = 16,
        max_length: int | None = None,
        length_penalty: float | None = None,
    ) -> list[Result]:
        """A result per image (path, bytes, PIL image or array), in their order.

        An image that cannot be read has its `ImageError` in the place of captions, and takes
        nothing from the others. Unset parameters are those of the checkpoint's configuration.
        """
        if _is_one_image(images):
            images = [images]
        options = {
            "beam_size": beam_size,
            "max_length": max_length,
            "length_penalty": length_penalty,
        }
        return list(
            self.caption_stream(images, num_captions=num_captions, batch_size=batch_size, **options)
        )

    def caption_stream(
        self,
        images: Iterable[Any],
        *,
        num_captions: int = 1,
        batch_size: int = 16,
        **options: int | float | None,
    ) -> Iterator[Result]:
        """As `caption`, from an iterable of any length: one batch is held in memory at a time."""
        decoding = self._decoding(num_captions, **options)
        _check_batch_size(batch_size)
        batch: list[Tensor | ImageError] = []
        for image in images:
            batch.append(self._pixels(image))
            if len(batch) == batch_size:
                yield from self._results(batch, decoding, num_captions)
                batch = []
        if batch:
            yield from self._results(batch, decoding, num_captions)

    def encode(self, image: Any) -> Encoded:
        """An image, encoded once for all the questions that `ask` is given about it.

        Raises ImageError; CaptionerError for a checkpoint that captions only.
        """
        self._check_questions()
        (memory,) = self._encode([image])
        if isinstance(memory, ImageError):
            raise memory
        return Encoded(memory, self.model)

    def ask(
        self,
        image: Any,
        question: str,
        *,
        answers: Sequence[str] | None = None,
        num_answers: int = 1,
        min_confidence: float = 0.0,
        beam_size: int | None = None,
    ) -> Answers:
        """The answers to one question about an image, or about what `encode` made of it.

        `answers` are the only ones that may come; of `CLOSED_BEAMS` or fewer, each gets its
        probability, and these sum to 1. They are compared as the training's answers were written
        down, and come back as they are given here; several of one meaning count as the first.
        At most `num_answers` come, likeliest first. Below `min_confidence` the text is `unsure`.

        Raises QuestionError, ImageError; CaptionerError for options that cannot be used and for a
        checkpoint that captions only.
        """
        asking = self._asking(
            answers=answers,
            num_answers=num_answers,
            min_confidence=min_confidence,
            beam_size=beam_size,
        )
        (found,) = self._answer_batch({0: (image, question)}, {}, asking).values()
        if found.error is not None:
            raise found.error
        return found

    def answer(self, rows: Iterable[tuple[Any, str]], **options: Any) -> list[Answers]:
        """Answers to each pair of an image and a question, in their order; see `answer_stream`."""
        return list(self.answer_stream(rows, **options))

    def answer_stream(
        self,
        rows: Iterable[tuple[Any, str]],
        *,
        batch_size: int = 16,
        **options: Any,
    ) -> Iterator[Answers]:
        """As `ask`, with its options, for many pairs of image and question, a batch at a time.

        Each image is read and encoded once, however often and wherever it recurs: all its
        questions are answered then, and what is early waits for its turn. A file is known by its
        path, anything else by being the same object. What is encoded is kept for a batch only.
        An image that cannot be read has its ImageError in the place of answers for each of its
        questions, a question that cannot be asked its QuestionError; neither takes anything from
        the others.
        """
        asking = self._asking(**options)
        _check_batch_size(batch_size)
        rows = read_rows(rows)
        memories: dict[str | int, Tensor | ImageError] = {}
        ready: dict[int, Answers] = {}
        turn = 0
        for places in batches((image for image, _ in rows), batch_size):
            ready |= self._answer_batch({p: rows[p] for p in places}, memories, asking)
            while turn in ready:
                yield ready.pop(turn)
                turn += 1

    def _answer_batch(
        self,
        rows: dict[int, tuple[Any, Any]],
        memories: dict[str | int, Tensor | ImageError],
        asking: Asking,
    ) -> dict[int, Answers]:
        """Answers to the rows; `memories` are then those of their images and no others."""
        found, questions = {}, {}
        for place, (_, question) in rows.items():
            try:
                ids = encode_question(question, tokenizer=self.tokenizer, config=self.config)
                questions[place] = torch.tensor(ids)
            except QuestionError as error:
                found[place] = Answers(error=error)
        owner = {place: identity(image) for place, (image, _) in rows.items()}
        for key in memories.keys() - owner.values():
            del memories[key]
        images = {owner[p]: rows[p][0] for p in questions if owner[p] not in memories}
        memories |= zip(images, self._encode(list(images.values())), strict=True)

        good = [key for key, memory in memories.items() if isinstance(memory, Tensor)]
        asked = [place for place in questions if owner[place] in good]
        found |= {p: Answers(error=memories[owner[p]]) for p in questions.keys() - asked}
        if not asked:
            return found
        ids = [questions[place] for place in asked]
        hypotheses = answer(
            self.model,
            torch.cat([memories[key] for key in good]),
            pad_sequence(ids, True, self.tokenizer.questions.pad).to(self.device),
            torch.tensor([good.index(owner[place]) for place in asked], device=self.device),
            asking.search,
            # Of several, some may turn out to be one text.
            wanted=1 if asking.count == 1 else None,
            closed=asking.closed.trie if asking.closed else None,
        )
        answers = (asking.answers(h, self.tokenizer) for h in hypotheses)
        return found | dict(zip(asked, answers, strict=True))

    def _asking(self, *, answers: Sequence[str] | None = None, **options: Any) -> Asking:
        self._check_questions()
        closed = None
        if answers is not None:
            if isinstance(answers, str):
                raise CaptionerError(f"answers={answers!r}: expected a list of texts")
            closed = self._closed_set(tuple(answers))
        return Asking.of(self.config.answers, closed=closed, **options)

    def _check_questions(self) -> None:
        if self.config.model.question is None:
            raise CaptionerError(
                "this checkpoint captions only and cannot answer questions; use one that was"
                " trained with model.question"
            )

    @torch.inference_mode()
    def _encode(self, images: Sequence[Any]) -> list[Tensor | ImageError]:
        """The memory (1, P, D) of each image, or the error in its place; one pass for all."""
        pixels = [self._pixels(image) for image in images if not isinstance(image, Encoded)]
        good = [x for x in pixels if isinstance(x, Tensor)]
        memories = iter(self.model.encode(self._stack(good)).split(1) if good else ())
        new = iter([next(memories) if isinstance(x, Tensor) else x for x in pixels])
        return [i.of(self.model) if isinstance(i, Encoded) else next(new) for i in images]

    def _decoding(self, num_captions: int, **options: int | float | None) -> DecodingConfig:
        """The checkpoint's decoding with what was asked for; raises CaptionerError."""
        given = {k: v for k, v in options.items() if v is not None}
        decoding = dataclasses.replace(self.config.decoding, **given)
        if decoding.beam_size < 1 or num_captions < 1:
            raise CaptionerError("beam_size and num_captions must be 1 or more")
        longest = self.config.model.max_length
        if not 1 <= decoding.max_length <= longest:
            raise CaptionerError(f"max_length must lie between 1 and this model's {longest}")
        if num_captions > decoding.beam_size:
            raise CaptionerError(
                f"num_captions={num_captions} is more than beam_size={decoding.beam_size};"
                " a search returns at most as many captions as it has beams"
            )
        return decoding

    def _pixels(self, image: Any) -> Tensor | ImageError:
        try:
            # A large photograph decodes several times as fast at a reduced scale; twice the
            # encoder's size still leaves the resizing filter its work.
            return to_pixels(load_image(image, min_size=2 * max(self.spec.size)), self.spec)
        except ImageError as error:
            return error

    def _stack(self, pixels: list[Tensor]) -> Tensor:
        """Images of one batch, as the model takes them."""
        return torch.stack(pixels).to(self.device, self.dtype, memory_format=torch.channels_last)

    def _results(
        self, batch: list[Tensor | ImageError], decoding: DecodingConfig, num_captions: int
    ) -> Iterator[Result]:
        pixels = [x for x in batch if not isinstance(x, ImageError)]
        found = iter(search(self.model, self._stack(pixels), decoding) if pixels else ())
        for item in batch:
            if isinstance(item, ImageError):
                yield Result(error=item)
                continue
            hypotheses = next(found)[:num_captions]
            yield Result(
                tuple(
                    Caption(self.tokenizer.decode(h.tokens), h.logprob / len(h.tokens))
                    for h in hypotheses
                )
            )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise CaptionerError(f"batch_size={batch_size}: must be 1 or more")


def _is_one_image(images: Any) -> bool:
    """Whether this is an image, where a collection of them might stand."""
    # Files and arrays can be iterated over, too, but by line and by row.
    is_file, is_array = hasattr(images, "read"), getattr(images, "ndim", None) in (2, 3)
    known = isinstance(images, (str, bytes, os.PathLike)) or is_file or is_array
    return known or not isinstance(images, Iterable)
