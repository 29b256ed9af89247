"""The public `Captioner`: captions, answers, scores and attention of images."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from captioner.backends.model_inputs import ModelInput
from captioner.config import DecodingConfig
from captioner.decoding import Hypothesis
from captioner.errors import CaptionerError, InputError
from captioner.generation.captions import describe_failure, search_caption_stream, stream_tokens
from captioner.generation.text_scores import score_known_answers, score_texts
from captioner.predict.attention_maps import check_attends, map_attention
from captioner.predict.checks import check_count, check_keywords
from captioner.predict.confidence import caption_confidence
from captioner.predict.loaded_model import LoadedModel
from captioner.predict.options import resolve_decoding, select_decoding
from captioner.predict.pieces import Piece, split_text
from captioner.predict.questions import (
    AnswerOptions,
    Images,
    answer_batch,
    batch_by_image,
    read_rows,
    stream_class,
)
from captioner.predict.reading import encode_batches, encode_images
from captioner.predict.results import (
    Answers,
    Attention,
    Caption,
    Encoded,
    ImageTraits,
    Result,
    Scored,
)

Method = Literal["beam", "sample"]
LengthForm = Literal["average", "gnmt"]
Words = str | Sequence[str]


class Captioner(LoadedModel):
    """A model, or an ensemble, ready for use.

    `captioner.load` makes one from a checkpoint. Methods accept an image as a path, bytes, an open
    file, a PIL image, an array, or as `encode` returned it. Options that are None have the value
    of the checkpoint's configuration.

    Args:
        backend: The model.
        config: The checkpoint's configuration.
    """

    @check_keywords()
    def caption(
        self,
        images: ModelInput | Encoded | Iterable[ModelInput | Encoded],
        *,
        num_captions: int = 1,
        batch_size: int = 16,
        method: Method | None = None, beam_size: int | None = None,
        max_length: int | None = None, min_length: int | None = None,
        length_penalty: float | None = None, length_form: LengthForm | None = None,
        groups: int | None = None, diversity: float | None = None,
        temperature: float | None = None, seed: int | None = None,
        top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
        no_repeat_ngram: int | None = None, repetition_penalty: float | None = None,
        must_include: Words | None = None, banned: Words | None = None,
        prefix: str | None = None, no_dangling: bool | None = None,
    ) -> list[Result]:  # fmt: skip
        """Caption images.

        Each image has `num_captions` captions, at most `beam_size` with beam search; `batch_size`
        images are encoded together. The other options are the fields of
        `captioner.config.DecodingConfig`.

        Returns:
            One result per image, in order. An image that cannot be read has its `InputError` in
            its result, and does not affect the others.

        Raises:
            CaptionerError: An option is invalid, has no effect or conflicts with another.
        """
        options = select_decoding(locals())
        stream = self.caption_stream(
            _as_images(images), num_captions=num_captions, batch_size=batch_size, **options
        )
        return list(stream)

    @check_keywords()
    def caption_stream(
        self,
        images: Iterable[ModelInput | Encoded],
        *,
        num_captions: int = 1,
        batch_size: int = 16,
        method: Method | None = None, beam_size: int | None = None,
        max_length: int | None = None, min_length: int | None = None,
        length_penalty: float | None = None, length_form: LengthForm | None = None,
        groups: int | None = None, diversity: float | None = None,
        temperature: float | None = None, seed: int | None = None,
        top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
        no_repeat_ngram: int | None = None, repetition_penalty: float | None = None,
        must_include: Words | None = None, banned: Words | None = None,
        prefix: str | None = None, no_dangling: bool | None = None,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield the results of `caption` for any number of images, three batches in memory."""
        options = select_decoding(locals())
        self._check_captions()
        decoding = resolve_decoding(
            self.config, options, max_length=self.max_length, num_captions=num_captions
        )
        constraints = self._constraints(decoding)
        check_count("batch_size", batch_size)
        outcomes: deque[InputError | ImageTraits] = deque()  # of images without a result
        batches = encode_batches(self.backend, images, outcomes, batch_size=batch_size)
        search = search_caption_stream(
            self.backend, batches, decoding, constraints, rows=num_captions
        )
        for hypotheses in search:
            while isinstance(outcome := outcomes.popleft(), InputError):
                yield Result(error=outcome)
            yield self._result(hypotheses[:num_captions], decoding, outcome)
        yield from (Result(error=error) for error in outcomes if isinstance(error, InputError))

    @check_keywords()
    def stream(
        self,
        image: ModelInput | Encoded,
        *,
        question: str | None = None,
        method: Method | None = None, beam_size: int | None = None,
        max_length: int | None = None, min_length: int | None = None,
        length_penalty: float | None = None, length_form: LengthForm | None = None,
        groups: int | None = None, diversity: float | None = None,
        temperature: float | None = None, seed: int | None = None,
        top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
        no_repeat_ngram: int | None = None, repetition_penalty: float | None = None,
        must_include: Words | None = None, banned: Words | None = None,
        prefix: str | None = None, no_dangling: bool | None = None,
    ) -> Iterator[Piece]:  # fmt: skip
        """Return the pieces of one caption, or of the answer to a question, as they are generated.

        Joined, they are the text. Each token is the most likely one (greedy search), or is drawn
        (`method="sample"`). See `caption` for the options. Raises as `caption` and `ask` do; that
        no text satisfies the options can become known only after some pieces.
        """
        options = select_decoding(locals())
        if self._classifies(question):
            memory, _ = self._memory(image, question)
            best = stream_class(self.backend, memory, self.config, options)
            return split_text(best, self.tokenizer)
        if method != "sample":
            options = {"beam_size": 1} | options
        if question is not None:
            options = {"max_length": self.config.answers.max_length} | options
        decoding = resolve_decoding(
            self.config, options, max_length=self.max_length, num_captions=1
        )
        if decoding.method == "beam" and decoding.beam_size > 1:
            raise CaptionerError(
                f"beam_size={decoding.beam_size}: a beam search cannot be streamed; use"
                " beam_size=1 or method=sample"
            )
        memory, scale = self._memory(image, question)
        constraints = self._constraints(decoding)
        tokens = stream_tokens(self.backend, memory, decoding, constraints, temperature=scale)
        return split_text(tokens, self.tokenizer)

    @check_keywords()
    def score(
        self, image: ModelInput | Encoded, texts: Sequence[str], *, question: str | None = None
    ) -> list[Scored]:
        """Return how likely each text is as the image's caption, or as the answer to a question.

        A whole caption's `logprob` favors short texts; `score` is what beam search ranks by.

        Args:
            image: The image.
            texts: Captions or answers, which are normalized as in training.
            question: The question, if the texts are answers.

        Raises:
            InputError: The image cannot be read.
            QuestionError: The question cannot be asked.
            CaptionerError: A text cannot be generated by the model.
        """
        if isinstance(texts, str):
            raise CaptionerError(f"texts={texts!r}: expected a list of texts")
        ids = [self._encode_text(text) for text in texts]
        memory, temperature = self._memory(image, question)
        if not ids:
            return []
        if self._classifies(question):
            totals = score_known_answers(self.backend, memory, ids, temperature=temperature)
            return [Scored(text, total, total) for text, total in zip(texts, totals, strict=True)]
        totals = score_texts(self.backend, memory, ids, temperature=temperature)
        return [
            Scored(text, total, total / len(tokens))
            for text, total, tokens in zip(texts, totals, ids, strict=True)
        ]

    @check_keywords()
    def attention(
        self, image: ModelInput | Encoded, text: str | Caption, *, question: str | None = None
    ) -> list[Attention]:
        """Return the cross-attention to the image for each word of a caption or an answer.

        Of a `Caption` with its own text, the generated tokens are used; a text is encoded.

        Raises:
            CaptionerError: As `score` does, and where the decoder has no image positions.
        """
        if self._classifies(question):
            raise CaptionerError(
                "attention: this model classifies questions without a decoder; request the"
                " attention of a caption"
            )
        check_attends(self.backend)
        tokens, encoded = self._tokens_of(text), self._encode(image)
        if self.backend.audio_specs and "image" not in encoded.inputs:
            raise CaptionerError("attention is to an image, and only a recording was given")
        memory, _ = self._memory(encoded, question)
        return map_attention(self.backend, memory, tokens, size=encoded.size)

    def _tokens_of(self, text: str | Caption) -> Sequence[int]:
        if not isinstance(text, Caption):
            return self._encode_text(text)
        is_generated = text.text == self.tokenizer.decode(text.tokens).rstrip()
        return text.tokens if text.tokens and is_generated else self._encode_text(text.text)

    @check_keywords()
    def encode(self, image: ModelInput | Encoded) -> Encoded:
        """Encode an image once, for any number of calls of other methods; raise InputError."""
        return self._encode(image)

    @check_keywords()
    def encode_batch(self, images: Sequence[ModelInput | Encoded]) -> list[Encoded | InputError]:
        """Encode images in one batch; return errors in the places of those that cannot be read."""
        return encode_images(self.backend, images)

    @check_keywords()
    def ask(
        self,
        image: ModelInput | Encoded,
        question: str,
        *,
        answers: Sequence[str] | None = None, num_answers: int = 1,
        min_confidence: float = 0.0, beam_size: int | None = None,
    ) -> Answers:  # fmt: skip
        """Answer one question about an image.

        Args:
            image: The image.
            question: The question.
            answers: A closed set: the only answers that can be returned, spelled as given here. In
                a set of at most `CLOSED_BEAMS`, each has its probability, and these sum to 1.
            num_answers: The largest number of answers, most likely first.
            min_confidence: Below it, the text of the result is `unsure`.
            beam_size: Beams.

        Raises:
            QuestionError: The question cannot be asked.
            InputError: The image cannot be read.
            CaptionerError: An option is invalid, or the checkpoint cannot answer questions.
        """
        options = self._answer_options(answers, num_answers, min_confidence, beam_size)
        rows = {0: (image, question)}
        (result,) = answer_batch(self.backend, self.config, rows, {}, options).values()
        if result.error is not None:
            raise result.error
        return result

    @check_keywords()
    def answer(
        self,
        rows: Iterable[tuple[ModelInput | Encoded, str]],
        *,
        batch_size: int = 16,
        answers: Sequence[str] | None = None, num_answers: int = 1,
        min_confidence: float = 0.0, beam_size: int | None = None,
    ) -> list[Answers]:  # fmt: skip
        """Return the answers to pairs of an image and a question; see `answer_stream`."""
        options = self._answer_options(answers, num_answers, min_confidence, beam_size)
        return list(self._answer_rows(rows, batch_size, options))

    @check_keywords()
    def answer_stream(
        self,
        rows: Iterable[tuple[ModelInput | Encoded, str]],
        *,
        batch_size: int = 16,
        answers: Sequence[str] | None = None, num_answers: int = 1,
        min_confidence: float = 0.0, beam_size: int | None = None,
    ) -> Iterator[Answers]:  # fmt: skip
        """Yield the answers to pairs of an image and a question, in order.

        Each image is read and encoded once, even if it occurs in several rows: all its questions
        are answered together, and results are returned in the order of the rows. Images are the
        same if they have the same path or are the same object. An image or a question that cannot
        be used has its error in its results, and does not affect the others. `batch_size` questions
        are answered together; see `ask` for the other options.
        """
        options = self._answer_options(answers, num_answers, min_confidence, beam_size)
        yield from self._answer_rows(rows, batch_size, options)

    def _answer_rows(
        self, rows: Iterable[Any], batch_size: int, options: AnswerOptions
    ) -> Iterator[Answers]:
        check_count("batch_size", batch_size)
        pairs = read_rows(rows)
        images: Images = {}
        ready: dict[int, Answers] = {}
        turn = 0
        for batch in batch_by_image((image for image, _ in pairs), batch_size):
            chosen = {number: pairs[number] for number in batch}
            ready |= answer_batch(self.backend, self.config, chosen, images, options)
            while turn in ready:
                yield ready.pop(turn)
                turn += 1

    def repeated_answers(self, answers: Sequence[str]) -> list[str]:
        """Return those of the answers that have the same tokens as an earlier one."""
        return list(self._closed_set(tuple(answers)).repeated)

    def _result(
        self, hypotheses: Sequence[Hypothesis], decoding: DecodingConfig, traits: ImageTraits
    ) -> Result:
        if not hypotheses:
            return Result(error=describe_failure("caption", decoding.max_length))
        captions = tuple(map(self._make_caption, hypotheses))
        return Result(captions, None, *traits)

    def _make_caption(self, hypothesis: Hypothesis) -> Caption:
        tokens = tuple(hypothesis.tokens)
        score = hypothesis.logprob / len(tokens)
        confidence = caption_confidence(self.config.confidence.captions, score)
        text = self.tokenizer.decode(hypothesis.tokens).rstrip()
        return Caption(text, score, confidence, tokens)


def _as_images(images: Any) -> Iterable[ModelInput | Encoded]:
    """Return images as they are, and one image in a list."""
    # Files and arrays are iterable, too, but by line and by row.
    if isinstance(images, tuple) and len(images) == 2 and isinstance(images[1], int):
        return [images]  # the samples of a recording and their rate
    is_file, is_array = hasattr(images, "read"), getattr(images, "ndim", None) in (2, 3)
    known = isinstance(images, (str, bytes, os.PathLike)) or is_file or is_array
    return [images] if known or not isinstance(images, Iterable) else images
