"""Define the interface between the searches and a model, independent of the model's library.

A backend encodes images and questions into memories and computes the logits of the next token.
Searches in `captioner.generation` and the public `Captioner` access a model only through it.

Shapes: B images (or questions), K rows of each (beams or samples), T tokens of a text, P positions
of an image in memory, V vocabulary, A answers of a classifier.

Arrays are NumPy arrays or torch tensors, all of a backend of one library and on one device (see
`Backend.arrays`). Tokens, rows and places are int64, logits float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from captioner.backends.vocabulary import TextIds, TextTokenizer
from captioner.decoding.arrays import Array, Arrays
from captioner.decoding.rules import Rule

if TYPE_CHECKING:
    import numpy as np

    from captioner.audio import AudioSpec
    from captioner.backends.model_inputs import ModelInput, Prepared
    from captioner.images.transforms import PixelSpec

Memory = Any
"""Encoder outputs of one image, alone or fused with a question; opaque to callers.

Its attribute `layout` is hashable. Memories with equal layouts can be decoded together.
"""
NO_POSITIONS = (
    "attention: this model's fusion gives the decoder no positions of the image; request the"
    " attention of a caption, or use a model with the fusion concat, add, multiply or graph"
)
"""The error of `Backend.attention` for such a model."""
NO_VIEWS = "test-time augmentation is for images, and this model takes recordings only"
"""The error of test-time augmentation for such a model."""


class Kind(NamedTuple):
    """What an image is, such as a photograph or a screenshot."""

    name: str
    probability: float


class DecodingState(Protocol):
    """The state of one running search: the keys and values of the tokens so far.

    Arguments and results are arrays of the library and on the device of `Backend.arrays`.
    """

    def step(self, tokens: Array) -> Array:
        """Return the logits (B, K, V), float32, after one more token of each row.

        Tokens (B, K) are int64. Logits of tokens that are never part of a text (PAD, UNK, BOS)
        are -inf, and at least one logit of a row is finite. The search does not change the
        result, which may be overwritten by the next step.
        """

    def reorder(self, rows: Array) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows.

        `rows` is an int64 vector. The K rows of an image continue rows of one image, and the
        order of images does not change, so that a shorter vector means fewer images.
        """

    def admit(self, memories: Sequence[Memory], places: Array) -> None:
        """Replace the finished images at `places` (B,), int64, by new ones.

        It is called between a step and `reorder`, if `Backend.admits`. The new images begin at BOS
        with the next step.
        """


@runtime_checkable
class RuledState(DecodingState, Protocol):
    """The state of a search of a model that has rules of its own."""

    def rules(self, penalty: float, *, greedy: bool) -> Sequence[Rule]:
        """Return the rules of one search, to apply before others.

        Args:
            penalty: The penalty of repeated tokens, which the model defines; 1 is none.
            greedy: Whether the search is greedy or samples, and is no beam search.
        """


class Backend(TextIds, Protocol):
    """One model, or an ensemble whose members' probabilities are averaged at each step."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer that all members share; a model in training has none."""

    @property
    def captions(self) -> bool:
        """Whether the model captions images without a question."""

    @property
    def attends(self) -> bool:
        """Whether `attention` gives maps of images."""

    @property
    def admits(self) -> bool:
        """Whether `DecodingState.admit` can put new images into a running search.

        Otherwise, each batch is searched by itself, and its memories may have different layouts.
        """

    @property
    def models(self) -> Sequence[Any]:
        """The library's own model objects, one for each member."""

    @property
    def answers(self) -> Sequence[tuple[int, ...]]:
        """The token ids of the only answers of a classifier of questions; otherwise empty."""

    @property
    def specs(self) -> Sequence[PixelSpec | AudioSpec]:
        """The input format of each member's first encoder."""

    @property
    def audio_specs(self) -> Sequence[AudioSpec]:
        """The input format of each member's second encoder; empty if the members have one."""

    @property
    def device(self) -> Any:
        """The device of the model, as the library names it."""

    @property
    def arrays(self) -> Arrays:
        """The functions for the arrays that `DecodingState` takes and returns.

        `numpy_arrays.NUMPY` for NumPy arrays, or `torch_arrays.arrays_on(device)` for tensors on a
        device, of `captioner.decoding`.
        """

    @property
    def dtype(self) -> Any:
        """The floating-point type of the arithmetic, as the library names it."""

    @property
    def max_length(self) -> int:
        """The largest number of tokens of a text, EOS included."""

    def inference(self) -> AbstractContextManager[None]:
        """Return a context for computations without gradients, in which a search runs.

        It is entered for each result of a generator, so that it must be cheap. A library
        without gradients returns `contextlib.nullcontext()`.
        """

    def read(self, source: ModelInput) -> Prepared:
        """Read one image, recording or pair for the model; thread-safe. Raises InputError."""

    def encode(self, inputs: Sequence[Prepared]) -> list[Memory]:
        """Encode a batch of inputs; return one memory per input.

        Only memories of inputs with the same parts (`Prepared.kinds`) can be decoded together.
        """

    def kind(self, memory: Memory) -> Kind | None:
        """Return the kind of an encoded image; None if the model does not recognize kinds.

        Of an ensemble, the first member decides.
        """

    def encode_questions(
        self, memories: Sequence[Memory], questions: Sequence[Sequence[int]], owners: Sequence[int]
    ) -> list[Memory]:
        """Fuse questions with images; return one memory per question, to decode its answer from.

        Question i, token ids, is about the image with the memory `memories[owners[i]]`.
        """

    def classify(self, memories: Sequence[Memory], *, temperature: float = 1.0) -> np.ndarray:
        """Return the log-probabilities (B, A) of `answers`, of which there must be some.

        The memories are those of questions, and serve no other method. `temperature` divides the
        logits.
        """

    def start(
        self, memories: Sequence[Memory], *, rows: int, room: int, temperature: float = 1.0
    ) -> DecodingState:
        """Begin a search with `rows` beams or samples of each image or question.

        The caches must hold `room` steps; `temperature` divides the logits.
        """

    def score(
        self, memories: Sequence[Memory], texts: np.ndarray, *, temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities (B, K, T) of given texts (B, K, T), 0 at padding.

        Texts end in EOS and are padded with PAD. The sum over T is what a search assigns.
        """

    def attention(self, memories: Sequence[Memory], texts: np.ndarray) -> list[np.ndarray]:
        """Return each member's cross-attention (B, K, T, P) to the image, 0 at padding.

        The weights at t are those with which token t was predicted, averaged over layers and
        heads. Weights of a question's words are left out, so that a row may sum to less than 1.
        Raises CaptionerError where the memory has no image positions.
        """
