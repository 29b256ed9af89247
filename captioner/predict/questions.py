"""How questions are asked: what a question must be, closed answer sets, and one image at a time."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from captioner.config import AnswerConfig, Config
from captioner.decoding import Hypothesis, Trie
from captioner.errors import CaptionerError, QuestionError
from captioner.predict.checks import check_count, check_text, short
from captioner.predict.results import Answer, Answers
from captioner.text import normalize_caption, normalize_question
from captioner.tokenizer import EOS, Tokenizer

CLOSED_BEAMS = 64
"""A closed set of so many answers, or fewer, is searched in full."""


class ClosedSet:
    """The only answers that may come, as a trie, each with its spelling; CaptionerError."""

    def __init__(self, answers: tuple[str, ...], *, tokenizer: Tokenizer, config: Config) -> None:
        self.spelling: dict[tuple[int, ...], str] = {}
        self.repeated: list[str] = []
        """Answers of the same tokens as an earlier one."""
        for answer in answers:
            check_text(answer, "an answer of a closed set", CaptionerError)
            text = normalize_caption(answer, lowercase=config.data.lowercase)
            if not text:
                raise CaptionerError(f"answers: {answer!r} says nothing; leave it out")
            tokens = tuple(tokenizer.encode(text))
            if tokens in self.spelling:
                self.repeated.append(answer)
            else:
                self.spelling[tokens] = answer
        if not self.spelling:
            raise CaptionerError("answers: an empty list; name at least one, or leave it unset")
        self.trie = Trie(self.spelling, eos=EOS)
        longest = config.model.max_length
        if self.trie.longest > longest:
            answer = self.spelling[max(self.spelling, key=len)]
            raise CaptionerError(
                f"answers: {short(answer)} has {self.trie.longest} tokens; this model writes at"
                f" most {longest}, the end mark included"
            )


@dataclass(frozen=True)
class Asking:
    """How the questions of one call are answered."""

    search: AnswerConfig
    count: int
    min_confidence: float
    closed: ClosedSet | None

    @classmethod
    def of(
        cls,
        config: AnswerConfig,
        *,
        closed: ClosedSet | None = None,
        num_answers: int = 1,
        min_confidence: float = 0.0,
        beam_size: int | None = None,
    ) -> Asking:
        """Return the checkpoint's search with these options; raises CaptionerError."""
        beams = config.beam_size if beam_size is None else beam_size
        check_count("beam_size", beams)
        check_count("num_answers", num_answers)
        if not isinstance(min_confidence, Real):
            raise TypeError(f"min_confidence={min_confidence!r}: must be a number")
        if not 0 <= min_confidence <= 1:
            raise CaptionerError(f"min_confidence={min_confidence}: expected 0 to 1")
        beams = max(beams, num_answers)
        if closed is not None:
            # As many beams as members find all of them; more would find nothing else.
            beams = min(len(closed.trie), max(beams, CLOSED_BEAMS))
        search = dataclasses.replace(config, beam_size=beams)
        return cls(search, num_answers, min_confidence, closed)

    def answers(self, hypotheses: Sequence[Hypothesis], tokenizer: Tokenizer) -> Answers:
        """What a search found, in words; a text that was found in several ways is one answer."""
        found: dict[str, float] = {}
        tokens: dict[str, tuple[int, ...]] = {}
        for hypothesis in hypotheses:
            if self.closed is not None:
                text = self.closed.spelling[tuple(hypothesis.tokens)]
            else:
                text = tokenizer.decode(hypothesis.tokens).strip()
            found[text] = found.get(text, 0.0) + math.exp(hypothesis.logprob)
            tokens.setdefault(text, tuple(hypothesis.tokens))
        # Rounding may carry a sum beyond 1.
        answers = (Answer(text, min(p, 1.0), tokens[text]) for text, p in found.items())
        best = sorted(answers, key=lambda answer: -answer.confidence)
        return Answers(tuple(best[: self.count]), min_confidence=self.min_confidence)


def encode_question(question: Any, *, tokenizer: Tokenizer, config: Config) -> list[int]:
    """The ids of a question as the model reads it; raises QuestionError."""
    check_text(question, "a question", QuestionError)
    text = normalize_question(question, lowercase=config.data.lowercase)
    if not any(c.isalnum() for c in text):
        found = f"{short(question)} has no letter and no digit" if text else "is empty"
        raise QuestionError(f"the question {found}; ask in words")
    ids, longest = tokenizer.question_tokenizer.encode(text), config.model.question.max_length
    if len(ids) > longest:
        raise QuestionError(
            f"the question {short(question)} has {len(ids)} tokens; this model reads at most"
            f" {longest}, the end mark included; shorten it"
        )
    return ids


def read_rows(rows: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Pairs of an image and a question; CaptionerError for anything else."""
    found = []
    for number, row in enumerate(rows):
        if not isinstance(row, (tuple, list)) or len(row) != 2:
            raise CaptionerError(f"row {number}: expected a pair of an image and a question")
        found.append((row[0], row[1]))
    return found


def identity(image: Any) -> str | int:
    """What tells images apart: a file's absolute path, or else which object it is."""
    if isinstance(image, (str, os.PathLike)):
        return os.path.abspath(os.fsdecode(image))
    return id(image)


def batches(images: Iterable[Any], size: int) -> Iterator[list[int]]:
    """The places of the images, so many at a time, those of one image side by side.

    Images come in the order of their first places.
    """
    places: dict[str | int, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(identity(image), []).append(place)
    order = [place for found in places.values() for place in found]
    for at in range(0, len(order), size):
        yield order[at : at + size]
