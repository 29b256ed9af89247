"""Collate samples into a padded batch; the only place where labels are shifted.

Shapes: B images, K captions per image, T tokens; N questions, S question tokens, A answers of a
classifier; G tags; P positions and C channels of features;
M mel bands and T frames of spectrograms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from captioner.data.dataset import Sample, UnreadableImage
from captioner.data.text_encoding import TextEncoding
from captioner.tokenizer import BOS, PAD


@dataclass(frozen=True)
class Batch:
    """Input of one training step: captions (B, K, T), answers to questions (N, 1, T), or tags."""

    images: Tensor | None
    """Pixels (B, 3, H, W) or features (B, P, C); None if no sample has an image that can be
    read. Spectrograms (B, 1, M, T) for a model of recordings only."""
    tokens: Tensor
    """Decoder input: BOS and the text, (B, K, T) or (N, 1, T)."""
    labels: Tensor
    """Decoder target: the text and EOS, of the same shape."""
    questions: Tensor | None
    """Question ids (N, S), or None for captions."""
    owners: Tensor | None
    """Index of the image of each question (N,), or None for captions."""
    source: int
    """Index of the data set that the texts belong to."""
    indices: list[int]
    """Index of each image in the data set."""
    rows: list[list[int]]
    """Row of each text in the table, by image."""
    unreadable: list[UnreadableImage]
    tags: Tensor | None = None
    """1 for present, 0 for absent and -1 for unknown tags (B, G); None for captions and questions.
    With tags, there are no tokens."""
    targets: Tensor | None = None
    """Shares of the annotators that gave each answer (N, A), for a classifier of questions."""
    spectrograms: Tensor | None = None
    """Inputs of a second encoder. The samples with an image only come first, then those with both
    inputs, then those with a recording only."""
    both: int = 0
    """Number of samples with both inputs."""
    weights: Tensor | None = None
    """Weights in the loss of captions (B, K), answers (N, 1) or tags (B,); None if all are 1."""

    def split(self) -> list[Batch]:
        """Return a batch for each combination of inputs that occurs, in order."""
        if self.spectrograms is None:
            return [self]
        count, both = len(self.indices), self.both
        images = count - len(self.spectrograms)  # with an image only
        bounds = [(0, images), (images, images + both), (images + both, count)]
        return [self._part(*bound, images) for bound in bounds if bound[0] < bound[1]]

    def _part(self, first: int, last: int, images: int) -> Batch:
        """Return the samples from `first` to `last`; `images` have an image only."""
        part = replace(self, indices=self.indices[first:last], rows=self.rows[first:last])
        end = images + self.both
        pixels = None if self.images is None or first >= end else self.images[first:last]
        audio = self.spectrograms
        sound = None if audio is None or last <= images else audio[first - images : last - images]
        part = replace(part, images=pixels, spectrograms=sound, both=self.both * (first == images))
        weights = self.weights
        if self.questions is None or self.owners is None:
            weights = None if weights is None else weights[first:last]
            tokens, labels = self.tokens[first:last], self.labels[first:last]
            return replace(part, tokens=tokens, labels=labels, weights=weights)
        asked = (self.owners >= first) & (self.owners < last)
        return replace(
            part,
            tokens=self.tokens[asked],
            labels=self.labels[asked],
            questions=self.questions[asked],
            owners=self.owners[asked] - first,
            targets=None if self.targets is None else self.targets[asked],
            weights=None if weights is None else weights[asked],
        )

    def token_weights(self, text_pad: int = PAD) -> Tensor | None:
        """Return the weight of each of the M tokens that are not padding (M,); None if all are 1.

        The weights of a classifier of questions are in `targets`.
        """
        if self.weights is None or self.tags is not None or self.targets is not None:
            return None
        return self.weights[..., None].expand(self.labels.shape)[self.labels != text_pad]

    def image_weights(self, text_pad: int = PAD) -> Tensor | None:
        """Return the mean weight of the captions of each image (B,); None if all are 1."""
        if self.weights is None:
            return None
        exists = self.labels[..., 0] != text_pad  # (B, K)
        return (self.weights * exists).sum(1) / exists.sum(1).clamp(min=1)

    def count(self, text_pad: int = PAD) -> Tensor:
        """Return the sum of the weights of all tokens, questions of a classifier or tagged images.

        It is a float, so that it is of the same type on all ranks; exact up to 2^24 if all are 1.
        """
        if self.tags is None and self.targets is None:
            weights = self.token_weights(text_pad)
            return (self.labels != text_pad).sum().float() if weights is None else weights.sum()
        if self.weights is not None:
            return self.weights.sum()
        units = self.labels if self.tags is None else self.tags
        return torch.tensor(float(len(units)), device=self.device)

    @property
    def is_readable(self) -> bool:
        """True if any input could be read."""
        return self.images is not None or self.spectrograms is not None

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.tokens.device

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        texts = ("tokens", "labels", "questions", "owners", "tags", "targets", "weights")
        names = ("images", "spectrograms", *texts)
        tensors = {name: getattr(self, name) for name in names}
        moved = {k: v.to(device, non_blocking=True) for k, v in tensors.items() if v is not None}
        return replace(self, **moved)


def collate(
    samples: Sequence[Sample | UnreadableImage], *, text_pad: int = PAD, question_pad: int = PAD
) -> Batch:
    """Stack the images, and pad the texts and questions to the longest of the batch.

    The samples are of one source, so they have captions, questions or tags. `text_pad` is the
    padding id of the tokenizer for texts, `question_pad` that of the tokenizer for questions.
    """
    readable = [s for s in samples if isinstance(s, Sample)]
    readable.sort(key=lambda s: (s.image is None) + (s.spectrogram is not None))
    images = [s.image for s in readable if s.image is not None]
    spectrograms = [s.spectrogram for s in readable if s.spectrogram is not None]
    questions = [question for s in readable for question in s.questions]
    texts = [text for s in readable for text in s.texts]
    labels = pad(texts, text_pad)[:, None] if questions else _pad_captions(readable, text_pad)
    tags = [s.tags for s in readable if s.tags is not None]
    targets = [s.targets for s in readable if s.targets is not None]
    owners = [i for i, s in enumerate(readable) for _ in s.questions]
    return Batch(
        images=torch.stack(images) if images else None,
        tokens=decoder_input(labels, text_pad),
        labels=labels,
        questions=pad(questions, question_pad) if questions else None,
        owners=torch.tensor(owners) if questions else None,
        source=samples[0].source,
        indices=[s.index for s in readable],
        rows=[s.rows for s in readable],
        unreadable=[s for s in samples if isinstance(s, UnreadableImage)],
        tags=torch.stack(tags) if tags else None,
        targets=torch.cat(targets) if targets else None,
        spectrograms=torch.stack(spectrograms) if spectrograms else None,
        both=len(images) + len(spectrograms) - len(readable),
        weights=_collect_weights(readable),
    )


def collate_for(
    tokenizer: TextEncoding,
) -> Callable[[Sequence[Sample | UnreadableImage]], Batch]:
    """Return `collate` with the padding ids of a tokenizer."""
    question_pad = tokenizer.question_tokenizer.pad
    return partial(collate, text_pad=tokenizer.pad, question_pad=question_pad)


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return rows of ids as one tensor (N, longest), padded with a value."""
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


def _pad_captions(samples: Sequence[Sample], text_pad: int) -> Tensor:
    rows = max((len(s.texts) for s in samples), default=0)
    length = max((len(text) for s in samples for text in s.texts), default=0)
    labels = torch.full((len(samples), rows, length), text_pad)  # (B, K, T)
    for i, sample in enumerate(samples):
        for j, text in enumerate(sample.texts):
            labels[i, j, : len(text)] = torch.tensor(text)
    return labels


def _collect_weights(samples: Sequence[Sample]) -> Tensor | None:
    """Return the weights of captions (B, K), answers (N, 1) or tags (B,); None if all are 1.

    Captions that fill the end of a row (K) have the weight 0.
    """
    if all(weight == 1 for s in samples for weight in s.weights):
        return None
    rows = [torch.tensor(s.weights or [1.0] * max(1, len(s.texts))) for s in samples]
    if any(s.questions for s in samples):
        return torch.cat(rows)[:, None]
    if any(s.tags is not None for s in samples):
        return torch.cat(rows)
    return pad_sequence(rows, True, 0.0)


def decoder_input(labels: Tensor, text_pad: int = PAD) -> Tensor:
    """Return labels (B, K, T) shifted right by one token, starting with BOS.

    A model of another library replaces BOS by its own prompt.
    """
    tokens = labels.roll(1, dims=-1)
    tokens[..., :1] = BOS
    return tokens.masked_fill(labels == text_pad, text_pad)
