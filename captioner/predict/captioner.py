"""Models, their tokenizer and their configuration, ready for use.

Shapes: P memory positions, D width, N questions, S tokens of a question, T tokens of a text.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from captioner.config import Config, DecodingConfig
from captioner.decoding import Hypothesis
from captioner.errors import CaptionerError, ImageError, QuestionError
from captioner.generation.captions import answer, ask, score_texts, search_stream, spell
from captioner.generation.constraints import build_constraints
from captioner.model.seq2seq import Seq2Seq
from captioner.predict.attention_maps import look
from captioner.predict.checks import check_count, checked_options
from captioner.predict.members import Members
from captioner.predict.options import DECODING, choose_decoding, encode_text, unfinished
from captioner.predict.origin import Origin
from captioner.predict.pieces import Piece, split_text
from captioner.predict.questions import (
    Asking,
    ClosedSet,
    batches,
    encode_question,
    identity,
    read_rows,
)
from captioner.predict.results import Answers, Attention, Caption, Encoded, Result, Scored
from captioner.tokenizer import PAD, Tokenizer

ANSWERING = ("answers", "num_answers", "min_confidence", "beam_size", "batch_size")
"""Options of many questions."""
REMEMBERED = 8
"""How many closed answer sets, and how many plans of constraints, a captioner keeps."""


class Captioner:
    """A model ready for use on one device, or several that write each text together.

    `dtype` is that of weights and arithmetic: float32 (default), bfloat16 or float16; or int8, on a
    CPU, for the weights behind the backbone, which is in bfloat16 then where the CPU has that; or
    auto, for int8 on a CPU and bfloat16 on a GPU, where they have it.
    With `tta` 2, captions and answers are of the mean of a picture's features and its mirror
    image's, with 4, of those of a smaller copy of both as well; each costs what the first does.
    `compile` has torch compile the decoder at its first use; on a CPU that takes a C++ compiler
    and is slower than the packed weights that are used without it.
    """

    def __init__(
        self,
        model: Seq2Seq,
        tokenizer: Tokenizer,
        config: Config,
        *,
        others: Sequence[tuple[Seq2Seq, Config]] = (),
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        tta: int = 1,
        compile: bool = False,
    ) -> None:
        options = {"device": device, "dtype": dtype, "tta": tta, "compile": compile}
        self.members = Members([(model, config), *others], **options)
        self.tokenizer, self.config = tokenizer, config
        self.max_length = min(c.model.max_length for c in (config, *(c for _, c in others)))
        closed = partial(ClosedSet, tokenizer=tokenizer, config=config)
        self._closed_set = lru_cache(REMEMBERED)(closed)
        plan = partial(build_constraints, tokenizer=tokenizer, lowercase=config.data.lowercase)
        self._constraints = lru_cache(REMEMBERED)(plan)
        self._origin: Origin | None = None

    def __copy__(self) -> Captioner:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled and packed modules cannot be copied; the checkpoint can be loaded again.
        if self._origin is None:
            raise CaptionerError(
                "this captioner was made of a model in memory and cannot be pickled or copied;"
                " save the model as a checkpoint and use captioner.load"
            )
        names, options = self._origin.names, self._origin.options
        from captioner.predict.loading import load_again

        return load_again, (names, options, self._origin.fingerprint())

    @property
    def model(self) -> Seq2Seq:
        """The model; of an ensemble, the first."""
        return self.members.models[0]

    @property
    def view(self) -> tuple[tuple[int, int], bool]:
        """Height and width that an image is brought to, and whether it is cropped for that."""
        (spec,) = self.members.specs  # of an ensemble, all must see the same
        return spec.size, spec.resize == "crop"

    @property
    def dtype(self) -> torch.dtype:
        """That of weights and arithmetic."""
        return self.members.dtype

    @checked_options(DECODING)
    def caption(
        self,
        images: Sequence[Any] | Any,
        *,
        num_captions: int = 1,
        batch_size: int = 16,
        **options: Any,
    ) -> list[Result]:
        """A result per image (path, bytes, PIL image or array), in their order.

        An image that cannot be read has its `ImageError` in the place of captions, and takes
        nothing from the others. `options` are the fields of `DecodingConfig`, such as
        `beam_size=3` or `must_include=["dog|dogs"]`; unset ones are those of the checkpoint's
        configuration. Raises CaptionerError for options that do not go together.
        """
        if _is_one_image(images):
            images = [images]
        options |= {"num_captions": num_captions, "batch_size": batch_size}
        return list(self.caption_stream(images, **options))

    @checked_options(DECODING)
    def caption_stream(
        self,
        images: Iterable[Any],
        *,
        num_captions: int = 1,
        batch_size: int = 16,
        **options: Any,
    ) -> Iterator[Result]:
        """As `caption`, from an iterable of any length; three batches are held at a time."""
        decoding = choose_decoding(
            self.config, options, longest=self.max_length, count=num_captions
        )
        constraints = self._constraints(decoding)
        check_count("batch_size", batch_size)
        read: deque[ImageError | bool] = deque()  # error or low_confidence, of what has no result

        def good() -> Iterator[list[Tensor]]:
            batch = []
            for pixels in self.members.read(images, ahead=batch_size):
                if isinstance(pixels, ImageError):
                    read.append(pixels)
                else:
                    read.append(pixels.low_confidence)
                    batch.append(pixels)
                if len(batch) == batch_size:
                    yield self.members.stack(batch)
                    batch = []
            if batch:
                yield self.members.stack(batch)

        models = self.members.models
        for found in search_stream(models, good(), decoding, constraints, rows=num_captions):
            while isinstance(image := read.popleft(), ImageError):
                yield Result(error=image)
            yield self._result(found[:num_captions], decoding, low_confidence=image)
        for error in read:
            yield Result(error=error)

    @checked_options(DECODING)
    def stream(self, image: Any, *, question: str | None = None, **options: Any) -> Iterator[Piece]:
        """Yield the pieces of one caption, or of the answer to a question, as they are written.

        Joined, they are the text. It is the likeliest word after word, without beams, or drawn
        (`method="sample"`); `options` as in `caption`. Raises as `caption` and `ask` do.
        """
        options = {"beam_size": 1} | options if options.get("method") != "sample" else options
        if question is not None:
            options = {"max_length": self.config.answers.max_length} | options
        decoding = choose_decoding(self.config, options, longest=self.max_length, count=1)
        if decoding.method == "beam" and decoding.beam_size > 1:
            raise CaptionerError(
                f"beam_size={decoding.beam_size}: beams are not known word by word; stream with"
                " beam_size=1 or method=sample"
            )
        memories, masks, temperature = self._memories(image, question)
        tokens = spell(
            self.members.models,
            memories,
            decoding,
            self._constraints(decoding),
            masks=masks,
            temperature=temperature,
        )
        return split_text(tokens, self.tokenizer)

    @checked_options()
    def score(
        self, image: Any, texts: Sequence[str], *, question: str | None = None
    ) -> list[Scored]:
        """How likely each text is as the image's caption, or as the answer to a question about it.

        Results come in the order of the texts, which are read as the training's were written down.
        A whole caption's `logprob` favours short texts; `score` is what beam search ranks by.
        Raises ImageError, QuestionError; CaptionerError for texts that the model cannot write.
        """
        if isinstance(texts, str):
            raise CaptionerError(f"texts={texts!r}: expected a list of texts")
        ids = [self._ids(text) for text in texts]
        memories, masks, temperature = self._memories(image, question)
        if not ids:
            return []
        tokens = pad_sequence([torch.tensor(x) for x in ids], True, PAD).to(self.members.device)
        logprobs = score_texts(
            self.members.models, memories, tokens[None], masks=masks, temperature=temperature
        )
        totals = logprobs.sum(-1)[0].tolist()  # (T,) of each text
        return [
            Scored(text, total, total / len(x))
            for text, total, x in zip(texts, totals, ids, strict=True)
        ]

    @checked_options()
    def attention(self, image: Any, text: str, *, question: str | None = None) -> list[Attention]:
        """Where the model looked for each word of a text, which is read as `score` reads it.

        Raises as `score` does, and CaptionerError where the memory of a question has no places.
        """
        tokens, image = self._ids(text), self.encode(image)
        memories, masks, _ = self._memories(image, question)
        return look(self.members, image, tokens, memories, masks=masks, tokenizer=self.tokenizer)

    @checked_options()
    def encode(self, image: Any) -> Encoded:
        """An image, encoded once for all that is asked about it by other methods.

        Raises ImageError.
        """
        (found,) = self.encode_batch([image])
        if isinstance(found, ImageError):
            raise found
        return found

    @checked_options()
    def encode_batch(self, images: Sequence[Any]) -> list[Encoded | ImageError]:
        """Several images in one pass, each as `encode` does, or with its error in its place."""
        return self.members.encode(images)

    @checked_options()
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

    @checked_options(ANSWERING)
    def answer(self, rows: Iterable[tuple[Any, str]], **options: Any) -> list[Answers]:
        """Answers to each pair of an image and a question, in their order; see `answer_stream`."""
        return list(self.answer_stream(rows, **options))

    @checked_options(ANSWERING)
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
        check_count("batch_size", batch_size)
        rows = read_rows(rows)
        known: dict[str | int, Encoded | ImageError] = {}
        ready: dict[int, Answers] = {}
        turn = 0
        for places in batches((image for image, _ in rows), batch_size):
            ready |= self._answer_batch({p: rows[p] for p in places}, known, asking)
            while turn in ready:
                yield ready.pop(turn)
                turn += 1

    def repeated_answers(self, answers: Sequence[str]) -> list[str]:
        """Return those of the answers that are the same to the model as an earlier one."""
        return list(self._closed_set(tuple(answers)).repeated)

    def _answer_batch(
        self,
        rows: dict[int, tuple[Any, Any]],
        known: dict[str | int, Encoded | ImageError],
        asking: Asking,
    ) -> dict[int, Answers]:
        """Answers to the rows; `known` are then their images and no others."""
        found, questions = {}, {}
        for place, (_, question) in rows.items():
            try:
                ids = encode_question(question, tokenizer=self.tokenizer, config=self.config)
                questions[place] = torch.tensor(ids)
            except QuestionError as error:
                found[place] = Answers(error=error)
        owner = {place: identity(image) for place, (image, _) in rows.items()}
        for key in known.keys() - owner.values():
            del known[key]
        images = {owner[p]: rows[p][0] for p in questions if owner[p] not in known}
        known |= zip(images, self.members.encode(list(images.values())), strict=True)

        good = [key for key, found in known.items() if isinstance(found, Encoded)]
        asked = [place for place in questions if owner[place] in good]
        found |= {p: Answers(error=known[owner[p]]) for p in questions.keys() - asked}
        if not asked:
            return found
        device = self.members.device
        ids = [questions[place] for place in asked]
        each = zip(*(known[key].memories for key in good), strict=True)
        hypotheses = answer(
            self.members.models,
            [torch.cat(memories) for memories in each],
            pad_sequence(ids, True, self.tokenizer.question_tokenizer.pad).to(device),
            torch.tensor([good.index(owner[place]) for place in asked], device=device),
            asking.search,
            # Of several, some may turn out to be one text.
            wanted=1 if asking.count == 1 else None,
            closed=asking.closed.trie if asking.closed else None,
        )
        for place, few in zip(asked, hypotheses, strict=True):
            flagged = known[owner[place]].low_confidence
            found[place] = replace(asking.answers(few, self.tokenizer), low_confidence=flagged)
        return found

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

    def _memories(
        self, image: Any, question: str | None
    ) -> tuple[list[Tensor], list[Tensor | None] | None, float]:
        """What a text is decoded from: memories with their masks, and the temperature."""
        memories = list(self.encode(image).memories)
        if question is None:
            return memories, None, 1.0
        self._check_questions()
        ids = encode_question(question, tokenizer=self.tokenizer, config=self.config)
        device = self.members.device
        owners = torch.zeros(1, dtype=torch.long, device=device)
        with torch.inference_mode():
            questions = torch.tensor([ids], device=device)
            memories, masks = ask(self.members.models, memories, questions, owners)
        return memories, masks, self.config.answers.temperature

    def _ids(self, text: Any) -> list[int]:
        lowercase = self.config.data.lowercase
        return encode_text(text, self.tokenizer, longest=self.max_length, lowercase=lowercase)

    def _result(
        self, hypotheses: Sequence[Hypothesis], decoding: DecodingConfig, *, low_confidence: bool
    ) -> Result:
        if not hypotheses:
            return Result(error=unfinished(decoding))
        return Result(
            tuple(
                Caption(self.tokenizer.decode(h.tokens), h.logprob / len(h.tokens), tuple(h.tokens))
                for h in hypotheses
            ),
            low_confidence=low_confidence,
        )


def _is_one_image(images: Any) -> bool:
    """Whether this is an image, where a collection of them might stand."""
    # Files and arrays can be iterated over, too, but by line and by row.
    is_file, is_array = hasattr(images, "read"), getattr(images, "ndim", None) in (2, 3)
    known = isinstance(images, (str, bytes, os.PathLike)) or is_file or is_array
    return known or not isinstance(images, Iterable)
