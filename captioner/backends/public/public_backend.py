"""The backend of a transformers model; see `captioner.backends.base.Backend`.

Shapes: B images (or questions), K rows of each, T tokens of a text, P positions of an image in
memory, V vocabulary, A answers of a classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioner.backends.base import Kind
from captioner.backends.model_inputs import Inputs, ModelInput, Prepared
from captioner.backends.public.family import Family, ImageFeatures, PromptedImage
from captioner.backends.public.public_search import PublicDecodingState, check_numbers
from captioner.backends.public.text_rules import TokenRules
from captioner.decoding.arrays import Arrays
from captioner.decoding.torch_arrays import arrays_on
from captioner.errors import CaptionerError, CheckpointError, ImageError, InputError
from captioner.images import fit, is_blank, load_image
from captioner.images.transforms import PixelSpec
from captioner.sources import printable_line, source_name
from captioner.text import one_line

CHECKED_SIZE = (224, 224)
"""Height and width at which an image is examined for a single color or noise."""


class PublicBackend:
    """Implementation of `Backend` by one transformers model."""

    admits = False
    audio_specs = ()

    def __init__(self, family: Family) -> None:
        self.family, self.tokenizer = family, family.vocabulary
        self.bos, self.pad, self.ends = self.tokenizer.bos, self.tokenizer.pad, self.tokenizer.ends
        self.rules = TokenRules.of_model(
            family.generator, size=len(family.vocabulary), start=family.start_tokens
        )
        self.tokenizer.suppressed = self.rules.suppressed
        first = self.rules.first
        if first is not None and first in self.tokenizer.special:
            self.tokenizer.silent = (first,)

    @property
    def captions(self) -> bool:
        """Whether the model captions images without a question."""
        return self.family.captions

    @property
    def attends(self) -> bool:
        """Whether `attention` gives maps: with cross-attention to images of one size."""
        return self.family.attends and self.family.spec is not None

    @property
    def models(self) -> Sequence[Any]:
        """The transformers module."""
        return [self.family.model]

    @property
    def answers(self) -> Sequence[tuple[int, ...]]:
        """The token ids of the only answers of a classifier of questions."""
        return [tuple(self.tokenizer.encode(text)) for text in self.family.answers]

    @property
    def specs(self) -> Sequence[PixelSpec]:
        """The size of images; empty if it depends on the image."""
        return [self.family.spec] if self.family.spec is not None else []

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.family.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and arithmetic."""
        return self.family.dtype

    @property
    def arrays(self) -> Arrays:
        """The functions for tensors on the device."""
        return arrays_on(self.device)

    @property
    def max_length(self) -> int:
        """The largest number of tokens of a text, its end included."""
        return self.family.max_length

    def length_limit(self, *, asks: bool) -> int:
        """Return the longest caption or answer in tokens by default."""
        return self.family.length_limit(asks=asks)

    def inference(self) -> AbstractContextManager[None]:
        """Return torch's inference mode."""
        return torch.inference_mode()

    def read(self, source: ModelInput) -> Prepared:
        """Read one image; raise InputError."""
        if isinstance(source, Inputs):
            if source.audio is not None or source.image is None:
                raise InputError("a recording was given; this model takes images only")
            source = source.image
        image = load_image(source)  # type: ignore[arg-type]  # the error names what is accepted
        is_low = is_blank(image, fit(image, CHECKED_SIZE, crop=False))
        try:
            arrays = self.read_arrays(image)
        except Exception as error:  # the processors of transformers raise errors of many types
            name = source_name(source) or "<image>"
            problem = f"the model takes no image of {image.width} x {image.height} pixels"
            line = f"{name}: {problem} ({one_line(error)}); crop or resize it"
            raise ImageError(printable_line(line)) from None
        return Prepared(arrays, image.size, is_low)

    def read_arrays(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """Return the inputs of the model for an RGB image, each with a batch dimension of 1."""
        return self.family.read(image)

    @torch.inference_mode()
    def encode(self, inputs: Sequence[Prepared]) -> list[PromptedImage]:
        """Encode a batch of images; return one memory per image, with the prompt of a caption."""
        images = [[self._move(array) for array in x.arrays] for x in inputs]
        prompt = tuple(self.family.caption_prompt()) if self.family.captions else ()
        return [PromptedImage(features, prompt) for features in self._encode(images)]

    def _encode(self, images: Sequence[Sequence[Tensor]]) -> Sequence[ImageFeatures]:
        """Return the features of images; raise CheckpointError if the model rejects their size."""
        try:
            return self.family.encode(images)
        except (RuntimeError, ValueError) as error:
            if self.family.spec is None or "memory" in str(error):
                raise
            size = "x".join(map(str, images[0][0].shape[-2:]))
            raise CheckpointError(
                f"the model does not take images of {size} pixels, which its image processor gives"
                f" ({one_line(error).rstrip('.')}); restore preprocessor_config.json"
            ) from None

    def _move(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array).to(self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def kind(self, memory: PromptedImage) -> Kind | None:
        """Return None: these models do not recognize kinds."""
        return None

    def encode_questions(
        self,
        memories: Sequence[PromptedImage],
        questions: Sequence[Sequence[int]],
        owners: Sequence[int],
    ) -> list[PromptedImage]:
        """Return the memory of each question: the features of its image and its prompt."""
        pairs = zip(questions, owners, strict=True)
        return [PromptedImage(memories[i].features, tuple(ids), asks=True) for ids, i in pairs]

    @torch.inference_mode()
    def classify(
        self, memories: Sequence[PromptedImage], *, temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities (B, A) of the answers; see `Backend.classify`."""
        logits = self.family.classify(memories).float() / temperature
        check_numbers(logits)
        return logits.log_softmax(-1).cpu().numpy()

    def start(
        self, memories: Sequence[PromptedImage], *, rows: int, room: int, temperature: float = 1.0
    ) -> PublicDecodingState:
        """Begin a search; `room` is the largest number of tokens of a text."""
        self._check_prompts(memories)
        return PublicDecodingState(
            self.family, self.rules, memories, rows=rows, room=room, temperature=temperature
        )

    def _check_prompts(self, memories: Sequence[PromptedImage]) -> None:
        if not (self.family.captions or all(memory.asks for memory in memories)):
            self.family.caption_prompt()  # raises the error of a model without captions

    @torch.inference_mode()
    def score(
        self, memories: Sequence[PromptedImage], texts: np.ndarray, *, temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities (B, K, T) of given texts, one token after the other.

        The end of a text of the default length limit may be forced, as in a search with this limit.
        """
        ids = torch.from_numpy(texts).to(self.device)  # (B, K, T)
        written = ids != self.tokenizer.pad
        ids, (_, rows, length) = ids.clamp(min=0), ids.shape
        state = self.start(memories, rows=rows, room=length + 1, temperature=temperature)
        columns = []
        tokens = ids[..., 0]  # the first step continues the prompt, whatever its input is
        for t in range(length):
            logprobs = state.restore(state.step(tokens).log_softmax(-1))  # (B, K, V)
            tokens = ids[..., t]
            columns.append(logprobs.gather(-1, tokens[..., None])[..., 0])
        logprobs = torch.stack(columns, -1).masked_fill(~written, 0)  # a product gives nan for -inf
        if self.rules.last:
            logprobs.masked_fill_(self._is_forced_end(memories, ids, written), 0)
        return logprobs.cpu().numpy()

    def _is_forced_end(
        self, memories: Sequence[PromptedImage], ids: Tensor, written: Tensor
    ) -> Tensor:
        """Return which tokens (B, K, T) a search with the default length limit is forced to."""
        limits = [self.length_limit(asks=memory.asks) for memory in memories]
        lengths = written.cumsum(-1)  # (B, K, T)
        is_longest = lengths[..., -1:] == torch.tensor(limits, device=ids.device)[:, None, None]
        is_end = torch.isin(ids, torch.tensor(self.rules.last, device=ids.device))
        return is_end & is_longest & (lengths == lengths[..., -1:]) & written

    @torch.inference_mode()
    def attention(self, memories: Sequence[PromptedImage], texts: np.ndarray) -> list[np.ndarray]:
        """Return the cross-attention (B, K, T, P); see `Backend.attention`."""
        self._check_prompts(memories)
        if not self.specs:
            raise CaptionerError("attention: the positions of this model are not a fixed grid")
        ids = torch.from_numpy(texts).to(self.device)
        maps = [self.family.attention(m, x) for m, x in zip(memories, ids, strict=True)]
        check_numbers(torch.stack(maps))
        return [torch.stack(maps).float().cpu().numpy()]
