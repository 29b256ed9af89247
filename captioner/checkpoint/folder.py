"""Files of a checkpoint: names, stored answers, scores and settings."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.checkpoint.folder_format import CONFIG, WEIGHTS
from captioner.checkpoint.safetensors_header import read_header
from captioner.config import ConfidenceConfig, Config, load_config, save_config
from captioner.errors import CheckpointError
from captioner.files import replace_folder
from captioner.text import one_line
from captioner.tokenizer import Tokenizer

METRICS = "metrics.json"
ANSWERS = "answers.json"
"""The answers of a classifier of questions, as a list."""
ANSWER_BIAS = "answer_head.output.bias"
"""Name of the weights of a classifier whose shape is (number of answers,)."""
TEXT_ENCODER = "text_encoder"
"""The folder within a checkpoint that holds a Hugging Face encoder's configuration."""


def load_answers(folder: Path, config: Config, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """Return the token ids of the answers of a classifier; none if the model generates answers.

    Raises:
        CheckpointError: The file of the answers cannot be read, or does not fit the weights.
    """
    question, path = config.model.question, folder / ANSWERS
    if question is None or not question.classes:
        return []
    try:
        answers = [tuple(tokenizer.encode(text)) for text in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a list of answers: {one_line(error)}"
        ) from None
    output = read_header(folder / WEIGHTS).tensors.get(ANSWER_BIAS)
    if output and output.shape != (len(answers),):
        raise CheckpointError(
            f"{path}: has {len(answers)} answers, but the classifier in {WEIGHTS} has"
            f" {output.shape[0]}; restore the file of the training run"
        )
    return answers


def best_scores(folder: Path) -> dict[str, float]:
    """Return the validation scores of the best checkpoint; empty if there is none."""
    path = folder / METRICS
    return dict(json.loads(path.read_text(encoding="utf-8"))["val"]) if path.exists() else {}


def set_temperature(folder: Path, temperature: float) -> None:
    """Write a fitted `answers.temperature` into a checkpoint's configuration."""
    _rewrite(folder, load_config(folder / CONFIG, [f"answers.temperature={temperature:.4f}"]))


def set_confidence(
    folder: Path, confidence: ConfidenceConfig, figures: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write fitted confidences into a checkpoint's configuration, and figures into its metrics."""
    path = folder / METRICS
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    config = dataclasses.replace(load_config(folder / CONFIG), confidence=confidence)
    _rewrite(folder, config, metrics | {"calibration": figures})


def _rewrite(folder: Path, config: Config, metrics: Mapping[str, Any] | None = None) -> None:
    """Replace the configuration of a checkpoint and, if they are given, its metrics."""
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    with replace_folder(folder, size) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        save_config(config, partial / CONFIG)
        if metrics is not None:
            (partial / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
