"""Answer questions about images: options, closed answer sets, batches of questions."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

from captioner.backends.base import Backend, Memory
from captioner.backends.grouping import group_by_layout
from captioner.backends.model_inputs import ModelInput
from captioner.backends.vocabulary import TextTokenizer
from captioner.checkpoint import ANSWERS
from captioner.config import AnswerConfidence, AnswerConfig, Config
from captioner.decoding import Hypothesis, Trie
from captioner.errors import CaptionerError, InputError, QuestionError
from captioner.generation.answers import search_answers
from captioner.predict.checks import check_count, check_text, quote
from captioner.predict.confidence import calibrate_answers
from captioner.predict.reading import encode_images
from captioner.predict.results import Answer, Answers, Encoded, ImageTraits
from captioner.predict.texts import check_tokens, encode_question
from captioner.text import normalize_caption

CLOSED_BEAMS = 64
"""A closed set of at most so many answers is searched exhaustively."""

Row: TypeAlias = "tuple[ModelInput | Encoded, str]"
Images = dict[str | int, Encoded | InputError]


class ClosedSet:
    """The only answers that can be returned, as a trie; raises CaptionerError.

    Answers are normalized as in training. Several with the same tokens count as the first. If there
    are `known` answers, those of a classifier of questions, all must be among them.
    """

    def __init__(
        self,
        answers: tuple[str, ...],
        *,
        tokenizer: TextTokenizer,
        config: Config,
        known: Sequence[tuple[int, ...]] = (),
    ) -> None:
        self.spelling: dict[tuple[int, ...], str] = {}
        self.repeated: list[str] = []
        """Answers with the same tokens as an earlier one."""
        for answer in answers:
            check_text(answer, "an answer of a closed set", CaptionerError)
            text = normalize_caption(answer, lowercase=config.data.lowercase)
            if not text:
                raise CaptionerError(f"answers: {answer!r} has no words; remove it")
            tokens = tuple(tokenizer.encode(text))
            if known and tokens not in known:
                # A class that is the beginning of a longer answer may be no normalized text.
                tokens = tuple(tokenizer.encode(answer))
            if known and tokens not in known:
                raise CaptionerError(
                    f"answers: {quote(answer)} is none of the {len(known)} answers of this model,"
                    f" which classifies questions; they are in its {ANSWERS}"
                )
            check_tokens(tokens, f"answers: {quote(answer)}", tokenizer)
            if tokens in self.spelling:
                self.repeated.append(answer)
            else:
                self.spelling[tokens] = answer
        if not self.spelling:
            raise CaptionerError("answers: an empty list; name at least one, or leave it unset")
        self.trie = Trie(self.spelling, eos=tokenizer.ends)
        longest = config.model.max_length
        if self.trie.longest > longest:
            answer = self.spelling[max(self.spelling, key=len)]
            raise CaptionerError(
                f"answers: {quote(answer)} has {self.trie.longest} tokens; this model generates at"
                f" most {longest}, the end mark included"
            )


@dataclass(frozen=True)
class AnswerOptions:
    """Options for answering the questions of one call."""

    search: AnswerConfig
    num_answers: int
    min_confidence: float
    closed: ClosedSet | None
    calibration: AnswerConfidence | None
    """The model of confidences; None in a closed set, where probabilities sum to 1."""

    @classmethod
    def resolve(
        cls,
        config: Config,
        closed: ClosedSet | None = None,
        num_answers: int = 1,
        min_confidence: float = 0.0,
        beam_size: int | None = None,
    ) -> AnswerOptions:
        """Return the checkpoint's search with these options; raise CaptionerError."""
        if beam_size is not None and config.model.question and config.model.question.classes:
            raise CaptionerError(
                f"beam_size={beam_size} has no effect: this model classifies questions and searches"
                " for no answers"
            )
        beams = config.answers.beam_size if beam_size is None else beam_size
        check_count("beam_size", beams)
        check_count("num_answers", num_answers)
        if not isinstance(min_confidence, Real):
            raise TypeError(f"min_confidence={min_confidence!r}: must be a number")
        if not 0 <= min_confidence <= 1:
            raise CaptionerError(f"min_confidence={min_confidence}: expected 0 to 1")
        beams = max(beams, num_answers)
        if closed is not None:
            # With one beam per member, the search finds all of them.
            beams = min(len(closed.trie), max(beams, CLOSED_BEAMS))
        search = dataclasses.replace(config.answers, beam_size=beams)
        calibration = config.confidence.answers if closed is None else None
        return cls(search, num_answers, min_confidence, closed, calibration)

    def build_answers(
        self, hypotheses: Sequence[Hypothesis], tokenizer: TextTokenizer, traits: ImageTraits
    ) -> Answers:
        """Return hypotheses as texts; add the probabilities of several with the same text."""
        confidence: dict[str, float] = {}
        tokens: dict[str, tuple[int, ...]] = {}
        for hypothesis in hypotheses:
            if self.closed is not None:
                text = self.closed.spelling[tuple(hypothesis.tokens)]
            else:
                text = tokenizer.decode(hypothesis.tokens).strip()
            confidence[text] = confidence.get(text, 0.0) + math.exp(hypothesis.logprob)
            tokens.setdefault(text, tuple(hypothesis.tokens))
        # Rounding may raise a sum above 1.
        answers = (Answer(text, min(p, 1.0), tokens[text]) for text, p in confidence.items())
        best = sorted(answers, key=lambda answer: -answer.confidence)[: self.num_answers]
        return Answers(tuple(best), None, self.min_confidence, *traits)


def answer_batch(
    backend: Backend,
    config: Config,
    rows: Mapping[int, Row],
    images: Images,
    options: AnswerOptions,
) -> dict[int, Answers]:
    """Return the answers, or the error, of each row of one batch.

    `images` are changed in place to hold the encoded images of these rows only, by identity.
    """
    answers: dict[int, Answers] = {}
    questions: dict[int, list[int]] = {}
    tokenizer = backend.tokenizer
    for number, (_, question) in rows.items():
        try:
            questions[number] = encode_question(question, tokenizer=tokenizer, config=config)
        except QuestionError as error:
            answers[number] = Answers(error=error)
    _update_images(backend, {n: image for n, (image, _) in rows.items()}, images, set(questions))
    encoded = {key: image for key, image in images.items() if isinstance(image, Encoded)}
    order, owners = list(encoded), {n: image_identity(rows[n][0]) for n in questions}
    for number, owner in owners.items():
        if isinstance(image := images[owner], InputError):
            answers[number] = Answers(error=image)
    usable = [number for number in questions if owners[number] in encoded]
    if not usable:
        return answers
    memories = [image.memory for image in encoded.values()]
    for places in group_by_layout(memories) if len(memories) > 1 else [[0]]:
        group = {order[place]: at for at, place in enumerate(places)}
        asked = [number for number in usable if owners[number] in group]
        fused = backend.encode_questions(
            [memories[place] for place in places],
            [questions[number] for number in asked],
            [group[owners[number]] for number in asked],
        )
        for number, ranked in zip(asked, _search(backend, fused, options), strict=True):
            result = options.build_answers(ranked, tokenizer, encoded[owners[number]].traits)
            if options.calibration is not None:
                result = calibrate_answers(options.calibration, result, rows[number][1])
            answers[number] = result
    return answers


def stream_class(
    backend: Backend, memory: Memory, config: Config, given: Iterable[str]
) -> Iterator[int]:
    """Return the tokens of the most likely answer of a classifier.

    `memory` is that of a question; `given` are the names of the decoding options.

    Raises:
        CaptionerError: There are decoding options, which have no effect.
    """
    if names := ", ".join(given):
        raise CaptionerError(f"{names}: no effect, because this model classifies questions")
    ((best,),) = search_answers(backend, [memory], config.answers, num_return=1)
    return iter(best.tokens)


def _search(
    backend: Backend, memories: Sequence[Memory], options: AnswerOptions
) -> list[list[Hypothesis]]:
    """Return the answers to questions, from their memories."""
    closed = options.closed.trie if options.closed else None
    # If several answers are requested, some hypotheses may have the same text.
    num_return = 1 if options.num_answers == 1 else None
    return search_answers(backend, memories, options.search, num_return=num_return, closed=closed)


def _update_images(
    backend: Backend, rows: Mapping[int, ModelInput | Encoded], images: Images, needed: set[int]
) -> None:
    """Drop the images that no row has; encode those of the needed rows that are missing."""
    owners = {number: image_identity(image) for number, image in rows.items()}
    for key in images.keys() - owners.values():
        del images[key]
    missing = {owners[n]: rows[n] for n in owners if n in needed and owners[n] not in images}
    images |= zip(missing, encode_images(backend, list(missing.values())), strict=True)


def read_rows(rows: Iterable[Any]) -> list[Row]:
    """Return pairs of an image and a question; raise CaptionerError for anything else."""
    pairs = []
    for number, row in enumerate(rows):
        if not isinstance(row, (tuple, list)) or len(row) != 2:
            raise CaptionerError(f"row {number}: expected a pair of an image and a question")
        pairs.append((row[0], row[1]))
    return pairs


def image_identity(image: Any) -> str | int:
    """Return what identifies an image: a file's absolute path, or else the object's id."""
    if isinstance(image, (str, os.PathLike)):
        return os.path.abspath(os.fsdecode(image))
    return id(image)


def batch_by_image(images: Iterable[Any], size: int) -> Iterator[list[int]]:
    """Yield batches of indices into `images`: equal images adjacent, in the order of the first."""
    places: dict[str | int, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image_identity(image), []).append(place)
    order = [place for same in places.values() for place in same]
    for at in range(0, len(order), size):
        yield order[at : at + size]
