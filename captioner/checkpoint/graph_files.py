"""Names of the ONNX graphs of a checkpoint, which are next to its weights.

The graphs hold no weights: they point into `model.safetensors`, and name its digest, so that a
graph is never used with other weights.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from captioner.checkpoint.folder_format import WEIGHTS
from captioner.checkpoint.safetensors_header import read_header
from captioner.errors import CheckpointError
from captioner.files import file_digest

GraphDtype = Literal["float32", "int8"]

IMAGE, SMALL_IMAGE, MEMORY, QUESTION = "image", "small_image", "memory", "question"
"""Graphs of the first encoder, which takes images, or recordings in a model of these alone."""
AUDIO, AUDIO_MEMORY = "audio", "audio_memory"
"""Graphs of the second encoder, which takes recordings."""
CAPTION, ANSWER = "caption", "answer"
"""Decoders; a model without a separate decoder for answers has only the first."""
CROSS, ATTENTION = "cross", "attention"
"""Further graphs of each Transformer decoder: `caption_cross`, `caption_attention`."""
START = "start"
"""Further graph of each LSTM decoder: `caption_start`."""
DIGEST_KEY = "captioner.weights_sha256"
"""Entry in the metadata of a graph: the digest of `model.safetensors`."""


def graph_path(folder: Path, name: str, dtype: GraphDtype = "float32") -> Path:
    """Return the path of a graph of a checkpoint folder, whether it exists or not."""
    return folder / (f"{name}.onnx" if dtype == "float32" else f"{name}.{dtype}.onnx")


def has_graphs(folder: Path) -> bool:
    """Return whether a checkpoint folder has graphs."""
    return graph_path(folder, IMAGE).is_file()


def list_graph_names(folder: Path) -> list[str]:
    """Return the names of the graphs that a checkpoint needs; raise CheckpointError.

    They depend on the parts of the model, which the names of its weights state. `SMALL_IMAGE` is
    not among them, because some backbones take images of one size.
    """
    weights = read_header(folder / WEIGHTS).tensors
    parts = {name.split(".")[0] for name in weights}
    decoders = [CAPTION, ANSWER] if "answerer" in parts else [CAPTION]
    is_recurrent = any(name.startswith("decoder.cells.") for name in weights)
    further = [START] if is_recurrent else [CROSS, ATTENTION]
    names = [*decoders, *(f"{name}_{other}" for name in decoders for other in further)]
    if "fusion" in parts:
        names.append(QUESTION)
    return [IMAGE, MEMORY, *names, *([AUDIO, AUDIO_MEMORY] if "audio" in parts else [])]


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights, which its graphs state.

    Raises:
        CheckpointError: They cannot be read.
    """
    path = folder / WEIGHTS
    try:
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


@lru_cache(8)
def _digest(path: Path, size: int, modified: int) -> str:
    return file_digest(path)
