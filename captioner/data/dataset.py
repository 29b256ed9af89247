"""Dataset of samples: pixels, spectrograms or cached features, with token ids or tags.

All randomness of a sample (crop, flip, colors, choice of texts) derives from (seed, epoch, image),
never from global state, so it does not depend on workers, ranks or restarts.

The first encoder takes images, or recordings in a model of these alone. "Image" means the input of
the first encoder here. A model of both has a second encoder for recordings.

Shapes: H, W image size; M mel bands and T frames of a spectrogram; V cached views, N images, P
positions and C channels of features; G tags; Q questions about an image, A answers of a classifier.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captioner.audio import AudioSpec
from captioner.data.mirrored_text import can_flip, flip_caption
from captioner.data.recordings import AudioAugmentation, Mix, read_spectrogram
from captioner.errors import AudioError, ImageError
from captioner.images import load_image
from captioner.images.transforms import PixelSpec, augment, to_pixels
from captioner.text import normalize_caption, normalize_question
from captioner.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
Texts = tuple[list[list[int]], list[list[int]], list[int]]
"""Token ids of texts and of their questions, and the row of each text."""


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images; see `ImageConfig`."""

    min_scale: float
    flip: bool
    jitter: float


class Key(NamedTuple):
    """Identifies a sample."""

    epoch: int
    image: int
    """Index of the image."""
    source: int = 0
    """Index of the data set that the texts belong to."""


@dataclass(frozen=True)
class Sample:
    """One image and some of the texts of one source for it, or its tags."""

    index: int
    """Index of the image."""
    image: Tensor | None
    """Pixels (3, H, W), a spectrogram (1, M, T) or features (P, C); None if there is only an input
    of the second encoder."""
    texts: list[list[int]]
    """Token ids of captions or answers, each ending in EOS."""
    questions: list[list[int]] = field(default_factory=list)
    """Token ids of the question that each text answers; empty for captions."""
    rows: list[int] = field(default_factory=list)
    """Row of each text in the table."""
    source: int = 0
    tags: Tensor | None = None
    """For a source of tags: 1 if a tag is present, 0 if it is absent, -1 if the source never uses
    it (G,)."""
    targets: Tensor | None = None
    """For a classifier of questions: the share of the annotators that gave each answer (Q, A)."""
    spectrogram: Tensor | None = None
    """Input of the second encoder (1, M, T)."""


@dataclass(frozen=True)
class UnreadableImage:
    """Replaces a sample whose image cannot be decoded."""

    index: int
    reason: str
    source: int = 0


class ImageDataset(Dataset[Sample | UnreadableImage]):
    """Samples by `Key`: images, each with the rows of all sources about it.

    Args:
        rows: Table with the columns image, audio, references, question, tags and source; a row is
            an image with its captions or its tags, or a question about an image.
        spec: Input format of the first encoder.
        audio_spec: Input format of the second encoder, if there is one.
        tokenizer: Tokenizer of captions and answers; `question_tokenizer` encodes the questions.
        max_length: Most tokens of a caption or answer, EOS included.
        question_length: Most tokens of a question.
        captions_per_image: Captions that are drawn for a sample in each epoch; None takes all.
        questions_per_image: Questions that are drawn for a sample in each epoch; None takes all.
        lowercase: Convert texts to lower case.
        augmentation: Augmentation of the images, or None.
        unaugmented: Sources whose images are never augmented.
        drop_input: Probability of leaving out one input of a sample with an image and a recording.
        seed: Seed of all random numbers.
        tags: The tags to predict for each source of tags; others are ignored.
        answers: Token ids of the answers of a classifier of questions.
    """

    def __init__(
        self,
        rows: Any,
        *,
        spec: PixelSpec | AudioSpec,
        audio_spec: AudioSpec | None = None,
        tokenizer: Tokenizer,
        max_length: int,
        question_length: int = 32,
        captions_per_image: int | None = 5,
        questions_per_image: int | None = 8,
        lowercase: bool = True,
        augmentation: Augmentation | None = None,
        unaugmented: Collection[int] = (),
        drop_input: float = 0.0,
        seed: int = 0,
        tags: Mapping[int, Collection[str]] | None = None,
        answers: Sequence[tuple[int, ...]] = (),
    ) -> None:
        self.rows, self.spec, self.tokenizer = rows, spec, tokenizer
        self.max_length, self.question_length = max_length, question_length
        self.captions_per_image = captions_per_image
        self.questions_per_image = questions_per_image
        self.lowercase, self.augmentation, self.seed = lowercase, augmentation, seed
        self.audio_spec, self.drop_input = audio_spec, drop_input
        self.audio_augmentation: AudioAugmentation | None = None
        """Augmentation of the recordings; set by the training loop."""
        self.features: np.ndarray | None = None
        """Cached features (V, N, P, C) that replace the pixels; set by the training loop."""
        grouped: dict[tuple[str, str], dict[int, list[int]]] = {}
        columns = rows["image"], rows["audio"], rows["source"]
        for number, (image, audio, source) in enumerate(zip(*columns, strict=True)):
            grouped.setdefault((image, audio), {}).setdefault(source, []).append(number)
        self.images = [image for image, _ in grouped]
        """Path of each image, or of the recording if there is no image."""
        self.recordings = [audio for _, audio in grouped]
        """Path of the recording of each image, equal to that of `images` if there is no image."""
        self._rows = list(grouped.values())
        """Row numbers of each image, by source."""
        self.unaugmented = [not rows.keys().isdisjoint(unaugmented) for rows in self._rows]
        """For each image, True if it is never augmented."""
        self._flippable: dict[int, bool] = {}
        self.known_tags = tags or {}
        """The tags to predict for each source of tags."""
        self.tags = sorted(set().union(*self.known_tags.values()))
        """The tags of all sources, in the order of `Sample.tags`."""
        self.answers = answers
        """Token ids of the classes of questions."""
        self._classes = {ids: place for place, ids in enumerate(answers)}

    def __len__(self) -> int:
        return len(self.images)

    def select_images(self, source: int) -> list[int]:
        """Return the indices of the images that a source has texts for."""
        return [i for i, rows in enumerate(self._rows) if source in rows]

    def select_rows(self, index: int, source: int) -> list[int]:
        """Return the numbers of the rows of a source about an image."""
        return self._rows[index].get(source, [])

    def __getitem__(self, key: Key) -> Sample | UnreadableImage:
        epoch, index, source = key
        # The epochs cycle through the cached views, each image with another offset.
        view = epoch if self.features is None else (epoch + index) % len(self.features)
        rng, flip = self._draw_view(view, index)
        mix = self._draw_mix(view, index)
        image: Tensor | None
        spectrogram: Tensor | None = None
        if self.features is not None:
            image = torch.from_numpy(self.features[view, index])
            if image[0, 0].isnan():
                return UnreadableImage(index, self.images[index], source)
        else:
            try:
                image, spectrogram = self._read_inputs(key, view, rng, flip, mix)
            except (AudioError, ImageError) as error:
                return UnreadableImage(index, str(error), source)
        texts = self._draw_texts(epoch, index, source, flip)
        if mix:
            texts = self._mix_texts(texts, mix, key)
        targets = self._label_questions(texts, flip)
        labels = self._label_tags(index, source)
        return Sample(index, image, *texts, source, labels, targets, spectrogram)

    def make_blank(self, item: UnreadableImage) -> Sample:
        """Return a sample of zeros with the texts of an image, where some sample is needed."""
        if self.features is not None:
            image = torch.zeros(self.features.shape[2:], dtype=torch.float16)
        else:
            image = torch.zeros(self.spec.shape)
        texts = self._draw_texts(0, item.index, item.source, False)
        labels = self._label_tags(item.index, item.source)
        targets = self._label_questions(texts, False)
        return Sample(item.index, image, *texts, item.source, labels, targets)

    def list_unflippable(self) -> list[int]:
        """Return the indices of the images that are never mirrored because of their texts."""
        return [i for i in range(len(self)) if not self.unaugmented[i] and not self._can_flip(i)]

    def measure_texts(self) -> Iterator[tuple[str, int, int, int]]:
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

    def list_flips(self, view: int) -> list[bool]:
        """Return whether each image is mirrored in a view."""
        return [self._draw_view(view, index)[1] for index in range(len(self))]

    def _draw_view(self, view: int, index: int) -> tuple[random.Random, bool]:
        """Return the random generator of one view of an image, and whether it is mirrored."""
        rng = random.Random(f"view {self.seed} {view} {index}")
        flip, augmentation = rng.random() < 0.5, self._augmentation_of(index)
        if augmentation is None or not augmentation.flip:
            return rng, False
        return rng, flip and self._can_flip(index)

    def _augmentation_of(self, index: int) -> Augmentation | None:
        return None if self.unaugmented[index] else self.augmentation

    def _can_flip(self, index: int) -> bool:
        """Return whether all texts about an image can be adapted to its mirror image."""
        if index not in self._flippable:
            rows = (self.rows[n] for numbers in self._rows[index].values() for n in numbers)
            texts = (text for row in rows for text in (*row["references"], row["question"]))
            self._flippable[index] = all(map(can_flip, texts))
        return self._flippable[index]

    def _read_inputs(
        self, key: Key, view: int, rng: random.Random, flip: bool, mix: Mix | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the inputs of the first and of the second encoder; one may be missing."""
        index = key.image
        if isinstance(self.spec, AudioSpec):
            return self._read_spectrogram(index, view, self.spec, mix), None
        has_image, has_audio = self._choose_inputs(key)
        pixels = self._read_pixels(index, rng, flip) if has_image else None
        if not has_audio or self.audio_spec is None:
            return pixels, None
        return pixels, self._read_spectrogram(index, view, self.audio_spec, mix)

    def _choose_inputs(self, key: Key) -> tuple[bool, bool]:
        """Return whether a sample has its image and its recording; `drop_input` leaves out one."""
        image, audio = self.images[key.image], self.recordings[key.image]
        if not audio or self.audio_spec is None:
            return True, False
        if image == audio:
            return False, True
        rng = random.Random(f"inputs {self.seed} {key.epoch} {key.image} {key.source}")
        if rng.random() >= self.drop_input:
            return True, True
        keeps_image = rng.random() < 0.5
        return keeps_image, not keeps_image

    def _read_spectrogram(self, index: int, view: int, spec: AudioSpec, mix: Mix | None) -> Tensor:
        augmentation = None if self.unaugmented[index] else self.audio_augmentation
        rng = random.Random(f"audio {self.seed} {view} {index}")
        spectrogram = read_spectrogram(
            self.recordings[index],
            spec,
            rng,
            augmentation=augmentation,
            other=(self.recordings[mix.index], mix.share) if mix else None,
        )
        return torch.from_numpy(spectrogram)

    def _draw_mix(self, view: int, index: int) -> Mix | None:
        """Return what is mixed into a recording without an image; None if nothing is."""
        augmentation = self.audio_augmentation
        if augmentation is None or not augmentation.mixup or self.unaugmented[index]:
            return None
        rng = random.Random(f"mixup {self.seed} {view} {index}")
        if rng.random() >= augmentation.mixup:
            return None
        other = rng.randrange(len(self))
        if not all(self.images[i] == self.recordings[i] for i in (index, other)):
            return None
        return Mix(other, rng.uniform(0.5, 1))

    def _mix_texts(self, drawn: Texts, mix: Mix, key: Key) -> Texts:
        """Replace captions by those of the second recording in proportion to its share.

        The expected loss is that of mixup: the mean of the losses of both, weighted by the shares.
        """
        texts, questions, rows = drawn
        others = self._draw_texts(key.epoch, mix.index, key.source, False)[0]
        if questions or not others:
            return drawn
        rng = random.Random(f"mixed texts {self.seed} {key.epoch} {key.image} {key.source}")
        mixed = [rng.choice(others) if rng.random() >= mix.share else text for text in texts]
        return mixed, questions, rows

    def _read_pixels(self, index: int, rng: random.Random, flip: bool) -> Tensor:
        assert isinstance(self.spec, PixelSpec)
        image = load_image(self.images[index])
        a = self._augmentation_of(index)
        if a is None:
            pixels = to_pixels(image, self.spec)
        else:
            scale, jitter = a.min_scale, a.jitter
            pixels = augment(image, self.spec, rng, min_scale=scale, flip=flip, jitter=jitter)
        return torch.from_numpy(pixels)

    def _label_tags(self, index: int, source: int) -> Tensor | None:
        if (known := self.known_tags.get(source)) is None:
            return None
        present = {tag for n in self.select_rows(index, source) for tag in self.rows[n]["tags"]}
        labels = [float(tag in present) if tag in known else -1.0 for tag in self.tags]
        return torch.tensor(labels)  # (G,)

    def _label_questions(self, texts: Texts, flip: bool) -> Tensor | None:
        """Return the targets (Q, A) of the questions; None for captions and without a classifier.

        Annotators whose answer is not a class are left out, so that a sum may be below 1.
        """
        _, questions, numbers = texts
        if not self._classes or not questions:
            return None
        targets = torch.zeros(len(numbers), len(self._classes))
        for target, number in zip(targets, numbers, strict=True):
            references = self.rows[number]["references"]
            for text in references:
                if (place := self._classes.get(tuple(self._encode(text, flip)))) is not None:
                    target[place] += 1 / len(references)
        return targets

    def _draw_texts(self, epoch: int, index: int, source: int, flip: bool) -> Texts:
        """Return the ids of the texts, the ids of their questions, and their row numbers."""
        rng = random.Random(f"texts {self.seed} {epoch} {index} {source}")
        numbers = _draw(self.select_rows(index, source), self.questions_per_image, rng)
        texts, questions, rows = [], [], []
        for number in numbers:
            row = self.rows[number]
            # One answer per question, so that each is drawn in proportion to its annotators.
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
        tokenizer = self.tokenizer.question_tokenizer
        return tokenizer.encode(text, max_length=self.question_length)


def _draw(items: Sequence[T], limit: int | None, rng: random.Random) -> Sequence[T]:
    return items if limit is None or len(items) <= limit else rng.sample(items, limit)
