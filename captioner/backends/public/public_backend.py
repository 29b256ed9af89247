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
from torch import Tensor

from captioner.backends.base import Kind
from captioner.backends.model_inputs import Inputs, ModelInput, Prepared
from captioner.backends.public.decoder_state import DecoderState
from captioner.backends.public.family import Family, ImageFeatures, PromptedImage
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
        self.rules = TokenRules.of_model(family.model, size=len(family.vocabulary))
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
            arrays = self.family.read(image)
        except Exception as error:  # the processors of transformers raise errors of many types
            name = source_name(source) or "<image>"
            problem = f"the model takes no image of {image.width} x {image.height} pixels"
            line = f"{name}: {problem} ({one_line(error)}); crop or resize it"
            raise ImageError(printable_line(line)) from None
        return Prepared(arrays, image.size, is_low)

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
        """Return the log-probabilities (B, K, T) of given texts, one token after the other."""
        ids = torch.from_numpy(texts).to(self.device)  # (B, K, T)
        written = ids != self.tokenizer.pad
        ids, (_, rows, length) = ids.clamp(min=0), ids.shape
        state = self.start(memories, rows=rows, room=length + 1, temperature=temperature)
        columns = []
        tokens = ids[..., 0]  # the first step continues the prompt, whatever its input is
        for t in range(length):
            logprobs = state.step(tokens).log_softmax(-1)  # (B, K, V)
            tokens = ids[..., t]
            columns.append(logprobs.gather(-1, tokens[..., None])[..., 0])
        return (torch.stack(columns, -1) * written).cpu().numpy()

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


def check_numbers(outputs: Tensor) -> None:
    """Raise CaptionerError if a row of logits or weights has NaN, or infinity as its maximum."""
    if not outputs.amax(-1).isfinite().all():
        raise CaptionerError(
            "the outputs of the model are not numbers; its weights or its image processor are"
            " damaged"
        )


class PublicDecodingState:
    """The decoder of a family as `step`, with its cache; see `DecodingState`."""

    def __init__(
        self,
        family: Family,
        rules: TokenRules,
        memories: Sequence[PromptedImage],
        *,
        rows: int,
        room: int,
        temperature: float,
    ) -> None:
        self.family, self.rules, self.rows, self.room = family, rules, rows, room
        self.temperature, self.images, self.length = temperature, len(memories), 0
        self.memories: Sequence[PromptedImage] | None = memories
        self.state: DecoderState
        self.is_shared = True
        """Whether the rows of an image still share one row of the cache."""

    def step(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, K, V) after tokens (B, K); the first step continues the prompt."""
        if self.memories is not None:
            first, self.state = self.family.prefill(self.memories)
            self.memories = None
            check_numbers(first)
            logits = first.float()[:, None]  # (B, 1, V)
        else:
            if self.is_shared:
                self._separate(torch.arange(self.images * self.rows, device=tokens.device))
            flat = tokens.reshape(-1)
            logits = self.family.step(flat, self.state).float().view(*tokens.shape, -1)
        logits = self.rules.apply(logits, self.length, is_last=self.length + 1 == self.room)
        self.length += 1
        if self.temperature != 1:
            logits = logits / self.temperature
        return logits.expand(-1, self.rows, -1)

    def _separate(self, rows: Tensor, images: Tensor | None = None) -> None:
        """Give each row a row of the cache of its own."""
        self.state.select(rows // self.rows, images)
        self.is_shared = False

    def reorder(self, rows: Tensor) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; see `DecodingState`."""
        is_complete = len(rows) == self.images * self.rows
        self.images = len(rows) // self.rows
        images = None if is_complete else rows[:: self.rows] // self.rows
        if self.is_shared:
            self._separate(rows, images)
        elif is_complete:
            self.state.reorder(rows)
        else:
            self.state.select(rows, images)

    def admit(self, memories: Sequence[PromptedImage], places: Tensor) -> None:
        """Raise NotImplementedError: prompts of different lengths begin together."""
        raise NotImplementedError
