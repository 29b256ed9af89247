"""A tiny random checkpoint whose answers depend on image and question."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tiny import SIZE, THINGS, make_checkpoint

from captioner.config import AnswerConfig, GraphConfig, QuestionConfig, load_config, save_config

QUESTIONS = tuple(f"what is by the {thing}?" for thing in THINGS)
LONGEST = 32
"""The largest number of tokens of a question."""


def make_vqa_checkpoint(
    folder: Path, *, fusion: str = "cross_attention", decoder_layers: int = 0,
    graph: GraphConfig | None = None, size: int = SIZE, decoder: str = "transformer",
    classes: Sequence[str] = (),
    **answers: float,
) -> Path:  # fmt: skip
    """Write tiny's checkpoint with a fusion; `answers` are fields of `AnswerConfig`.

    With `classes`, it classifies questions.
    """
    question = QuestionConfig(
        encoder_layers=1, fusion=fusion, fusion_layers=1, max_length=LONGEST,
        decoder_layers=decoder_layers, classes=len(classes),
    )  # fmt: skip
    make_checkpoint(
        folder, question=question, graph=graph, size=size, decoder=decoder, answers=classes
    )
    path = folder / "config.yaml"
    config = AnswerConfig(**{"beam_size": 3, "max_length": 6} | answers)
    save_config(dataclasses.replace(load_config(path), answers=config), path)
    return folder
