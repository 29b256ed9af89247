"""Build the ONNX Runtime backend of one checkpoint, or of the members of an ensemble."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from captioner.backends.graph_sessions import GraphSessions
from captioner.backends.onnx_backend import OnnxBackend, OnnxMember
from captioner.checkpoint.graph_files import GraphDtype
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import Config, QuestionConfig
from captioner.tokenizer import Tokenizer


def build_onnx_backend(
    folders: Sequence[Path],
    configs: Sequence[Config],
    tokenizer: Tokenizer,
    *,
    dtype: str = "float32",
    tta: int = 1,
    workers: int = 1,
) -> OnnxBackend:
    """Return a backend of checkpoints that have graphs.

    Args:
        folders: The folder of each checkpoint.
        configs: The configuration of each.
        tokenizer: The tokenizer that all share.
        dtype: The type of the arithmetic: float32, int8 or auto.
        tta: Views of test-time augmentation: 1, 2 or 4.
        workers: Processes that share the cores of the machine.

    Raises:
        CaptionerError: A checkpoint has no graph for this number of views.
    """
    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else 0
    kind: GraphDtype = "int8" if dtype == "int8" else "float32"
    members = [
        OnnxMember(
            GraphSessions(folder, dtype=kind, threads=threads),
            pixel_spec(config),
            config.model.max_length,
            _keeps_positions(config.model.question),
            config.model.question is not None and config.model.question.decoder_layers > 0,
        )
        for folder, config in zip(folders, configs, strict=True)
    ]
    return OnnxBackend(members, tokenizer, tta=tta)


def _keeps_positions(question: QuestionConfig | None) -> bool:
    """Return whether the memory of a question begins with the positions of the image."""
    if question is None:
        return False
    if question.fusion == "linear":
        return question.linear_memory == "each"
    return question.fusion in ("concat", "add", "multiply")
