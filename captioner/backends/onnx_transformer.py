"""A Transformer decoder on ONNX graphs: its inputs for whole texts, and its state in a search.

Shapes: B images, K rows (hypotheses) per image, Q query tokens of an image, S cached tokens of an
image, T tokens of a text, P memory positions, H heads, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.backends.graph_sessions import GraphSessions
from captioner.checkpoint.graph_files import ATTENTION, CROSS

FORBIDDEN = np.float32(-1e9)
"""Added to the attention score of a position that a query does not attend to."""


class TransformerGraphs:
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

    def start(self, rows: int) -> TransformerState:
        """Begin a search with `rows` hypotheses of each image."""
        return TransformerState(self, rows)

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits (B, K, T, V) after each token (B, K, T)."""
        feed = self.feed(*text_queries(tokens)) | self.named_pairs("cache", self.empty_cache())
        logits: np.ndarray = self.sessions.run(self.name, feed)[0]  # (B, Q, V)
        return logits.reshape(*tokens.shape, -1)

    def attend(self, tokens: np.ndarray) -> np.ndarray:
        """Return the weights of the memory (B, K, T, P) for each token (B, K, T)."""
        feed = self.feed(*text_queries(tokens))
        (weights,) = self.sessions.run(f"{self.name}_{ATTENTION}", feed)  # (B, Q, P)
        return weights.reshape(*tokens.shape, -1)  # type: ignore[no-any-return]

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


class TransformerState:
    """The decoder in a search, with its cache.

    Each step appends the keys and values of all K rows of an image to its cache. Which of them
    belong to the hypothesis of a row is stated by a mask, so that rows are reordered without moving
    keys and values.
    """

    def __init__(self, graphs: TransformerGraphs, rows: int) -> None:
        self.graphs, self.rows = graphs, rows
        images = len(graphs.memory_mask)
        self.cache = graphs.empty_cache()
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
        self.visible = np.concatenate([self.visible, new.repeat(images, 0)], 2)
        positions = self.ages[:, None].repeat(queries, 1)
        self.ages = self.ages + 1
        inputs = self.graphs.feed(tokens, positions, self.visible[:, :queries])
        inputs |= self.graphs.named_pairs("cache", self.cache)
        logits, *self.cache = self.graphs.sessions.run(self.graphs.name, inputs)
        return logits

    def reorder(self, rows: np.ndarray) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""
        images = rows[:: self.rows] // self.rows
        visible = self.visible.reshape(-1, self.visible.shape[2])[rows]
        self.visible = visible.reshape(-1, self.rows, visible.shape[1])
        if len(images) < len(self.ages):
            self.ages = self.ages[images]
            self.graphs.select(images)
            self.cache = [x[images] for x in self.cache]
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
            self.cache = [np.ascontiguousarray(x[:, :, first:]) for x in self.cache]

    def admit(self, memory: np.ndarray, places: np.ndarray) -> None:
        """Put other images, with memory (n, P, D) without padding, in these places (n,)."""
        self.graphs.replace(memory, places)
        self.visible[places] = False
        self.ages[places] = 0


def text_queries(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the queries with which a decoder reads tokens (B, K, T), each text by itself.

    Returns:
        Tokens and positions (B, Q) with Q = K * T, and the mask (B, Q, Q).
    """
    images, rows, length = tokens.shape
    positions = np.tile(np.arange(length), (images, rows))
    causal = np.kron(np.eye(rows, dtype=bool), np.tri(length, dtype=bool))
    return tokens.reshape(images, -1), positions, causal[None].repeat(images, 0)
