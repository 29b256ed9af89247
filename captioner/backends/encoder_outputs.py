"""Encoder outputs of a batch of images or questions, and of each of them.

Shapes: B images (or questions), P memory positions, D width, A answers of a classifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from captioner.backends.base import Kind
from captioner.decoding.arrays import Array, namespace


def choose_kinds(names: Sequence[str], probabilities: Array) -> list[Kind]:
    """Return the most probable kind of each image, from the probabilities (B, N) of N kinds."""
    best = (max(zip(row, names, strict=True)) for row in probabilities.tolist())
    return [Kind(name, probability) for probability, name in best]


@dataclass(frozen=True, eq=False)
class EncoderOutputs:
    """The memory of images (B = 1, or several side by side), or of questions."""

    states: tuple[Array, ...]
    """(B, P, D) of each member; logits (B, A) if it classifies questions."""
    masks: tuple[Array | None, ...] | None = None
    """(B, P), False at padding, of each member whose fusion pads; None as a whole for images."""
    kind: Kind | None = None
    """The kind of the image, if B = 1 and the model recognizes kinds."""
    batch: tuple[EncoderOutputs, int] | None = field(default=None, repr=False)
    """The outputs that these were split from, and their index there."""

    @property
    def layout(self) -> tuple[int, ...]:
        """P of each member, or A."""
        return tuple(state.shape[1] for state in self.states)

    def split(self, kinds: Sequence[Kind | None] | None = None) -> list[EncoderOutputs]:
        """Return the outputs of each image or question, which share the arrays.

        `kinds` are those of the images.
        """
        count = len(self.states[0])
        states = zip(*([x[i : i + 1] for i in range(count)] for x in self.states), strict=True)
        masks: Iterable[Any] = [None] * count
        if self.masks is not None:
            members = ([x if x is None else x[i : i + 1] for i in range(count)] for x in self.masks)
            masks = zip(*members, strict=True)
        batches = ((self, i) for i in range(count))
        own = kinds or [None] * count
        return list(map(EncoderOutputs, states, masks, own, batches))

    @staticmethod
    def join(outputs: Sequence[EncoderOutputs]) -> EncoderOutputs:
        """Return the outputs side by side, without a copy if they are one whole batch."""
        if len(outputs) == 1:
            return outputs[0]
        whole, _ = outputs[0].batch or (outputs[0], 0)
        if [x.batch for x in outputs] == [(whole, i) for i in range(len(whole.states[0]))]:
            return whole
        concat = namespace(outputs[0].states[0]).concat
        states = zip(*(x.states for x in outputs), strict=True)
        masks = None
        if outputs[0].masks is not None:
            parts = zip(*(x.masks or () for x in outputs), strict=True)
            masks = tuple(None if part[0] is None else concat(part, 0) for part in parts)
        return EncoderOutputs(tuple(concat(part, 0) for part in states), masks)

    def __reduce__(self) -> tuple[Any, ...]:
        return EncoderOutputs, (self.states, self.masks, self.kind)  # without the rest of the batch
