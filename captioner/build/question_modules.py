"""Build the question encoder and the fusion from a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from captioner.build.graphs import build_graph_layers
from captioner.checkpoint import TEXT_ENCODER
from captioner.config import ModelConfig, QuestionConfig
from captioner.config.model_section import OWN_ENCODERS
from captioner.errors import CheckpointError, ConfigError
from captioner.model.answer_head import AnswerHead
from captioner.model.fusion import Add, Concat, CrossAttention, Graph, Linear, Multiply
from captioner.model.pooling import AttentionPool, MaxPool, MeanPool
from captioner.model.question_encoder import QuestionEncoder, TextEncoder
from captioner.model.recurrent_encoder import RecurrentEncoder
from captioner.text import one_line
from captioner.tokenizer import TextEncoderTokenizer, Tokenizer


def build_question_encoder(
    config: ModelConfig, question: QuestionConfig, tokenizer: Tokenizer, checkpoint: Path | None
) -> QuestionEncoder | RecurrentEncoder | TextEncoder:
    """Build the question encoder that the configuration names; see `build_model`.

    Raises:
        ConfigError: A Hugging Face encoder cannot be loaded.
        CheckpointError: The checkpoint lacks the architecture of its question encoder.
    """
    if question.encoder in ("lstm", "gru"):
        cell: Any = question.encoder
        try:
            return RecurrentEncoder(
                cell,
                width=config.width,
                layers=question.encoder_layers,
                dropout=config.dropout,
            )
        except ValueError as error:
            raise ConfigError(
                f"model.question.encoder={cell}: {error}; change model.width"
            ) from None
    if question.encoder == "shared":
        return QuestionEncoder(
            width=config.width,
            heads=config.heads,
            ffn=config.ffn,
            layers=question.encoder_layers,
            max_length=question.max_length,
            dropout=config.dropout,
        )
    # Imported here: transformers is slow to import.
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    name = question.encoder if checkpoint is None else str(checkpoint / TEXT_ENCODER)
    try:
        if checkpoint is None:
            model = AutoModel.from_pretrained(name)
        else:
            model = AutoModel.from_config(AutoConfig.from_pretrained(name))
        words = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        if checkpoint is not None:
            raise CheckpointError(
                f"{name}: no configuration of a text encoder can be read: {one_line(error)}"
            ) from None
        raise ConfigError(
            f"model.question.encoder={question.encoder}: cannot be loaded ({one_line(error)}); give"
            f" the name or the folder of a Hugging Face text encoder, or one of"
            f" {', '.join(OWN_ENCODERS)}"
        ) from None
    tokenizer.question_tokenizer = TextEncoderTokenizer(words)
    # Weights published in half precision would otherwise stay in half precision.
    model = model.float()
    return TextEncoder(model, channels=model.config.hidden_size, width=config.width)


def build_fusion(config: ModelConfig, question: QuestionConfig) -> nn.Module:
    """Build the fusion of image and question that the configuration names."""
    width, heads, ffn = config.width, config.heads, config.ffn
    layers, dropout = question.fusion_layers, config.dropout
    builders: dict[str, Callable[[], nn.Module]] = {
        "concat": lambda: Concat(width=width, heads=heads, ffn=ffn, layers=layers, dropout=dropout),
        "cross_attention": lambda: CrossAttention(
            width=width, heads=heads, ffn=ffn, layers=layers, dropout=dropout
        ),
        "add": lambda: Add(width=width),
        "multiply": lambda: Multiply(width=width),
        "linear": lambda: Linear(width=width, per_position=question.linear_memory == "each"),
        "graph": lambda: Graph(
            build_graph_layers(config, question.graph_layer, layers=layers, heads=heads),
            width=width,
            neighbors=question.graph_neighbors,
        ),
    }
    return builders[question.fusion]()


def build_answer_head(
    config: ModelConfig, question: QuestionConfig, answers: Sequence[Sequence[int]]
) -> AnswerHead:
    """Build the classifier of questions for answers, given as token ids."""
    pools: dict[str, Callable[[], nn.Module]] = {
        "mean": MeanPool,
        "max": MaxPool,
        "attention": lambda: AttentionPool(config.width),
    }
    pool = pools[question.pooling]()
    return AnswerHead(answers, pool, width=config.width, dropout=config.dropout)
