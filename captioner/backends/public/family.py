"""The interface between a backend and one kind of transformers model.

Shapes: B images (or questions), N rows of a search, L tokens of a prompt, V vocabulary, T tokens of
a text, P positions of an image in memory, A answers of a classifier.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captioner.backends.public.decoder_state import DecoderState
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.errors import CaptionerError
from captioner.images.transforms import PixelSpec


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """The encoded image: the output of the vision encoder, before any text."""

    tensors: dict[str, Tensor]
    """Tensors by name, without a batch dimension."""


@dataclass(frozen=True, eq=False)
class PromptedImage:
    """The memory of an image: its features with the prompt that a text continues."""

    features: ImageFeatures
    prompt: tuple[int, ...]
    """Token ids, with one image token where the family has one."""
    asks: bool = False
    """Whether the prompt is a question."""
    layout: tuple[()] = ()
    """Equal for all, because prompts of different lengths are padded."""


def square_spec(size: int) -> PixelSpec:
    """Return the format of square images, which the model's own processor normalizes."""
    return PixelSpec((size, size), (0.0,) * 3, (1.0,) * 3)


class Family(ABC):
    """One kind of model, with its weights, image processor and tokenizer.

    A subclass lists the `model_type` values of `config.json` that it loads.
    """

    model_types: ClassVar[tuple[str, ...]]
    captions: ClassVar[bool] = True
    """Whether the model captions images without a question."""
    questions: ClassVar[bool] = False
    """Whether the model answers questions."""
    attends: ClassVar[bool] = False
    """Whether `attention` gives the cross-attention to the image."""
    trainable: ClassVar[bool] = False
    """Whether `train.start` takes the model: `image_encoder` and `continuation_logits` work, and
    `encode` returns one tensor of features, of the same shape for all images."""
    pixel_inputs: ClassVar[tuple[str, ...]] = ("pixel_values",)
    """The outputs of the image processor that `encode` takes."""
    beam_size: ClassVar[int] = 5
    """Beams, unless the model's own generation settings state a number."""
    caption_length: int = 30
    """Longest caption in tokens by default."""
    answer_length: int = 12
    """Longest answer in tokens by default."""

    model: Any
    """The module of transformers."""
    processor: Any
    """The image processor."""
    vocabulary: Vocabulary
    start_tokens: tuple[int, ...] = ()
    """The input of an encoder-decoder before the first token of a text."""
    max_length: int
    """Largest number of tokens of a text after a prompt."""
    question_length: int
    """Largest number of tokens of a prompt with a question."""
    answers: Sequence[str] = ()
    """The only answers of a classifier of questions."""
    image_positions: int = 0
    """Places of the image in a prompt, if they are as many for all images."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> Family:
        """Load a model from a transformers folder, for inference.

        `dtype` is a type of torch, or "auto" for that of the stored weights. Raises CheckpointError
        if a part is missing or damaged.
        """

    @property
    def generator(self) -> Any:
        """The module whose `generate`, and whose generation settings, transformers uses."""
        return self.model

    def length_limit(self, *, asks: bool) -> int:
        """Return the longest caption or answer in tokens by default."""
        return min(self.answer_length if asks else self.caption_length, self.max_length)

    def prompt_length(self, *, asks: bool) -> int:
        """Return how many ids before a text the `max_length` of `generate` counts.

        Without the words of a question, and with one place of an image whose number of places
        depends on its size.
        """
        if self.start_tokens:
            return len(self.start_tokens)
        prompt = self.question_prompt("") if asks else self.caption_prompt()
        return self.image_positions + len(prompt)

    def prompt_tokens(self, memory: PromptedImage) -> Sequence[int]:
        """Return the ids before a text that `generate` takes into account as repeated tokens."""
        return memory.prompt

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        floats = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        dtype: torch.dtype = next(floats)
        return dtype

    @property
    def spec(self) -> PixelSpec | None:
        """The size of images that the model takes; None if it depends on the image."""
        return None

    def read(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """Return the `pixel_inputs` of an RGB image, each with a batch dimension of 1."""
        outputs = self.processor(images=[image], return_tensors="pt")
        return tuple(outputs[name].numpy() for name in self.pixel_inputs)

    @abstractmethod
    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images, given by their `pixel_inputs` on the device."""

    def caption_prompt(self) -> list[int]:
        """Return the prompt of a caption."""
        raise CaptionerError(
            "this model answers questions only; ask a question (--question, or in the request)"
        )

    def question_prompt(self, question: str) -> list[int]:
        """Return the prompt that contains a question."""
        raise CaptionerError("this model captions only and cannot answer questions")

    @abstractmethod
    def prefill(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, DecoderState]:
        """Compute the prompts; return the logits (B, V) of the first token, and the state."""

    @abstractmethod
    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after one more token of each row (N,); update the state."""

    feature_name: ClassVar[str] = "states"
    """The name of the features that `encode` returns, if the family is `trainable`."""

    @property
    def image_encoder(self) -> nn.Module:
        """The module that computes the features of `encode`."""
        raise NotImplementedError

    def continuation_logits(self, memories: Sequence[PromptedImage], tokens: Tensor) -> Tensor:
        """Return the logits (N, T + 1, V) after each prompt and after each of tokens (N, T).

        The texts are computed in one pass, with gradients if they are enabled. Negative ids at the
        end of a text are padding, after which the logits have no meaning.
        """
        raise NotImplementedError

    def classify(self, memories: Sequence[PromptedImage]) -> Tensor:
        """Return the logits (B, A) of the `answers` of a classifier."""
        raise NotImplementedError

    def attention(self, memory: PromptedImage, texts: Tensor) -> Tensor:
        """Return the cross-attention (K, T, P) to an image when the texts (K, T) are decoded.

        The weights at t are those with which token t is predicted, averaged over layers and heads.
        """
        raise CaptionerError(
            "attention: this model has no cross-attention to the image; use a model with a"
            " cross-attention decoder, such as BLIP or VisionEncoderDecoder"
        )
