"""An LSTM decoder on ONNX graphs: whole texts and searches, both step by step.

Shapes: B images, K rows (hypotheses) per image, T tokens of a text, P memory positions, D width, L
layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from captioner.backends.graph_sessions import GraphSessions
from captioner.checkpoint.graph_files import START


class RecurrentGraphs:
    """One member's decoder, and the memory that it attends to.

    Args:
        sessions: The graphs of the member.
        name: The graph of the decoder.
        memory: (B, P, D).
        mask: (B, P), False at padding, or None.
    """

    def __init__(
        self, sessions: GraphSessions, name: str, memory: np.ndarray, mask: np.ndarray | None
    ) -> None:
        self.sessions, self.name = sessions, name
        mask = np.ones(memory.shape[:2], bool) if mask is None else mask
        self.inputs = {"memory": memory, "mask": mask}
        self.first, self.inputs["keys"] = sessions.run(f"{name}_{START}", self.inputs)
        """The state (B, 1, 2 L, D) before the first token."""

    def start(self, rows: int) -> RecurrentState:
        """Begin a search with `rows` hypotheses of each image."""
        return RecurrentState(self, rows)

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits (B, K, T, V) after each token (B, K, T)."""
        return np.stack([logits for logits, _ in self._read(tokens)], 2)

    def attend(self, tokens: np.ndarray) -> np.ndarray:
        """Return the weights of the memory (B, K, T, P) for each token (B, K, T)."""
        return np.stack([weights for _, weights in self._read(tokens)], 2)

    def _read(self, tokens: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield logits (B, K, V) and weights (B, K, P) after one token of each row at a time."""
        state = self.first.repeat(tokens.shape[1], 1)
        for column in np.moveaxis(tokens, 2, 0):
            logits, state, weights = self.advance(column, state)
            yield logits, weights

    def advance(self, tokens: np.ndarray, state: np.ndarray) -> list[np.ndarray]:
        """Return logits (B, K, V), state (B, K, 2 L, D) and weights (B, K, P) after tokens."""
        inputs = {"tokens": np.ascontiguousarray(tokens), "state": state}
        return self.sessions.run(self.name, inputs | self.inputs)

    def select(self, images: np.ndarray) -> None:
        """Keep these images only."""
        self.first = self.first[images]
        self.inputs = {name: x[images] for name, x in self.inputs.items()}

    def replace(self, memory: np.ndarray, places: np.ndarray) -> None:
        """Put other images, with memory (n, P, D) without padding, in these places (n,)."""
        other = RecurrentGraphs(self.sessions, self.name, memory, None)
        self.inputs = {name: x.copy() for name, x in self.inputs.items()}
        for name, x in self.inputs.items():
            x[places] = other.inputs[name]
        self.first[places] = other.first


class RecurrentState:
    """The decoder in a search, with the states (B, K, 2 L, D) of the rows."""

    def __init__(self, graphs: RecurrentGraphs, rows: int) -> None:
        self.graphs, self.rows = graphs, rows
        self.state = graphs.first.repeat(rows, 1)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits (B, K, V) after tokens (B, K)."""
        logits, self.state, _ = self.graphs.advance(tokens, self.state)
        return logits

    def reorder(self, rows: np.ndarray) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""
        images = rows[:: self.rows] // self.rows
        flat = self.state.reshape(-1, *self.state.shape[2:])[rows]
        if len(images) < len(self.state):
            self.graphs.select(images)
        self.state = flat.reshape(-1, self.rows, *flat.shape[1:])

    def admit(self, memory: np.ndarray, places: np.ndarray) -> None:
        """Put other images, with memory (n, P, D) without padding, in these places (n,)."""
        self.graphs.replace(memory, places)
        self.state[places] = self.graphs.first[places]
