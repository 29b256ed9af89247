"""Build modules from a configuration. Only this module passes its settings to constructors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioner.checkpoint import CONFIG, TEXT_ENCODER, TOKENIZER, WEIGHTS, resolve_checkpoint
from captioner.checkpoint.weights import load_strictly, load_weights, stored_feature_shape
from captioner.config import BackboneConfig, Config, ModelConfig, QuestionConfig, load_config
from captioner.errors import CheckpointError, ConfigError
from captioner.images.transforms import PixelSpec
from captioner.model.cpu.mobilenet import MobileNet, is_supported_mobilenet
from captioner.model.decoder import Decoder
from captioner.model.fusion import Add, Concat, CrossAttention, Linear, Multiply
from captioner.model.image_encoder import Backbones, MemoryEncoder
from captioner.model.kind_head import KindHead
from captioner.model.layer_units import resize_units
from captioner.model.question_encoder import QuestionEncoder, TextEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.text import one_line
from captioner.tokenizer import PAD, TextEncoderTokenizer, Tokenizer

SHARED = "shared"
"""The value of `model.question.encoder` for an encoder that shares the decoder's embeddings."""
CLASSIFIERS = ("classifier", "head", "fc")
"""timm's names for the classifiers of its models; a captioner has no classifier."""


def build_backbone(config: Config, *, load_weights: bool = True) -> tuple[Backbones, Config]:
    """Build the timm models that a configuration names.

    Returns them and the configuration, completed by the input size, mean and standard deviation of
    the first one. Raises ConfigError if a model or module name is unknown, CheckpointError if
    weights are missing or do not fit.
    """
    from timm.data.config import resolve_model_data_config

    models = [_build_timm(c, i, load_weights) for i, c in enumerate(config.model.backbones)]
    own: dict[str, Any] = resolve_model_data_config(models[0])
    image = config.image
    image = dataclasses.replace(
        image,
        size=image.size or own["input_size"][-1],
        mean=image.mean or tuple(own["mean"]),
        std=image.std or tuple(own["std"]),
    )
    return Backbones(models), dataclasses.replace(config, image=image)


def build_model(
    config: ModelConfig,
    backbone: nn.Module,
    *,
    tokenizer: Tokenizer,
    channels: int,
    positions: int,
    checkpoint: Path | None = None,
) -> Seq2Seq:
    """Build the model behind a backbone, whose features are (B, `positions`, `channels`).

    A Hugging Face question encoder brings its `tokenizer.question_tokenizer`. Its own weights are
    loaded, unless `checkpoint` is the folder whose weights will be loaded: then only the
    architecture is read, from that folder.

    Raises:
        ConfigError: The question encoder cannot be loaded, or `sizes` names no layer of the model.
        CheckpointError: The checkpoint lacks the architecture of its question encoder.
    """
    memory_encoder = MemoryEncoder(
        channels,
        positions,
        width=config.width,
        heads=config.heads,
        ffn=config.ffn,
        layers=config.encoder_layers,
        dropout=config.dropout,
        feature_dropout=config.feature_dropout,
    )
    decoder = _build_decoder(config, tokenizer, layers=config.decoder_layers, ffn=config.ffn)
    question_encoder = fusion = answerer = None
    if question := config.question:
        question_encoder = _build_question_encoder(config, question, tokenizer, checkpoint)
        fusion = _build_fusion(config, question)
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
        pad=tokenizer.question_tokenizer.pad,
        blind=config.blind,
    )
    try:
        resize_units(model, config.sizes)
    except ValueError as error:
        raise ConfigError(f"model.sizes: {error}") from None
    return model


def _build_decoder(
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    layers: int,
    ffn: int,
    embed_tokens: nn.Embedding | None = None,
) -> Decoder:
    return Decoder(
        len(tokenizer),
        width=config.width,
        heads=config.heads,
        ffn=ffn,
        layers=layers,
        max_length=config.max_length,
        pad=PAD,
        dropout=config.dropout,
        embed_tokens=embed_tokens,
    )


def _build_question_encoder(
    config: ModelConfig, question: QuestionConfig, tokenizer: Tokenizer, checkpoint: Path | None
) -> QuestionEncoder | TextEncoder:
    if question.encoder == SHARED:
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
            f" the name or the folder of a Hugging Face text encoder, or {SHARED}"
        ) from None
    tokenizer.question_tokenizer = TextEncoderTokenizer(words)
    # Weights published in half precision would otherwise stay in half precision.
    model = model.float()
    return TextEncoder(model, channels=model.config.hidden_size, width=config.width)


def _build_fusion(config: ModelConfig, question: QuestionConfig) -> nn.Module:
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
    }
    return builders[question.fusion]()


@torch.no_grad()
def feature_shape(backbone: nn.Module, spec: PixelSpec) -> tuple[int, int]:
    """Return the (positions, channels) of a backbone at an input size; raise ConfigError."""
    training = backbone.training
    backbone.eval()
    try:
        device = next(backbone.parameters()).device
        features: Tensor = backbone(torch.zeros(1, 3, *spec.size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:  # timm asserts the input size
        raise ConfigError(
            f"model.backbones cannot be used, or not together, at {spec.size[0]} pixels: {error};"
            " set image.size, or choose backbones whose grids are alike"
        ) from None
    finally:
        backbone.train(training)
    return features.shape[1], features.shape[2]


def load_checkpoint(
    name: str | Path, *, for_training: bool = False, question: QuestionConfig | None = None
) -> tuple[Seq2Seq, Tokenizer, Config]:
    """Load a checkpoint.

    Args:
        name: A folder, or `bundled`.
        for_training: Build the backbones with timm. Otherwise, a backbone that
            `captioner.model.cpu.mobilenet` supports is built without timm, whose import takes
            longer than a caption, and its batch norms are folded.
        question: Settings of new, untrained question modules for a checkpoint that has none.

    Returns:
        The model (in evaluation mode, float32, on the CPU), its tokenizer and its configuration.

    Raises:
        CheckpointError: A file is missing, damaged or does not fit the others.
        ConfigError: The configuration is invalid.
    """
    path = resolve_checkpoint(name)
    config = load_config(path / CONFIG)
    new = question if config.model.question is None else None
    if new is not None:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, question=new))
    tokenizer = Tokenizer.load(path / TOKENIZER)
    state = load_weights(path / WEIGHTS)
    fast: list[MobileNet] = []
    backbones = config.model.backbones
    if not for_training and all(is_supported_mobilenet(b.name, b.args) for b in backbones):
        fast = [_build_mobilenet(b) for b in backbones]
    backbone = Backbones(fast) if fast else build_backbone(config, load_weights=False)[0]
    positions, channels = stored_feature_shape(state, path)
    model = build_model(
        config.model,
        backbone,
        tokenizer=tokenizer,
        channels=channels,
        positions=positions,
        checkpoint=None if new else path,
    )
    if new is not None:
        untrained = ("question_encoder.", "fusion.", "answerer.")
        state |= {k: v for k, v in model.state_dict().items() if k.startswith(untrained)}
    load_strictly(model, state, path)
    model.eval()
    for mobilenet in fast:
        mobilenet.fold_batch_norms()
    return model, tokenizer, config


def _build_mobilenet(config: BackboneConfig) -> MobileNet:
    args = {k: v for k, v in config.args.items() if k != "pad_type"}
    return MobileNet(config.name, remove=config.remove, **args)


def _build_timm(config: BackboneConfig, index: int, load_weights: bool) -> nn.Module:
    import timm

    where = f"model.backbones.{index}"
    download = config.weights == "timm" and load_weights
    try:
        model: nn.Module = timm.create_model(
            config.name, pretrained=download, num_classes=0, **config.args
        )
    except (RuntimeError, TypeError, ValueError) as error:
        near = timm.list_models(f"*{config.name[:6]}*")[:3]
        raise ConfigError(
            f"{where}: timm cannot make {config.name!r} ({error}); near it are {near}"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{where}: the weights of {config.name!r} could not be fetched ({error}); give"
            f" {where}.weights the path of a safetensors file, or the word bundled or none"
        ) from None
    for path in config.remove:
        _remove(model, path, where)
    if load_weights and config.weights not in ("timm", "none"):
        _load_backbone(model, config, index)
    return model


def _remove(model: nn.Module, path: str, where: str) -> None:
    """Replace a submodule by the identity."""
    try:
        model.get_submodule(path)
    except AttributeError:
        raise ConfigError(f"{where}.remove: the model has no module {path!r}") from None
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Identity())


def _load_backbone(model: nn.Module, config: BackboneConfig, index: int) -> None:
    """Load the weights of a backbone from a file; only those of a classifier are ignored."""
    path, prefix = Path(config.weights), ""
    if config.weights == "bundled":
        path = resolve_checkpoint("bundled") / WEIGHTS
        prefix = f"backbone.models.{index}."
    heads = tuple(f"{prefix}{name}." for name in CLASSIFIERS)
    state = {
        k.removeprefix(prefix): v
        for k, v in load_weights(path).items()
        if k.startswith(prefix) and not k.startswith(heads)
    }
    load_strictly(model, state, path)
