"""Build the modules of a model behind its backbone from a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from captioner.build.graphs import build_position_graph
from captioner.build.question_modules import build_fusion, build_question_encoder
from captioner.config import ModelConfig
from captioner.errors import ConfigError
from captioner.model.audio_branch import AudioBranch
from captioner.model.decoder import Decoder
from captioner.model.image_encoder import MemoryEncoder
from captioner.model.kind_head import KindHead
from captioner.model.layer_units import resize_units
from captioner.model.lstm_decoder import LSTMDecoder
from captioner.model.seq2seq import Seq2Seq
from captioner.model.transformer_decoder import TransformerDecoder
from captioner.tokenizer import PAD, Tokenizer

AudioParts = tuple[nn.Module, tuple[int, int]]
"""A backbone of recordings, with the positions and channels of its features."""


def build_model(
    config: ModelConfig,
    backbone: nn.Module,
    *,
    tokenizer: Tokenizer,
    channels: int,
    positions: int,
    audio: AudioParts | None = None,
    checkpoint: Path | None = None,
) -> Seq2Seq:
    """Build the model behind a backbone, whose features are (B, `positions`, `channels`).

    `audio` is the backbone of a second encoder, with the positions and channels of its features.

    A Hugging Face question encoder brings its `tokenizer.question_tokenizer`. Its own weights are
    loaded, unless `checkpoint` is the folder whose weights will be loaded: then only the
    architecture is read, from that folder.

    Raises:
        ConfigError: The question encoder cannot be loaded, or `sizes` names no layer of the model.
        CheckpointError: The checkpoint lacks the architecture of its question encoder.
    """
    memory_encoder = _build_memory_encoder(config, positions, channels)
    decoder = _build_decoder(config, tokenizer, layers=config.decoder_layers, ffn=config.ffn)
    question_encoder = fusion = answerer = None
    if question := config.question:
        question_encoder = build_question_encoder(config, question, tokenizer, checkpoint)
        fusion = build_fusion(config, question)
        if question.decoder_layers:
            answerer = _build_decoder(
                config,
                tokenizer,
                layers=question.decoder_layers,
                ffn=question.decoder_ffn or config.ffn,
                embed_tokens=decoder.embed_tokens,
            )
    model = Seq2Seq(
        backbone,
        memory_encoder,
        decoder,
        question_encoder=question_encoder,
        fusion=fusion,
        answerer=answerer,
        kind_head=KindHead(channels, config.kinds) if config.kinds else None,
        audio=audio
        and AudioBranch(audio[0], _build_memory_encoder(config, *audio[1]), config.width),
        pad=tokenizer.question_tokenizer.pad,
        blind=config.blind,
        image_only=config.question is not None and config.question.image_only,
    )
    try:
        resize_units(model, config.sizes)
    except ValueError as error:
        raise ConfigError(f"model.sizes: {error}") from None
    return model


def _build_memory_encoder(config: ModelConfig, positions: int, channels: int) -> MemoryEncoder:
    return MemoryEncoder(
        channels,
        positions,
        width=config.width,
        heads=config.heads,
        ffn=config.ffn,
        layers=config.encoder_layers,
        dropout=config.dropout,
        feature_dropout=config.feature_dropout,
        graph=build_position_graph(config, config.graph) if config.graph else None,
    )


def _build_decoder(
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    layers: int,
    ffn: int,
    embed_tokens: nn.Embedding | None = None,
) -> Decoder:
    build: Callable[..., Decoder] = LSTMDecoder
    if config.decoder == "transformer":
        build = partial(TransformerDecoder, heads=config.heads, ffn=ffn)
    return build(
        len(tokenizer),
        width=config.width,
        layers=layers,
        max_length=config.max_length,
        pad=PAD,
        dropout=config.dropout,
        embed_tokens=embed_tokens,
    )
