"""The ONNX Runtime backend: the graphs of one checkpoint, or of an ensemble, on a CPU.

It imports NumPy and onnxruntime, and no torch.

Shapes: B images (or questions), K rows of each, N questions, S tokens of a question, T tokens of a
text, Q query tokens, P memory positions, C channels, D width, V vocabulary, A answers of a
classifier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from captioner.backends.base import NO_POSITIONS, NO_VIEWS, Kind
from captioner.backends.encoder_outputs import EncoderOutputs, choose_kinds
from captioner.backends.graph_sessions import GraphSessions
from captioner.backends.grouping import group_places, map_groups
from captioner.backends.image_views import Extract, average_views
from captioner.backends.input_reader import InputReader
from captioner.backends.model_inputs import ModelInput, Prepared
from captioner.backends.onnx_decoding import (
    MemberDecoder,
    OnnxDecodingState,
    average_logits,
    mask_special,
    split_texts,
)
from captioner.backends.onnx_recurrent import RecurrentGraphs
from captioner.backends.onnx_transformer import TransformerGraphs
from captioner.checkpoint.graph_files import (
    ANSWER,
    AUDIO,
    AUDIO_MEMORY,
    CAPTION,
    IMAGE,
    MEMORY,
    QUESTION,
    SMALL_IMAGE,
)
from captioner.config.decoding_options import check_views
from captioner.decoding.arrays import Arrays
from captioner.decoding.numpy_arrays import NUMPY
from captioner.errors import CaptionerError
from captioner.images.transforms import PixelSpec
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer

if TYPE_CHECKING:
    from captioner.audio import AudioSpec

TOKENS_AT_ONCE = 512
"""Tokens of an image that are scored in one pass; the time of attention grows with its square."""


@dataclass(frozen=True)
class OnnxMember:
    """The graphs of one checkpoint, and what they do not state."""

    sessions: GraphSessions
    spec: PixelSpec | AudioSpec
    max_length: int
    """Positions of the decoders."""
    keeps_positions: bool
    """Whether the memory of a question begins with the positions of the image."""
    separate_answers: bool
    """Whether answers have their own decoder."""
    is_recurrent: bool = False
    """Whether the decoders are LSTMs."""
    kinds: tuple[str, ...] = ()
    """Kinds of images whose probabilities are an output of the graph `MEMORY`."""
    audio_spec: AudioSpec | None = None
    """The input format of a second encoder."""

    @property
    def image_positions(self) -> int:
        """Positions of an image in memory."""
        return int(self.sessions.session(IMAGE).get_outputs()[0].shape[1])

    @property
    def small_size(self) -> tuple[int, int]:
        """Height and width of the smaller views of test-time augmentation."""
        (pixels,) = self.sessions.session(SMALL_IMAGE).get_inputs()
        height, width = pixels.shape[2:]
        return height, width


class OnnxBackend:
    """Implementation of `Backend` by ONNX graphs.

    Args:
        members: The graphs of each checkpoint.
        tokenizer: The tokenizer that all members share.
        answers: The token ids of the only answers of a classifier of questions.
        tta: Views of test-time augmentation: 1, 2 or 4.

    Raises:
        CaptionerError: A member has no graph for this number of views.
    """

    device = "cpu"
    arrays: Arrays = NUMPY
    bos, pad, ends, captions, attends = BOS, PAD, (EOS,), True, True

    def __init__(
        self,
        members: Sequence[OnnxMember],
        tokenizer: Tokenizer,
        *,
        tta: int,
        answers: Sequence[tuple[int, ...]] = (),
    ) -> None:
        self.members, self.tokenizer, self.tta, self.answers = members, tokenizer, tta, answers
        self.specs = [member.spec for member in members]
        self.audio_specs = [member.audio_spec for member in members if member.audio_spec]
        self._reader = InputReader(self.specs, self.audio_specs)
        check_views(tta)
        for member in members:
            if tta > 1 and not isinstance(member.spec, PixelSpec):
                raise CaptionerError(f"tta={tta}: {NO_VIEWS}")
            if tta > 1 and math.isqrt(member.image_positions) ** 2 != member.image_positions:
                raise CaptionerError(
                    f"tta={tta} cannot be used with the backbone of {member.sessions.folder}:"
                    f" {member.image_positions} positions are not a square grid"
                )
            if tta > 2 and SMALL_IMAGE not in member.sessions:
                raise CaptionerError(
                    f"tta={tta} needs the graph {SMALL_IMAGE}.onnx, which {member.sessions.folder}"
                    " does not have: its backbone takes images of one size, or the graph was"
                    " removed"
                )

    @property
    def admits(self) -> bool:
        """Whether a running search takes new images: not if memories have several layouts."""
        return not self.audio_specs

    @property
    def models(self) -> Sequence[GraphSessions]:
        """The graphs of each member."""
        return [member.sessions for member in self.members]

    @property
    def dtype(self) -> str:
        """The type of the arithmetic, `float32` or `int8`."""
        return self.members[0].sessions.dtype

    @property
    def max_length(self) -> int:
        """The largest number of tokens of a text, EOS included."""
        return min(member.max_length for member in self.members)

    def inference(self) -> AbstractContextManager[None]:
        """Return a context without effect: there are no gradients."""
        return nullcontext()

    def read(self, source: ModelInput) -> Prepared:
        """Read one image, recording or pair for each member; raise InputError."""
        return self._reader.read(source)

    def encode(self, inputs: Sequence[Prepared]) -> list[EncoderOutputs]:
        """Encode a batch of inputs; return one memory per input."""
        groups = group_places(x.kinds for x in inputs)
        return map_groups(inputs, groups, self._encode_alike)

    def _encode_alike(self, inputs: Sequence[Prepared]) -> list[EncoderOutputs]:
        """Return the memories of inputs with the same parts."""
        batch = self._reader.stack(inputs)
        states, kinds = [], None
        for number, member in enumerate(self.members):
            parts = []
            if batch.arrays is not None:
                memory, *probabilities = self._encode(member, batch.arrays[number], batch.windows)
                parts.append(memory)
                if member.kinds and number == 0:
                    kinds = choose_kinds(member.kinds, probabilities[0])
            if batch.audio is not None:
                features = member.sessions.run_each(AUDIO, "pixels", batch.audio[number])
                features = average_windows(features, batch.windows)
                parts += member.sessions.run(AUDIO_MEMORY, {"features": features})
            states.append(parts[0] if len(parts) == 1 else np.concatenate(parts, 1))
        return EncoderOutputs(tuple(states)).split(kinds)

    def kind(self, memory: EncoderOutputs) -> Kind | None:
        """Return the kind of an image; see `Backend.kind`."""
        return memory.kind

    def _encode(
        self, member: OnnxMember, pixels: np.ndarray, windows: Sequence[int]
    ) -> list[np.ndarray]:
        """Map inputs of the first encoder to memory (B, P, D) and probabilities (B, N) of kinds."""

        def extract_with(graph: str) -> Extract:
            return partial(member.sessions.run_each, graph, "pixels")

        if not isinstance(member.spec, PixelSpec):
            features = average_windows(extract_with(IMAGE)(pixels), windows)
            return member.sessions.run(MEMORY, {"features": features})
        if self.tta == 1:
            return member.sessions.run(MEMORY, {"features": extract_with(IMAGE)(pixels)})
        backbones = [(member.spec.size, extract_with(IMAGE))]
        if self.tta > 2:
            backbones.append((member.small_size, extract_with(SMALL_IMAGE)))
        features, first = average_views(pixels, backbones)
        outputs = member.sessions.run(MEMORY, {"features": features})
        if member.kinds:  # the head was fitted on single views
            outputs[1:] = member.sessions.run(MEMORY, {"features": first})[1:]
        return outputs

    def encode_questions(
        self,
        memories: Sequence[EncoderOutputs],
        questions: Sequence[Sequence[int]],
        owners: Sequence[int],
    ) -> list[EncoderOutputs]:
        """Fuse questions with images; return one memory per question."""
        length = max(map(len, questions))
        padded = np.full((len(questions), length), self.tokenizer.question_tokenizer.pad)  # (N, S)
        for row, question in zip(padded, questions, strict=True):
            row[: len(question)] = question
        inputs = {"owners": np.array(owners), "questions": padded}
        states, masks = [], []
        joined = EncoderOutputs.join(memories)
        for member, state in zip(self.members, joined.states, strict=True):
            fused, *mask = member.sessions.run(QUESTION, {"memory": state} | inputs)
            states.append(fused)
            masks.append(mask[0] if mask else None)
        return EncoderOutputs(tuple(states), tuple(masks)).split()

    def classify(
        self, memories: Sequence[EncoderOutputs], *, temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities (B, A) of the answers; see `Backend.classify`."""
        states = EncoderOutputs.join(memories).states
        return NUMPY.log_softmax(average_logits([logits / temperature for logits in states]))

    def start(
        self, memories: Sequence[EncoderOutputs], *, rows: int, room: int, temperature: float = 1.0
    ) -> OnnxDecodingState:
        """Begin a search over the memories; see `Backend.start`."""
        states = [decoder.start(rows) for decoder in self._decoders(memories)]
        return OnnxDecodingState(states, temperature=temperature)

    def score(
        self, memories: Sequence[EncoderOutputs], texts: np.ndarray, *, temperature: float = 1.0
    ) -> np.ndarray:
        """Return the log-probabilities (B, K, T) of given texts; see `Backend.score`."""
        decoders = self._decoders(memories)
        scores = np.zeros(texts.shape, np.float32)
        for part, tokens in split_texts(texts, limit=TOKENS_AT_ONCE):
            logits = [mask_special(decoder.score(tokens), temperature) for decoder in decoders]
            logprobs = NUMPY.log_softmax(average_logits(logits))  # (B, K, T, V)
            given = texts[:, part]
            chosen = np.take_along_axis(logprobs, given[..., None], -1)[..., 0]
            scores[:, part] = np.where(given == PAD, 0, chosen)
        return scores

    def attention(self, memories: Sequence[EncoderOutputs], texts: np.ndarray) -> list[np.ndarray]:
        """Return each member's cross-attention (B, K, T, P); see `Backend.attention`."""
        if memories[0].masks is not None and not all(m.keeps_positions for m in self.members):
            raise CaptionerError(NO_POSITIONS)
        maps = []
        for member, decoder in zip(self.members, self._decoders(memories), strict=True):
            positions = member.image_positions
            weights = np.zeros((*texts.shape, positions), np.float32)
            for part, tokens in split_texts(texts, limit=TOKENS_AT_ONCE):
                image = decoder.attend(tokens)[..., :positions]  # words follow
                weights[:, part] = np.where(texts[:, part, :, None] == PAD, 0, image)
            maps.append(weights)
        return maps

    def _decoders(self, memories: Sequence[EncoderOutputs]) -> list[MemberDecoder]:
        """Return each member's decoder, of captions or answers, with its memory."""
        memory = EncoderOutputs.join(memories)
        masks = memory.masks or [None] * len(self.members)
        decoders: list[MemberDecoder] = []
        for member, state, mask in zip(self.members, memory.states, masks, strict=True):
            answers = memory.masks is not None and member.separate_answers
            given = member.sessions, ANSWER if answers else CAPTION, state, mask
            if member.is_recurrent:
                decoders.append(RecurrentGraphs(*given))
            else:
                decoders.append(TransformerGraphs(*given, max_length=member.max_length))
        return decoders


def average_windows(features: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return the mean features (B, P, C) of each recording, from those of all its windows."""
    if len(counts) == len(features):
        return features
    parts = np.split(features, np.cumsum(counts)[:-1])
    return np.stack([part.mean(0) for part in parts])
