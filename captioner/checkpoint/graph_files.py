"""Names of the ONNX graphs of a checkpoint, which are next to its weights.

The graphs hold no weights: they point into `model.safetensors`, and name its digest, so that a
graph is never used with other weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

GraphDtype = Literal["float32", "int8"]

IMAGE, SMALL_IMAGE, MEMORY, QUESTION = "image", "small_image", "memory", "question"
CAPTION, ANSWER = "caption", "answer"
"""Decoders; a model without a separate decoder for answers has only the first."""
CROSS, ATTENTION = "cross", "attention"
"""Further graphs of each decoder: `caption_cross`, `caption_attention`."""
DIGEST_KEY = "captioner.weights_sha256"
"""Entry in the metadata of a graph: the digest of `model.safetensors`."""


def graph_path(folder: Path, name: str, dtype: GraphDtype = "float32") -> Path:
    """Return the path of a graph of a checkpoint folder, whether it exists or not."""
    return folder / (f"{name}.onnx" if dtype == "float32" else f"{name}.{dtype}.onnx")


def has_graphs(folder: Path) -> bool:
    """Return whether a checkpoint folder has graphs."""
    return graph_path(folder, IMAGE).is_file()
