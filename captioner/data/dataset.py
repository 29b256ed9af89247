"""Rows on disk to samples: an image's pixels, or its kept features, with texts as ids.

What is random about a sample (crop, flip, colours, which texts) comes from (seed, epoch, image),
never from global state, so it depends on no worker, rank or restart.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captioner.data.mirrored_text import can_flip, flip_caption
from captioner.errors import ImageError
from captioner.images import load_image
from captioner.images.transforms import PixelSpec, augment, to_pixels
from captioner.text import normalize_caption, normalize_question
from captioner.tokenizer import Tokenizer


@dataclass(frozen=True)
class Augmentation:
    """How training images vary; see `ImageConfig`."""

    min_scale: float
    flip: bool
    jitter: float


class Key(NamedTuple):
    """Which sample is asked for."""

    epoch: int
    index: int
    """Of the image."""
    source: int = 0
    """Whose texts about it."""


@dataclass(frozen=True)
class Sample:
    """One image and some of the texts that one source has about it."""

    index: int
    image: Tensor
    """Pixels (3, H, W) or features (P, C)."""
    texts: list[list[int]]
    """Token ids of captions or answers, each ending in EOS."""
    questions: list[list[int]] = field(default_factory=list)
    """Token ids of the question that each text answers; empty for captions."""
    rows: list[int] = field(default_factory=list)
    """Row of each text in the table."""
    source: int = 0


@dataclass(frozen=True)
class UnreadableImage:
    """What stands in the place of a sample whose image does not decode."""

    index: int
    reason: str
    source: int = 0


class ImageDataset(Dataset):
    """Samples by `Key`: images, each with the rows that the sources have about it.

    `rows` is a table with the columns image, references, question and source: a captioned image
    is one row, a question about it another. `augmentation` is None for images as they are, and
    never touches those of the sources `unaugmented`. The limits on texts for a sample are drawn
    anew each epoch; None is no limit.
    """

    def __init__(
        self,
        rows: Any,
        *,
        spec: PixelSpec,
        tokenizer: Tokenizer,
        max_length: int,
        question_length: int = 32,
        captions_per_image: int | None = 5,
        questions_per_image: int | None = 8,
        lowercase: bool = True,
        augmentation: Augmentation | None = None,
        unaugmented: Collection[int] = (),
        seed: int = 0,
    ) -> None:
        self.rows, self.spec, self.tokenizer = rows, spec, tokenizer
        self.max_length, self.question_length = max_length, question_length
        self.captions_per_image = captions_per_image
        self.questions_per_image = questions_per_image
        self.lowercase, self.augmentation, self.seed = lowercase, augmentation, seed
        self.features = None
        """Kept features, (views, N, P, C), in the place of images; set by the training loop."""
        grouped: dict[str, dict[int, list[int]]] = {}
        for number, (image, source) in enumerate(zip(rows["image"], rows["source"], strict=True)):
            grouped.setdefault(image, {}).setdefault(source, []).append(number)
        self.images = list(grouped)
        """Path of each image."""
        self._rows = list(grouped.values())
        self.unaugmented = [not found.keys().isdisjoint(unaugmented) for found in self._rows]
        """Which images are never augmented."""
        self._flippable: dict[int, bool] = {}

    def __len__(self) -> int:
        return len(self.images)

    def select_images(self, source: int) -> list[int]:
        """The images that a source has texts about."""
        return [i for i, found in enumerate(self._rows) if source in found]

    def select_rows(self, index: int, source: int) -> list[int]:
        """The rows that a source has about an image."""
        return self._rows[index].get(source, [])

    def group_captions(self) -> dict[int, list[str]]:
        """The captions of each image that has any, from all sources."""
        found: dict[int, list[str]] = {}
        columns = (self.rows[name] for name in ("image", "question", "references"))
        places = {image: i for i, image in enumerate(self.images)}
        for image, question, references in zip(*columns, strict=True):
            if not question:
                found.setdefault(places[image], []).extend(references)
        return found

    def __getitem__(self, key: Key) -> Sample | UnreadableImage:
        epoch, index, source = key
        # Cached views take turns; shifting by the index mixes them within an epoch.
        view = epoch if self.features is None else (epoch + index) % len(self.features)
        rng, flip = self._view(view, index)
        if self.features is not None:
            image = torch.from_numpy(self.features[view, index])
            if image[0, 0].isnan():
                return UnreadableImage(index, self.images[index], source)
        else:
            try:
                image = self._pixels(index, rng, flip)
            except ImageError as error:
                return UnreadableImage(index, str(error), source)
        return Sample(index, image, *self._texts(epoch, index, source, flip), source)

    def make_blank(self, item: UnreadableImage) -> Sample:
        """Nothing to see, with the texts that there are: for what must be of some shape."""
        if self.features is not None:
            image = torch.zeros(self.features.shape[2:], dtype=torch.float16)
        else:
            image = torch.zeros(3, *self.spec.size)
        texts = self._texts(0, item.index, item.source, False)
        return Sample(item.index, image, *texts, item.source)

    def list_unflippable(self) -> list[int]:
        """Return the images that are never mirrored because of what their texts say."""
        return [i for i in range(len(self)) if not self.unaugmented[i] and not self._can_flip(i)]

    def measure_texts(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield the length of each text of the data set, once.

        Yields:
            Its kind (caption, answer or question), its tokens with EOS, how many of them are bytes
            of characters that the tokenizer has no piece for, and the limit for its kind.
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

    def list_flips(self, view: int) -> list[bool]:
        """Which images are mirrored in a view."""
        return [self._view(view, index)[1] for index in range(len(self))]

    def _view(self, view: int, index: int) -> tuple[random.Random, bool]:
        """The randomness of one view of an image, and whether it is mirrored."""
        rng = random.Random(f"view {self.seed} {view} {index}")
        flip = rng.random() < 0.5 and self._augmentation(index) is not None
        return rng, flip and self.augmentation.flip and self._can_flip(index)

    def _augmentation(self, index: int) -> Augmentation | None:
        return None if self.unaugmented[index] else self.augmentation

    def _can_flip(self, index: int) -> bool:
        """Whether all that is said about an image can be said of its mirror image."""
        if index not in self._flippable:
            rows = (self.rows[n] for numbers in self._rows[index].values() for n in numbers)
            texts = (text for row in rows for text in (*row["references"], row["question"]))
            self._flippable[index] = all(map(can_flip, texts))
        return self._flippable[index]

    def _pixels(self, index: int, rng: random.Random, flip: bool) -> Tensor:
        image = load_image(self.images[index])
        a = self._augmentation(index)
        if a is None:
            return to_pixels(image, self.spec)
        return augment(image, self.spec, rng, min_scale=a.min_scale, flip=flip, jitter=a.jitter)

    def _texts(
        self, epoch: int, index: int, source: int, flip: bool
    ) -> tuple[list[list[int]], list[list[int]], list[int]]:
        """Ids of the texts, of their questions, and their row numbers."""
        rng = random.Random(f"texts {self.seed} {epoch} {index} {source}")
        numbers = _draw(self.select_rows(index, source), self.questions_per_image, rng)
        texts, questions, rows = [], [], []
        for number in numbers:
            row = self.rows[number]
            # One of a question's answers is learnt at a time, each as often as it was given.
            limit = 1 if row["question"] else self.captions_per_image
            for text in _draw(row["references"], limit, rng):
                texts.append(self._encode(text, flip))
                rows.append(number)
                if row["question"]:
                    questions.append(self._encode_question(row["question"], flip))
        return texts, questions, rows

    def _encode(self, text: str, flip: bool) -> list[int]:
        text = normalize_caption(flip_caption(text) if flip else text, lowercase=self.lowercase)
        return self.tokenizer.encode(text, max_length=self.max_length)

    def _encode_question(self, text: str, flip: bool) -> list[int]:
        text = normalize_question(flip_caption(text) if flip else text, lowercase=self.lowercase)
        return self.tokenizer.question_tokenizer.encode(text, max_length=self.question_length)


def _draw(items: Sequence, limit: int | None, rng: random.Random) -> Sequence:
    return items if limit is None or len(items) <= limit else rng.sample(items, limit)
