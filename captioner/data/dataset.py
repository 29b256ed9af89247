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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captioner.audio import AudioSpec
from captioner.data.recordings import AudioAugmentation, Mix, read_spectrogram
from captioner.data.row_groups import RowGroups
from captioner.data.sample_texts import TextSampler
from captioner.data.text_encoding import TextEncoding
from captioner.errors import AudioError, ImageError
from captioner.images import load_image
from captioner.images.transforms import PixelSpec, augment, to_pixels

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


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
    weights: list[float] = field(default_factory=list)
    """Weight of each text in the loss, or one weight of the tags; empty if all are 1."""
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
        tokenizer: TextEncoding,
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
        self.augmentation, self.seed = augmentation, seed
        self.audio_spec, self.drop_input = audio_spec, drop_input
        self.audio_augmentation: AudioAugmentation | None = None
        """Augmentation of the recordings; set by the training loop."""
        self.processor: Callable[[Image.Image], np.ndarray] | None = None
        """Returns the pixels (3, H, W) of images that are not augmented, in the place of `spec`;
        set for a model with an image processor of its own."""
        self.features: np.ndarray | None = None
        """Cached features (V, N, P, C) that replace the pixels; set by the training loop."""
        groups = RowGroups(rows)
        self.images = groups.images
        """Path of each image, or of the recording if there is no image."""
        self.recordings = groups.recordings
        """Path of the recording of each image, equal to that of `images` if there is no image."""
        self._rows = groups
        """Row numbers of each image, by source."""
        self.unaugmented = groups.list_members(unaugmented)
        """For each image, True if it is never augmented."""
        self.texts = TextSampler(
            rows,
            self._rows,
            tokenizer=tokenizer,
            max_length=max_length,
            question_length=question_length,
            captions_per_image=captions_per_image,
            questions_per_image=questions_per_image,
            lowercase=lowercase,
            seed=seed,
            tags=tags or {},
            answers=answers,
        )

    def __len__(self) -> int:
        return len(self.images)

    def select_images(self, source: int) -> list[int]:
        """Return the indices of the images that a source has texts for."""
        return self._rows.select(source)

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
        texts = self.texts.draw(epoch, index, source, flip=flip)
        if mix:
            texts = self.texts.mix(
                texts, mix.index, mix.share, epoch=epoch, index=index, source=source
            )
        targets = self.texts.label_questions(texts, flip)
        labels = self.texts.label_tags(index, source)
        if labels is not None:
            texts = texts._replace(weights=[self.texts.weigh_tags(index, source)])
        return Sample(index, image, *texts, source, labels, targets, spectrogram)

    def make_blank(self, item: UnreadableImage) -> Sample:
        """Return a sample of zeros with the texts of an image, where some sample is needed."""
        if self.features is not None:
            image = torch.zeros(self.features.shape[2:], dtype=torch.float16)
        else:
            image = torch.zeros(self.spec.shape)
        texts = self.texts.draw(0, item.index, item.source, flip=False)
        labels = self.texts.label_tags(item.index, item.source)
        targets = self.texts.label_questions(texts, False)
        return Sample(item.index, image, *texts, item.source, labels, targets)

    def list_unflippable(self) -> list[int]:
        """Return the indices of the images that are never mirrored because of their texts."""
        augmented = (i for i in range(len(self)) if not self.unaugmented[i])
        return [i for i in augmented if not self.texts.can_flip(i)]

    def list_flips(self, view: int) -> list[bool]:
        """Return whether each image is mirrored in a view."""
        return [self._draw_view(view, index)[1] for index in range(len(self))]

    def _draw_view(self, view: int, index: int) -> tuple[random.Random, bool]:
        """Return the random generator of one view of an image, and whether it is mirrored."""
        rng = random.Random(f"view {self.seed} {view} {index}")
        flip, augmentation = rng.random() < 0.5, self._augmentation_of(index)
        if augmentation is None or not augmentation.flip:
            return rng, False
        return rng, flip and self.texts.can_flip(index)

    def _augmentation_of(self, index: int) -> Augmentation | None:
        return None if self.unaugmented[index] else self.augmentation

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

    def _read_pixels(self, index: int, rng: random.Random, flip: bool) -> Tensor:
        assert isinstance(self.spec, PixelSpec)
        image = load_image(self.images[index])
        a = self._augmentation_of(index)
        if a is None:
            pixels = self.processor(image) if self.processor else to_pixels(image, self.spec)
        else:
            scale, jitter = a.min_scale, a.jitter
            pixels = augment(image, self.spec, rng, min_scale=scale, flip=flip, jitter=jitter)
        return torch.from_numpy(pixels)
