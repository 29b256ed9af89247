"""Texts of samples: captions, answers and questions that are drawn, and the labels of images.

The choice of texts derives from (seed, epoch, image, source).

Shapes: G tags; Q questions about an image, A answers of a classifier.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from captioner.data.mirrored_text import can_flip, flip_caption
from captioner.data.text_encoding import TextEncoding
from captioner.text import normalize_caption, normalize_question

T = TypeVar("T")


class Texts(NamedTuple):
    """The texts of a sample."""

    ids: list[list[int]]
    """Token ids of captions or answers, each ending in EOS."""
    questions: list[list[int]]
    """Token ids of the question that each text answers; empty for captions."""
    rows: list[int]
    """Row of each text in the table."""
    weights: list[float]
    """Weight of each text in the loss; the mean over the answers for a classifier of questions."""


class TextSampler:
    """The texts and labels of images, from the rows about them.

    Args:
        rows: Table with the columns references, question and tags, and optionally weights.
        groups: Row numbers of each image, by source.
        tokenizer: Tokenizer of captions and answers; `question_tokenizer` encodes the questions.
        max_length: Most tokens of a caption or answer, EOS included.
        question_length: Most tokens of a question.
        captions_per_image: Captions that are drawn for a sample in each epoch; None takes all.
        questions_per_image: Questions that are drawn for a sample in each epoch; None takes all.
        lowercase: Convert texts to lower case.
        seed: Seed of all random numbers.
        tags: The tags to predict for each source of tags; others are ignored.
        answers: Token ids of the answers of a classifier of questions.
    """

    def __init__(
        self,
        rows: Any,
        groups: Sequence[Mapping[int, list[int]]],
        *,
        tokenizer: TextEncoding,
        max_length: int,
        question_length: int,
        captions_per_image: int | None,
        questions_per_image: int | None,
        lowercase: bool,
        seed: int,
        tags: Mapping[int, Collection[str]],
        answers: Sequence[tuple[int, ...]],
    ) -> None:
        self.rows, self.groups, self.tokenizer = rows, groups, tokenizer
        self.max_length, self.question_length = max_length, question_length
        self.captions_per_image = captions_per_image
        self.questions_per_image = questions_per_image
        self.lowercase, self.seed = lowercase, seed
        self.known_tags = tags
        self.tags = sorted(set().union(*tags.values()))
        """The tags of all sources, in the order of the labels."""
        self.answers = answers
        self._classes = {ids: place for place, ids in enumerate(answers)}
        self._flippable: dict[int, bool] = {}

    def select_rows(self, index: int, source: int) -> list[int]:
        """Return the numbers of the rows of a source about an image."""
        return self.groups[index].get(source, [])

    def list_references(self, index: int, source: int) -> list[str]:
        """Return all captions or answers of a source for an image, as they are in the table."""
        rows = (self.rows[n] for n in self.select_rows(index, source))
        return [text for row in rows for text in row["references"]]

    def draw(self, epoch: int, index: int, source: int, *, flip: bool) -> Texts:
        """Return texts of a source for an image; `flip` adapts them to its mirror image."""
        rng = random.Random(f"texts {self.seed} {epoch} {index} {source}")
        numbers = _choose(self.select_rows(index, source), self.questions_per_image, rng)
        texts, questions, rows, weights = [], [], [], []
        for number in numbers:
            row = self.rows[number]
            # One answer per question, so that each is drawn in proportion to its annotators.
            limit = 1 if row["question"] else self.captions_per_image
            pairs = list(zip(row["references"], _reference_weights(row), strict=True))
            for text, weight in _choose(pairs, limit, rng):
                texts.append(self._encode(text, flip))
                rows.append(number)
                weights.append(weight)
                if row["question"]:
                    questions.append(self._encode_question(row["question"], flip))
                    if self._classes:
                        weights[-1] = sum(weight for _, weight in pairs) / len(pairs)
        return Texts(texts, questions, rows, weights)

    def mix(
        self, drawn: Texts, other: int, share: float, *, epoch: int, index: int, source: int
    ) -> Texts:
        """Replace captions by those of another image, which has 1 - `share` of the input.

        The expected loss is that of mixup: the mean of the losses of both, weighted by the shares.
        """
        theirs = self.draw(epoch, other, source, flip=False)
        others = list(zip(theirs.ids, theirs.weights, strict=True))
        if drawn.questions or not others:
            return drawn
        rng = random.Random(f"mixed texts {self.seed} {epoch} {index} {source}")
        own = zip(drawn.ids, drawn.weights, strict=True)
        mixed = [rng.choice(others) if rng.random() >= share else pair for pair in own]
        return drawn._replace(ids=[ids for ids, _ in mixed], weights=[w for _, w in mixed])

    def can_flip(self, index: int) -> bool:
        """Return whether all texts about an image can be adapted to its mirror image."""
        if index not in self._flippable:
            rows = (self.rows[n] for numbers in self.groups[index].values() for n in numbers)
            texts = (text for row in rows for text in (*row["references"], row["question"]))
            self._flippable[index] = all(map(can_flip, texts))
        return self._flippable[index]

    def label_tags(self, index: int, source: int) -> Tensor | None:
        """Return the labels (G,) of a source of tags: 1 present, 0 absent, -1 unknown to it."""
        if (known := self.known_tags.get(source)) is None:
            return None
        present = {tag for n in self.select_rows(index, source) for tag in self.rows[n]["tags"]}
        labels = [float(tag in present) if tag in known else -1.0 for tag in self.tags]
        return torch.tensor(labels)  # (G,)

    def weigh_tags(self, index: int, source: int) -> float:
        """Return the weight of an image of a source of tags in the loss."""
        return min(
            (weight for n in self.select_rows(index, source) for weight in _weights(self.rows[n])),
            default=1.0,
        )

    def label_questions(self, texts: Texts, flip: bool) -> Tensor | None:
        """Return the targets (Q, A) of the questions; None for captions and without a classifier.

        Annotators whose answer is not a class are left out, so that a sum may be below 1. An answer
        counts by its weight.
        """
        if not self._classes or not texts.questions:
            return None
        targets = torch.zeros(len(texts.rows), len(self._classes))
        for target, number in zip(targets, texts.rows, strict=True):
            row = self.rows[number]
            references = row["references"]
            for text, weight in zip(references, _reference_weights(row), strict=True):
                if (place := self._classes.get(tuple(self._encode(text, flip)))) is not None:
                    target[place] += weight / len(references)
        return targets

    def measure(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield the length of each different text of each row.

        Yields:
            Kind (caption, answer or question), number of tokens with EOS, how many of them are
            bytes of characters that the tokenizer has no piece for, and the limit of the kind.
        """
        tokenizer, questions = self.tokenizer, self.tokenizer.question_tokenizer
        columns = (self.rows["references"], self.rows["question"])
        for references, question in zip(*columns, strict=True):
            for text in dict.fromkeys(references):
                ids = tokenizer.encode(normalize_caption(text, lowercase=self.lowercase))
                kind = "answer" if question else "caption"
                yield kind, len(ids), tokenizer.count_bytes(ids), self.max_length
            if question:
                ids = questions.encode(normalize_question(question, lowercase=self.lowercase))
                yield "question", len(ids), questions.count_bytes(ids), self.question_length

    def _encode(self, text: str, flip: bool) -> list[int]:
        text = normalize_caption(flip_caption(text) if flip else text, lowercase=self.lowercase)
        return self.tokenizer.encode(text, max_length=self.max_length)

    def _encode_question(self, text: str, flip: bool) -> list[int]:
        text = normalize_question(flip_caption(text) if flip else text, lowercase=self.lowercase)
        tokenizer = self.tokenizer.question_tokenizer
        return tokenizer.encode(text, max_length=self.question_length)


def _weights(row: Mapping[str, Any]) -> Sequence[float]:
    """Return `Example.weights` of a row of the table; empty if all are 1."""
    return row.get("weights") or ()


def _reference_weights(row: Mapping[str, Any]) -> Sequence[float]:
    """Return the weight of each reference of a row; a row of tags has none."""
    references = row["references"]
    return (_weights(row) or [1.0] * len(references)) if references else []


def _choose(items: Sequence[T], limit: int | None, rng: random.Random) -> Sequence[T]:
    return items if limit is None or len(items) <= limit else rng.sample(items, limit)
