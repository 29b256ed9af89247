"""Build the ONNX Runtime backend of one checkpoint, or of the members of an ensemble."""

from __future__ import annotations

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
    dtype: GraphDtype = "float32",
    tta: int = 1,
    threads: int = 0,
) -> OnnxBackend:
    """Return a backend of checkpoints that have graphs.

    Args:
        folders: The folder of each checkpoint.
        configs: The configuration of each.
        tokenizer: The tokenizer that all share.
        dtype: The type of the arithmetic.
        tta: Views of test-time augmentation: 1, 2 or 4.
        threads: Threads; 0 for as many as there are physical cores.

    Raises:
        CaptionerError: A checkpoint has no graph for this number of views.
    """
    members = [
        OnnxMember(
            GraphSessions(folder, dtype=dtype, threads=threads),
            pixel_spec(config),
            config.model.max_length,
            _keeps_positions(config.model.question),
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
