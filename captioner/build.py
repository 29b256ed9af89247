"""Configuration to objects: the one place where a config value becomes an argument."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from captioner.checkpoint import (
    CONFIG,
    TEXT_ENCODER,
    TOKENIZER,
    WEIGHTS,
    load_strictly,
    load_weights,
    resolve_checkpoint,
    stored_feature_shape,
)
from captioner.config import BackboneConfig, Config, ModelConfig, QuestionConfig, load_config
from captioner.errors import CheckpointError, ConfigError
from captioner.images.transforms import PixelSpec
from captioner.model.cpu.mobilenet import MobileNet, is_supported_mobilenet
from captioner.model.decoder import Decoder
from captioner.model.encoder import Backbones, MemoryEncoder
from captioner.model.fusion import Add, Concat, CrossAttention, Linear, Multiply
from captioner.model.question import QuestionEncoder, TextEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.text import one_line
from captioner.tokenizer import PAD, TextEncoderTokenizer, Tokenizer

SHARED = "shared"


def build_backbone(config: Config, *, load_weights: bool = True) -> tuple[Backbones, Config]:
    """timm models by name, with the configuration completed by their own size, mean and std.

    Raises:
        ConfigError: an unknown model or module name, or backbones that expect other pixels.
        CheckpointError: weights that are missing or do not fit.
    """
    from timm.data import resolve_model_data_config

    models = [_timm_model(c, i, load_weights) for i, c in enumerate(config.model.backbones)]
    own = resolve_model_data_config(models[0])
    image = config.image
    image = dataclasses.replace(
        image,
        size=image.size or own["input_size"][-1],
        mean=image.mean or tuple(own["mean"]),
        std=image.std or tuple(own["std"]),
    )
    return Backbones(models), dataclasses.replace(config, image=image)


def pixel_spec(config: Config) -> PixelSpec:
    """The transform of a configuration that `build_backbone` has completed."""
    image = config.image
    return PixelSpec((image.size, image.size), image.mean, image.std, image.resize)


def build_model(
    config: ModelConfig,
    backbone: nn.Module,
    *,
    tokenizer: Tokenizer,
    channels: int,
    positions: int,
    checkpoint: Path | None = None,
) -> Seq2Seq:
    """The model behind a backbone whose features are (B, positions, channels).

    A Hugging Face question encoder comes with its weights, and gives the tokenizer its own for
    questions; of a `checkpoint`, whose weights follow, only the architecture is read.
    """
    sizes = {"width": config.width, "heads": config.heads, "ffn": config.ffn}
    memory_encoder = MemoryEncoder(
        channels,
        positions,
        layers=config.encoder_layers,
        dropout=config.dropout,
        feature_dropout=config.feature_dropout,
        **sizes,
    )
    decoder = Decoder(
        len(tokenizer),
        layers=config.decoder_layers,
        max_length=config.max_length,
        pad=PAD,
        dropout=config.dropout,
        **sizes,
    )
    parts: dict[str, nn.Module] = {}
    if config.question is not None:
        parts["question_encoder"] = _question_encoder(config, tokenizer, checkpoint, sizes)
        parts["fusion"] = _fusion(config.question, config.dropout, sizes)
        if config.question.decoder_layers:
            parts["answerer"] = Decoder(
                len(tokenizer),
                layers=config.question.decoder_layers,
                max_length=config.max_length,
                pad=PAD,
                dropout=config.dropout,
                embed_tokens=decoder.embed_tokens,
                **sizes | {"ffn": config.question.decoder_ffn or config.ffn},
            )
    pad = tokenizer.question_tokenizer.pad
    return Seq2Seq(backbone, memory_encoder, decoder, **parts, pad=pad, blind=config.blind)


def _question_encoder(
    config: ModelConfig, tokenizer: Tokenizer, checkpoint: Path | None, sizes: dict[str, int]
) -> nn.Module:
    question = config.question
    if question.encoder == SHARED:
        return QuestionEncoder(
            layers=question.encoder_layers,
            max_length=question.max_length,
            dropout=config.dropout,
            **sizes,
        )
    name = question.encoder if checkpoint is None else checkpoint / TEXT_ENCODER
    # Heavy, and only such models need it.
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
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
    # Weights that were published in half precision come, and stay, so unless told otherwise.
    model = model.float()
    return TextEncoder(model, channels=model.config.hidden_size, width=config.width)


def _fusion(question: QuestionConfig, dropout: float, sizes: dict[str, int]) -> nn.Module:
    deep = sizes | {"layers": question.fusion_layers, "dropout": dropout}
    width = {"width": sizes["width"]}
    builders = {
        "concat": lambda: Concat(**deep),
        "cross_attention": lambda: CrossAttention(**deep),
        "add": lambda: Add(**width),
        "multiply": lambda: Multiply(**width),
        "linear": lambda: Linear(**width, per_position=question.linear_memory == "each"),
    }
    return builders[question.fusion]()


@torch.no_grad()
def feature_shape(backbone: nn.Module, spec: PixelSpec) -> tuple[int, int]:
    """(positions, channels) of a backbone's features, found by running it once."""
    training = backbone.training
    backbone.eval()
    try:
        device = next(backbone.parameters()).device
        shape = backbone(torch.zeros(1, 3, *spec.size, device=device)).shape
    except (RuntimeError, AssertionError, ValueError) as error:  # timm asserts the input size
        raise ConfigError(
            f"model.backbones cannot be used, or not together, at {spec.size[0]} pixels: {error};"
            " set image.size, or choose backbones whose grids are alike"
        ) from None
    finally:
        backbone.train(training)
    return shape[1], shape[2]


def load_checkpoint(
    name: str | Path, *, for_training: bool = False, question: QuestionConfig | None = None
) -> tuple[Seq2Seq, Tokenizer, Config]:
    """Model (in evaluation mode, float32, on the CPU), tokenizer and configuration of a folder.

    With `question`, a checkpoint that captions only gets new parts for questions, untrained.
    For use, a backbone that has a light twin (`captioner.model.cpu.mobilenet`) is built
    without timm, whose import takes longer than a caption. Raises CheckpointError and ConfigError.
    """
    path = resolve_checkpoint(name)
    config = load_config(path / CONFIG)
    new = question if config.model.question is None else None
    if new is not None:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, question=new))
    tokenizer = Tokenizer.load(path / TOKENIZER)
    state = load_weights(path / WEIGHTS)
    light = not for_training and all(
        is_supported_mobilenet(b.name, b.args) for b in config.model.backbones
    )
    if light:
        backbone = Backbones([_build_twin(b) for b in config.model.backbones])
    else:
        backbone, _ = build_backbone(config, load_weights=False)
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
    if light:
        for twin in backbone.models:
            twin.fold_batch_norms()
    return model, tokenizer, config


def _build_twin(config: BackboneConfig) -> MobileNet:
    args = {k: v for k, v in config.args.items() if k != "pad_type"}
    return MobileNet(config.name, remove=config.remove, **args)


def _timm_model(config: BackboneConfig, index: int, load_weights: bool) -> nn.Module:
    import timm

    where = f"model.backbones.{index}"
    named = config.weights == "timm" and load_weights
    try:
        model = timm.create_model(config.name, pretrained=named, num_classes=0, **config.args)
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
    try:
        model.get_submodule(path)
    except AttributeError:
        raise ConfigError(f"{where}.remove: the model has no module {path!r}") from None
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Identity())


def _load_backbone(model: nn.Module, config: BackboneConfig, index: int) -> None:
    """Weights from a file, strictly, but for a classifier, which no captioner has."""
    path, prefix = Path(config.weights), ""
    if config.weights == "bundled":
        path = resolve_checkpoint("bundled") / WEIGHTS
        prefix = f"backbone.models.{index}."
    state = load_weights(path)
    heads = tuple(f"{prefix}{name}." for name in ("classifier", "head", "fc"))
    state = {
        k.removeprefix(prefix): v
        for k, v in state.items()
        if k.startswith(prefix) and not k.startswith(heads)
    }
    load_strictly(model, state, path)
