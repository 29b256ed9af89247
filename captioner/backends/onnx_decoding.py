"""The state of a search on ONNX graphs, and the decoder's inputs for whole texts.

Shapes: B images, K rows (hypotheses) per image, Q query tokens of an image, S cached tokens of an
image, T tokens of a text, P memory positions, H heads, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from captioner.backends.encoder_outputs import EncoderOutputs
from captioner.backends.graph_sessions import GraphSessions
from captioner.checkpoint.graph_files import CROSS
from captioner.decoding.numpy_arrays import NUMPY
from captioner.tokenizer import BOS, PAD, SPECIAL

FORBIDDEN = np.float32(-1e9)
"""Added to the attention score of a position that a query does not attend to."""


class DecoderInputs:
    """One member's decoder, and the memory that it attends to.

    Args:
        sessions: The graphs of the member.
        name: The graph of the decoder.
        memory: (B, P, D).
        mask: (B, P), False at padding, or None.
        max_length: Positions that the decoder has.
    """

    def __init__(
        self, sessions: GraphSessions, name: str, memory: np.ndarray, mask: np.ndarray | None,
        *, max_length: int,
    ) -> None:  # fmt: skip
        self.sessions, self.name, self.max_length = sessions, name, max_length
        self.cross = self._project(memory)
        self.memory_mask = np.zeros(memory.shape[:2], np.float32)
        if mask is not None:
            self.memory_mask[~mask] = FORBIDDEN

    def _project(self, memory: np.ndarray) -> list[np.ndarray]:
        """Return the keys and values of memory for each layer, (B, H, P, D/H)."""
        return self.sessions.run(f"{self.name}_{CROSS}", {"memory": memory})

    def select(self, images: np.ndarray) -> None:
        """Keep these images only."""
        self.cross = [x[images] for x in self.cross]
        self.memory_mask = self.memory_mask[images]

    def replace(self, memory: np.ndarray, places: np.ndarray) -> None:
        """Put other images, with memory (n, P, D) without padding, in these places (n,)."""
        for x, new in zip(self.cross, self._project(memory), strict=True):
            x[places] = new
        self.memory_mask[places] = 0

    def feed(
        self, tokens: np.ndarray, positions: np.ndarray, visible: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the named inputs of a graph, without a cache.

        Args:
            tokens: (B, Q).
            positions: (B, Q).
            visible: (B, Q, S + Q), True where a query attends.
        """
        inputs = {
            "tokens": tokens,
            "positions": np.minimum(positions, self.max_length - 1),
            "mask": np.where(visible, np.float32(0), FORBIDDEN),
            "memory_mask": self.memory_mask,
        }
        return inputs | self.named_pairs("cross", self.cross)

    def empty_cache(self) -> list[np.ndarray]:
        """Return the keys and values of no tokens."""
        images, inputs = len(self.memory_mask), self.sessions.session(self.name).get_inputs()
        shapes = {x.name: x.shape for x in inputs if x.name.startswith("cache_")}
        # Self-attention may have other heads than cross-attention, and each layer others.
        sizes = (shapes[name] for name in self.named_pairs("cache", self.cross))
        return [np.empty((images, heads, 0, depth), np.float32) for _, heads, _, depth in sizes]

    @staticmethod
    def named_pairs(prefix: str, pairs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the names in a graph of the keys and values of all layers."""
        kinds = ("key", "value")
        return {f"{prefix}_{kinds[i % 2]}_{i // 2}": x for i, x in enumerate(pairs)}


class OnnxDecodingState:
    """The decoders of all members as one `step`, with their caches.

    Each step appends the keys and values of all K rows of an image to its cache. Which of them
    belong to the hypothesis of a row is stated by a mask, so that rows are reordered without moving
    keys and values.
    """

    def __init__(self, members: Sequence[DecoderInputs], *, rows: int, temperature: float) -> None:
        self.members, self.rows, self.temperature = members, rows, temperature
        images = len(members[0].memory_mask)
        self.caches = [member.empty_cache() for member in members]
        self.visible = np.ones((images, rows, 0), bool)  # (B, K, S)
        self.ages = np.zeros(images, np.int64)
        """Tokens of each image so far."""

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits (B, K, V) after tokens (B, K)."""
        if not self.visible.shape[2] and (tokens == tokens[:, :1]).all():
            logits = self._append(tokens[:, :1], np.ones((1, self.rows, 1), bool))
            return logits.repeat(self.rows, 1)  # all rows are equal
        return self._append(tokens, np.eye(self.rows, dtype=bool)[None])

    def _append(self, tokens: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Append tokens (B, Q), to which the rows attend as `new` (1, K, Q) states."""
        images, queries = tokens.shape
        new = new.repeat(images, 0)
        self.visible = np.concatenate([self.visible, new], 2)
        positions = self.ages[:, None].repeat(queries, 1)
        self.ages = self.ages + 1
        logits = []
        for i, member in enumerate(self.members):
            inputs = member.feed(tokens, positions, self.visible[:, :queries])
            inputs |= member.named_pairs("cache", self.caches[i])
            scores, *self.caches[i] = member.sessions.run(member.name, inputs)
            logits.append(mask_special(scores, self.temperature))
        return average_logits(logits)

    def reorder(self, rows: np.ndarray) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""
        images = rows[:: self.rows] // self.rows
        visible = self.visible.reshape(-1, self.visible.shape[2])[rows]
        self.visible = visible.reshape(-1, self.rows, visible.shape[1])
        if len(images) < len(self.ages):
            self.ages = self.ages[images]
            for member in self.members:
                member.select(images)
            self.caches = [[x[images] for x in cache] for cache in self.caches]
        self._drop_unused()

    def _drop_unused(self) -> None:
        """Remove the first tokens of the cache if no row attends to them and they are half of it.

        They belong to images that are finished.
        """
        size = self.visible.shape[2]
        used = np.flatnonzero(self.visible.any((0, 1)))
        first = int(used[0]) if used.size else size
        if first and 2 * first >= size:
            self.visible = self.visible[..., first:]
            self.caches = [
                [np.ascontiguousarray(x[:, :, first:]) for x in cache] for cache in self.caches
            ]

    def admit(self, memories: Sequence[EncoderOutputs], places: np.ndarray) -> None:
        """Replace the images at `places` (n,)."""
        states = EncoderOutputs.join(memories).states
        for member, memory in zip(self.members, states, strict=True):
            member.replace(memory, places)
        self.visible[places] = False
        self.ages[places] = 0


def text_queries(
    texts: np.ndarray, *, limit: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the inputs with which a decoder reads texts (B, K, T), for some of the K at a time.

    Each text is read after BOS and does not attend to the others. At most `limit` tokens of an
    image are read at a time, but at least one text.

    Yields:
        The texts as a slice of K, their tokens and positions (B, Q) with Q = texts * T, and the
        mask (B, Q, Q).
    """
    images, count, length = texts.shape
    read = np.concatenate([np.full_like(texts[..., :1], BOS), texts[..., :-1]], -1)
    read[texts == PAD] = PAD
    size = max(1, limit // max(1, length))
    for first in range(0, count, size):
        part = slice(first, min(first + size, count))
        rows = part.stop - first
        positions = np.tile(np.arange(length), (images, rows))
        causal = np.kron(np.eye(rows, dtype=bool), np.tri(length, dtype=bool))
        yield part, read[:, part].reshape(images, -1), positions, causal[None].repeat(images, 0)


def mask_special(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return logits (..., V) with -inf at special tokens; may change its argument."""
    logits[..., SPECIAL] = -np.inf
    return logits / np.float32(temperature) if temperature != 1 else logits


def average_logits(members: Sequence[np.ndarray]) -> np.ndarray:
    """Return logits of the mean of the members' probabilities, from logits (..., V) of each."""
    if len(members) == 1:
        return members[0]  # callers normalize
    logprobs = np.stack([NUMPY.log_softmax(logits) for logits in members])
    peak = logprobs.max(0)  # small probabilities would be rounded to 0
    peak[..., SPECIAL] = 0
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logprobs - peak).mean(0)) + peak  # type: ignore[no-any-return]
