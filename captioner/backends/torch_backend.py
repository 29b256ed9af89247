"""The torch backend: one `Seq2Seq` model, or an ensemble.

An ensemble averages the members' probabilities of each token. Its members share one vocabulary,
and each has its own memory of an image.

Shapes: B images (or questions), K rows of each, N questions, S tokens of a question, T tokens of a
text, L tokens that are not padding, P memory positions, C channels, D width, V vocabulary, A
answers of a classifier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from captioner.backends.base import NO_POSITIONS, Kind
from captioner.backends.encoder_outputs import EncoderOutputs, choose_kinds
from captioner.backends.grouping import group_places, map_groups
from captioner.backends.input_reader import InputReader
from captioner.backends.model_inputs import ModelInput, Prepared
from captioner.decoding.arrays import Arrays
from captioner.decoding.torch_arrays import arrays_on
from captioner.errors import CaptionerError
from captioner.images.transforms import PixelSpec
from captioner.model.decoder import Decoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, SPECIAL, Tokenizer

if TYPE_CHECKING:
    from captioner.audio import AudioSpec

_Decoder = tuple[Decoder, Tensor, Tensor | None]  # with its memory and the mask of this
WINDOWS_AT_ONCE = 16
"""Windows of recordings that pass a backbone together; more would need more memory."""


class TorchBackend:
    """Implementation of `Backend` by torch models that are ready for use on a device.

    There is no tokenizer during training. Without `specs`, the inputs of the members, the backend
    reads nothing; `audio_specs` are those of second encoders. `dtype` is the type of the pixels
    that the backbones take.
    """

    bos, pad, ends, captions, attends = BOS, PAD, (EOS,), True, True

    def __init__(
        self,
        models: Sequence[Seq2Seq],
        tokenizer: Tokenizer | None,
        *,
        specs: Sequence[PixelSpec | AudioSpec] = (),
        audio_specs: Sequence[AudioSpec] = (),
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.models, self.specs, self._tokenizer = models, specs, tokenizer
        self.device, self.dtype = device, dtype
        self.audio_specs = audio_specs
        self._reader = InputReader(specs, audio_specs)

    @classmethod
    def of_model(cls, model: Seq2Seq, *, device: torch.device) -> TorchBackend:
        """Return a backend of a model in training, which is neither copied nor packed.

        Memories come from `encode_tensors` and `fuse_questions`.
        """
        return cls([model], None, device=device)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that all members share."""
        if self._tokenizer is None:
            raise ValueError("this backend was made of a model alone, without a tokenizer")
        return self._tokenizer

    @property
    def admits(self) -> bool:
        """Whether a running search takes new images: not if memories have several layouts."""
        return not self.audio_specs

    @property
    def answers(self) -> Sequence[tuple[int, ...]]:
        """The token ids of the only answers of a classifier of questions."""
        return self.models[0].answers

    @property
    def max_length(self) -> int:
        """The largest number of tokens of a text, EOS included."""
        return min(model.decoder.max_length for model in self.models)

    @property
    def arrays(self) -> Arrays:
        """The functions for tensors on the device."""
        return arrays_on(self.device)

    def inference(self) -> AbstractContextManager[None]:
        """Return torch's inference mode."""
        return torch.inference_mode()

    def read(self, source: ModelInput) -> Prepared:
        """Read one image, recording or pair for each member; raise InputError."""
        return self._reader.read(source)

    @torch.inference_mode()
    def encode(self, inputs: Sequence[Prepared]) -> list[EncoderOutputs]:
        """Encode a batch of inputs; return one memory per input."""
        groups = group_places(x.kinds for x in inputs)
        return map_groups(inputs, groups, self._encode_alike)

    def _encode_alike(self, inputs: Sequence[Prepared]) -> list[EncoderOutputs]:
        """Return the memories of inputs with the same parts."""
        batch = self._reader.stack(inputs)
        first, second = self._move(batch.arrays), self._move(batch.audio)
        return self.encode_tensors(first, second, batch.windows)

    def stack(self, inputs: Sequence[Prepared]) -> list[Tensor]:
        """Return each member's batch of inputs of the first encoder."""
        return [x for x in self._move(self._reader.stack(inputs).arrays) if x is not None]

    def _move(self, batches: Sequence[np.ndarray] | None) -> list[Tensor | None]:
        """Return each member's batch on the device."""
        layout = torch.channels_last
        moved = {
            id(x): torch.from_numpy(x).to(self.device, dtype=self.dtype, memory_format=layout)
            for x in batches or ()
        }
        return [None] * len(self.models) if batches is None else [moved[id(x)] for x in batches]

    def encode_tensors(
        self,
        batches: Sequence[Tensor | None],
        spectrograms: Sequence[Tensor | None] | None = None,
        windows: Sequence[int] = (),
    ) -> list[EncoderOutputs]:
        """Encode each member's pixels (B, 3, H, W), or features (B, P, C) of its backbone.

        The inputs of second encoders are `spectrograms`. With `windows`, the number of windows of
        each recording, the features of a recording are averaged over its windows.
        """
        seconds = [None] * len(self.models) if spectrograms is None else spectrograms
        head, kinds = self.models[0].kind_head, None
        states: list[Tensor] = []
        for model, batch, second in zip(self.models, batches, seconds, strict=True):
            parts = []
            if batch is not None:
                # Windows are those of the first encoder unless there is a second one.
                if windows and not model.audio:
                    features = _extract_windows(model.extract, batch, windows)
                else:
                    features, view = model.extract_views(batch)
                    if head is not None and not states:  # fitted on single views
                        kinds = choose_kinds(head.kinds, head(view))
                parts.append(model.encode_features(features))
            if second is not None and model.audio is not None:
                features = _extract_windows(model.audio.extract, second, windows)
                parts.append(model.audio.encode(features))
            states.append(parts[0] if len(parts) == 1 else torch.cat(parts, 1))
        return EncoderOutputs(tuple(states)).split(kinds)

    def kind(self, memory: EncoderOutputs) -> Kind | None:
        """Return the kind of an image; see `Backend.kind`."""
        return memory.kind

    @torch.inference_mode()
    def encode_questions(
        self,
        memories: Sequence[EncoderOutputs],
        questions: Sequence[Sequence[int]],
        owners: Sequence[int],
    ) -> list[EncoderOutputs]:
        """Fuse questions with images; return one memory per question."""
        ids, pad = [torch.tensor(q) for q in questions], self.tokenizer.question_tokenizer.pad
        padded = pad_sequence(ids, batch_first=True, padding_value=pad)  # (N, S)
        places = torch.tensor(owners, device=self.device)
        return self.fuse_questions(memories, padded.to(self.device), places)

    def fuse_questions(
        self, memories: Sequence[EncoderOutputs], questions: Tensor, owners: Tensor
    ) -> list[EncoderOutputs]:
        """Fuse questions (N, S) with the memories of their images `owners` (N,)."""
        pairs = list(zip(self.models, EncoderOutputs.join(memories).states, strict=True))
        if self.answers:
            logits = (model.classify(state, questions, owners) for model, state in pairs)
            return EncoderOutputs(tuple(logits), (None,) * len(pairs)).split()
        fused = [model.fuse_questions(state, questions, owners) for model, state in pairs]
        states, masks = zip(*fused, strict=True)
        return EncoderOutputs(states, masks).split()

    @torch.inference_mode()
    def classify(
        self, memories: Sequence[EncoderOutputs], *, temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities (B, A) of the answers; see `Backend.classify`."""
        logits = [state.float() / temperature for state in EncoderOutputs.join(memories).states]
        return _average_logits(logits).log_softmax(-1).cpu().numpy()

    def start(
        self, memories: Sequence[EncoderOutputs], *, rows: int, room: int, temperature: float = 1.0
    ) -> TorchDecodingState:
        """Begin a search over the memories; see `Backend.start`."""
        decoders = self._decoders(memories)
        return TorchDecodingState(decoders, rows=rows, room=room, temperature=temperature)

    @torch.inference_mode()
    def score(
        self, memories: Sequence[EncoderOutputs], texts: np.ndarray, *, temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities (B, K, T) of given texts, in one pass of the decoder."""
        ids = torch.from_numpy(texts).to(self.device)
        tokens, written = _decoder_input(ids), ids != PAD
        logits = [
            _mask_special(decoder(state, tokens, mask), temperature)  # (L, V)
            for decoder, state, mask in self._decoders(memories)
        ]
        logprobs = _average_logits(logits).log_softmax(-1).gather(-1, ids[written][:, None])[:, 0]
        scores = logprobs.new_zeros(ids.shape).masked_scatter(written, logprobs)
        return scores.cpu().numpy()

    @torch.inference_mode()
    def attention(self, memories: Sequence[EncoderOutputs], texts: np.ndarray) -> list[np.ndarray]:
        """Return each member's cross-attention (B, K, T, P); see `Backend.attention`."""
        asks = memories[0].masks is not None
        if asks and not all(getattr(m.fusion, "keeps_positions", False) for m in self.models):
            raise CaptionerError(NO_POSITIONS)
        tokens = _decoder_input(torch.from_numpy(texts).to(self.device))
        maps = []
        decoders = self._decoders(memories)
        for model, (decoder, state, mask) in zip(self.models, decoders, strict=True):
            weights = decoder.attention(state, tokens, mask)
            image = weights[..., : len(model.memory_encoder.positions)]  # words come behind
            maps.append(image.float().cpu().numpy())
        return maps

    def _decoders(self, memories: Sequence[EncoderOutputs]) -> Iterator[_Decoder]:
        """Yield each member's decoder, of captions or answers, with its memory and mask."""
        memory = EncoderOutputs.join(memories)
        masks = memory.masks or [None] * len(self.models)
        for model, state, mask in zip(self.models, memory.states, masks, strict=True):
            yield model.decoder_for(answers=memory.masks is not None), state, mask


class TorchDecodingState:
    """The decoders of all members as one `step`, with their caches."""

    def __init__(
        self, decoders: Iterable[_Decoder], *, rows: int, room: int, temperature: float
    ) -> None:
        self.temperature = temperature
        self.decoders, self.caches = [], []
        for decoder, state, mask in decoders:
            self.decoders.append(decoder)
            self.caches.append(decoder.start(state, len(state) * rows, room, mask))

    def step(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, K, V) after tokens (B, K)."""
        pairs = zip(self.decoders, self.caches, strict=True)
        logits = (decoder.step(tokens, cache) for decoder, cache in pairs)
        return _average_logits([_mask_special(x, self.temperature) for x in logits])

    def reorder(self, rows: Tensor) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`."""
        for cache in self.caches:
            cache.reorder(rows)

    def admit(self, memories: Sequence[EncoderOutputs], places: Tensor) -> None:
        """Replace the images at `places` (B,)."""
        states = EncoderOutputs.join(memories).states
        for decoder, state, cache in zip(self.decoders, states, self.caches, strict=True):
            decoder.admit(state, cache, places)


def _extract_windows(
    extract: Callable[[Tensor], Tensor], windows: Tensor, counts: Sequence[int]
) -> Tensor:
    """Return the mean features (B, P, C) of each recording over its windows, some at a time."""
    parts = [extract(part) for part in windows.split(WINDOWS_AT_ONCE)]
    features = parts[0] if len(parts) == 1 else torch.cat(parts)
    if len(counts) == len(features) or not counts:
        return features
    return torch.stack([part.mean(0) for part in features.split(list(counts))])


def _decoder_input(texts: Tensor) -> Tensor:
    """Return the tokens that the decoder reads to predict texts (B, K, T): shifted, after BOS."""
    start = torch.full_like(texts[..., :1], BOS)
    return torch.cat([start, texts[..., :-1]], -1).masked_fill(texts == PAD, PAD)


def _mask_special(logits: Tensor, temperature: float) -> Tensor:
    """Return logits (..., V) in float32 with -inf at special tokens; may change its argument."""
    logits = logits.float()
    logits[..., SPECIAL] = float("-inf")
    return logits / temperature if temperature != 1 else logits


def _average_logits(members: Sequence[Tensor]) -> Tensor:
    """Return logits of the mean of the members' probabilities, from logits (..., V) of each."""
    if len(members) == 1:
        return members[0]  # callers normalize
    logprobs = torch.stack([logits.log_softmax(-1) for logits in members])
    return logprobs.logsumexp(0) - math.log(len(members))
