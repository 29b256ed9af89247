"""The backend of several transformers models whose probabilities are averaged.

Shapes: B images (or questions), K rows of each, T tokens of a text, P positions of an image in
memory, V vocabulary, A answers of a classifier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioner.backends.model_inputs import Prepared
from captioner.backends.public.family import PromptedImage
from captioner.backends.public.family_settings import build_config
from captioner.backends.public.public_backend import PublicBackend
from captioner.backends.public.public_search import PublicDecodingState, RuledSearch
from captioner.config import Config
from captioner.errors import CheckpointError
from captioner.images.transforms import PixelSpec

PROBE = "Is it a Café, or are these 2 bus-stops?"
"""A text that tokenizers and prompts with different rules encode differently."""


@dataclass(frozen=True, eq=False)
class EnsembleMemory:
    """The memory of one image or question: that of each member."""

    members: tuple[PromptedImage, ...]
    layout: tuple[()] = ()
    """Equal for all, as those of the members are."""

    @property
    def asks(self) -> bool:
        """Whether it has a question."""
        return self.members[0].asks


class PublicEnsemble(PublicBackend):
    """Implementation of `Backend` by several transformers models; see `build_ensemble`.

    Whatever the members have in common is that of the first one.
    """

    def __init__(self, members: Sequence[PublicBackend]) -> None:
        super().__init__(members[0].family)
        self.members = members
        image = Image.new("RGB", (64, 64))
        self.counts = [len(member.family.read(image)) for member in members]
        """Arrays of an image for each member."""

    @property
    def attends(self) -> bool:
        """Whether `attention` gives maps of all members."""
        return all(member.attends for member in self.members)

    @property
    def models(self) -> Sequence[Any]:
        """The transformers module of each member."""
        return [member.family.model for member in self.members]

    @property
    def specs(self) -> Sequence[PixelSpec]:
        """The size of images of each member; empty if it depends on the image."""
        specs = [spec for member in self.members for spec in member.specs]
        return specs if len(specs) == len(self.members) else []

    @property
    def max_length(self) -> int:
        """The largest number of tokens of a text, its end included."""
        return min(member.max_length for member in self.members)

    def length_limit(self, *, asks: bool) -> int:
        """Return the longest caption or answer in tokens by default."""
        return min(member.length_limit(asks=asks) for member in self.members)

    def read_arrays(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """Return the inputs of an RGB image of all members, one after the other."""
        return tuple(array for member in self.members for array in member.read_arrays(image))

    def encode(self, inputs: Sequence[Prepared]) -> list[Any]:
        """Encode a batch of images; return one `EnsembleMemory` per image."""
        columns, start = [], 0
        for member, count in zip(self.members, self.counts, strict=True):
            own = [x._replace(arrays=x.arrays[start : start + count]) for x in inputs]
            columns.append(member.encode(own))
            start += count
        return _join(columns)

    def encode_questions(
        self, memories: Sequence[Any], questions: Sequence[Sequence[int]], owners: Sequence[int]
    ) -> list[Any]:
        """Return the memory of each question, whose prompt all members share."""
        each = self._each(memories)
        return _join([m.encode_questions(own, questions, owners) for m, own in each])

    def classify(self, memories: Sequence[Any], *, temperature: float = 1.0) -> np.ndarray:
        """Return the log-probabilities (B, A) of the answers; see `Backend.classify`."""
        each = [m.classify(own, temperature=temperature) for m, own in self._each(memories)]
        mean: np.ndarray = np.logaddexp.reduce(each) - math.log(len(each))
        return mean

    def start(
        self, memories: Sequence[Any], *, rows: int, room: int, temperature: float = 1.0
    ) -> Any:
        """Begin a search; return an `EnsembleDecodingState`. `score` also uses it."""
        options: dict[str, Any] = {"rows": rows, "room": room, "temperature": temperature}
        return EnsembleDecodingState([m.start(own, **options) for m, own in self._each(memories)])

    def attention(self, memories: Sequence[Any], texts: np.ndarray) -> list[np.ndarray]:
        """Return each member's cross-attention (B, K, T, P); see `Backend.attention`."""
        return [maps for m, own in self._each(memories) for maps in m.attention(own, texts)]

    def _each(
        self, memories: Sequence[EnsembleMemory]
    ) -> Iterator[tuple[PublicBackend, list[PromptedImage]]]:
        """Yield each member with its memories."""
        for i, member in enumerate(self.members):
            yield member, [memory.members[i] for memory in memories]


class EnsembleDecodingState(RuledSearch):
    """The decoders of all members as one `step`; see `DecodingState`.

    The members have equal rules. A repetition penalty includes the prompt of the first one.
    """

    def __init__(self, states: Sequence[PublicDecodingState]) -> None:
        self.states = states
        self.family, self.token_rules = states[0].family, states[0].token_rules

    @property
    def memories(self) -> list[PromptedImage]:  # type: ignore[override]  # read-only
        """The memories of the first member."""
        return self.states[0].memories

    def step(self, tokens: Tensor) -> Tensor:
        """Return the logarithm of the mean probabilities (B, K, V) after tokens (B, K)."""
        logprobs = [state.restore(state.step(tokens).log_softmax(-1)) for state in self.states]
        self.logits = torch.stack(logprobs).logsumexp(0) - math.log(len(logprobs))
        if self.token_rules.suppresses:
            self.allowed = self.logits.logsumexp(-1, keepdim=True)
        return self.logits

    def reorder(self, rows: Tensor) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`."""
        for state in self.states:
            state.reorder(rows)

    def admit(self, memories: Sequence[EnsembleMemory], places: Tensor) -> None:
        """Raise NotImplementedError, as each member does."""
        raise NotImplementedError


def _join(columns: Sequence[Sequence[PromptedImage]]) -> list[EnsembleMemory]:
    """Return the memories of images or questions from the list of each member."""
    return [EnsembleMemory(members) for members in zip(*columns, strict=True)]


def build_ensemble(
    names: Sequence[str], members: Sequence[PublicBackend]
) -> tuple[PublicEnsemble, Config]:
    """Return an ensemble of models and the settings of its searches, which are those of the first.

    Raises:
        CheckpointError: A member differs from the first one; the message has their `names`.
    """
    _check_members(names, members)
    return PublicEnsemble(members), build_config(*(member.family for member in members))


def _check_members(names: Sequence[str], members: Sequence[PublicBackend]) -> None:
    """Raise CheckpointError unless models have the same vocabulary, tasks and prompts.

    The prompt of a caption may differ, because each member begins with its own.
    """
    first = _list_traits(members[0])
    for name, member in zip(names[1:], members[1:], strict=True):
        own = _list_traits(member)
        for what in {**first, **own}:
            expected, actual = first.get(what), own.get(what)
            if actual != expected:
                raise CheckpointError(
                    f"{names[0]} and {name}: the members of an ensemble must have the same tasks,"
                    f" tokens and prompts of questions, but the {what} of the first is"
                    f" {expected!r}, of the second {actual!r}"
                )


def _list_traits(backend: PublicBackend) -> dict[str, Any]:
    """Return what members must have in common, each value with its name in a message."""
    family, vocabulary = backend.family, backend.family.vocabulary
    tasks = {"captions": family.captions, "questions": family.questions}
    lists: dict[str, Sequence[Any]] = {
        "answer": family.answers,
        "token": vocabulary.list_pieces(),
        "size of question tokenizer": [controls.size for controls in vocabulary.controls],
        "encoding of a test text at position": vocabulary.encode(PROBE),
        "prompt of a test question at position": (
            family.question_prompt(PROBE) if family.questions else []
        ),
    }
    return {
        "task": " and ".join(name for name, exists in tasks.items() if exists),
        "number of answers": len(family.answers),
        "number of tokens": len(vocabulary),
        "end of a text": vocabulary.ends,
        "set of generation rules": vars(backend.rules),
        **{f"{what} {i}": x for what, items in lists.items() for i, x in enumerate(items)},
    }
