"""Build the ONNX Runtime backend of one checkpoint, or of the members of an ensemble."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from captioner.backends.graph_sessions import GraphSessions
from captioner.backends.onnx_backend import OnnxBackend, OnnxMember
from captioner.backends.processor_flags import has_integer_dot_products
from captioner.checkpoint import load_answers
from captioner.checkpoint.audio_format import first_spec, input_specs, second_spec
from captioner.checkpoint.graph_files import CAPTION, GraphDtype, graph_path
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
        CheckpointError: The answers of a classifier cannot be read.
    """
    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else 0
    input_specs(configs)  # raises if the members take different inputs
    kind = choose_graph_dtype(folders) if dtype == "auto" else cast(GraphDtype, dtype)
    members = [
        OnnxMember(
            GraphSessions(folder, dtype=kind, threads=threads),
            first_spec(config),
            config.model.max_length,
            _keeps_positions(config.model.question),
            config.model.question is not None and config.model.question.decoder_layers > 0,
            config.model.decoder == "lstm",
            config.model.kinds,
            second_spec(config),
        )
        for folder, config in zip(folders, configs, strict=True)
    ]
    answers = load_answers(folders[0], configs[0], tokenizer)
    return OnnxBackend(members, tokenizer, tta=tta, answers=answers)


def choose_graph_dtype(folders: Sequence[Path]) -> GraphDtype:
    """Return int8 if all checkpoints have such graphs and the processor suits them."""
    has_int8 = all(graph_path(folder, CAPTION, "int8").is_file() for folder in folders)
    return "int8" if has_int8 and has_integer_dot_products() else "float32"


def _keeps_positions(question: QuestionConfig | None) -> bool:
    """Return whether the memory of a question begins with the positions of the image."""
    if question is None:
        return False
    if question.fusion == "linear":
        return question.linear_memory == "each"
    return question.fusion in ("concat", "add", "multiply", "graph")
