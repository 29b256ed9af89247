"""Collate samples into a padded batch; the only place where labels are shifted.

Shapes: B images, K captions per image, T tokens; N questions, S question tokens, A answers of a
classifier; G tags; P positions and C channels of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from captioner.data.dataset import Sample, UnreadableImage
from captioner.tokenizer import BOS, PAD


@dataclass(frozen=True)
class Batch:
    """Input of one training step: captions (B, K, T), answers to questions (N, 1, T), or tags."""

    images: Tensor | None
    """Pixels (B, 3, H, W) or features (B, P, C); None if no image could be read."""
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

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        names = ("images", "tokens", "labels", "questions", "owners", "tags", "targets")
        tensors = {name: getattr(self, name) for name in names}
        moved = {k: v.to(device, non_blocking=True) for k, v in tensors.items() if v is not None}
        return replace(self, **moved)


def collate(samples: Sequence[Sample | UnreadableImage], *, question_pad: int = PAD) -> Batch:
    """Stack the images, and pad the texts and questions to the longest of the batch.

    The samples are of one source, so they have captions, questions or tags. `question_pad` is the
    padding id of the tokenizer for questions.
    """
    readable = [s for s in samples if isinstance(s, Sample)]
    questions = [question for s in readable for question in s.questions]
    texts = [text for s in readable for text in s.texts]
    labels = pad(texts, PAD)[:, None] if questions else _pad_captions(readable)  # (N, 1, T)
    tags = [s.tags for s in readable if s.tags is not None]
    targets = [s.targets for s in readable if s.targets is not None]
    owners = [i for i, s in enumerate(readable) for _ in s.questions]
    return Batch(
        images=torch.stack([s.image for s in readable]) if readable else None,
        tokens=decoder_input(labels),
        labels=labels,
        questions=pad(questions, question_pad) if questions else None,
        owners=torch.tensor(owners) if questions else None,
        source=samples[0].source,
        indices=[s.index for s in readable],
        rows=[s.rows for s in readable],
        unreadable=[s for s in samples if isinstance(s, UnreadableImage)],
        tags=torch.stack(tags) if tags else None,
        targets=torch.cat(targets) if targets else None,
    )


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return rows of ids as one tensor (N, longest), padded with a value."""
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


def _pad_captions(samples: Sequence[Sample]) -> Tensor:
    rows = max((len(s.texts) for s in samples), default=0)
    length = max((len(text) for s in samples for text in s.texts), default=0)
    labels = torch.full((len(samples), rows, length), PAD)  # (B, K, T)
    for i, sample in enumerate(samples):
        for j, text in enumerate(sample.texts):
            labels[i, j, : len(text)] = torch.tensor(text)
    return labels


def decoder_input(labels: Tensor) -> Tensor:
    """Return labels (B, K, T) shifted right by one token, starting with BOS."""
    tokens = labels.roll(1, dims=-1)
    tokens[..., :1] = BOS
    return tokens.masked_fill(labels == PAD, PAD)
