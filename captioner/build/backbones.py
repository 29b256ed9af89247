"""Build the backbones of images and recordings from a configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captioner.checkpoint import WEIGHTS, resolve_checkpoint
from captioner.checkpoint.audio_format import audio_spec
from captioner.checkpoint.weights import load_strictly, load_weights
from captioner.config import BackboneConfig, Config
from captioner.errors import CheckpointError, ConfigError
from captioner.images.transforms import PixelSpec
from captioner.model.cpu.mobilenet import MobileNet
from captioner.model.image_encoder import Backbones

if TYPE_CHECKING:
    from captioner.audio import AudioSpec

CLASSIFIERS = ("classifier", "head", "fc")
"""timm's names for the classifiers of its models; a captioner has no classifier."""


def build_backbone(config: Config, *, load_weights: bool = True) -> tuple[Backbones, Config]:
    """Build the timm models of the first encoder: of images, or else of recordings.

    Returns them and the configuration, completed by the input size, mean and standard deviation of
    the first image backbone. Raises ConfigError if a model or module name is unknown,
    CheckpointError if weights are missing or do not fit.
    """
    from timm.data.config import resolve_model_data_config

    if not config.model.backbones:
        return build_audio_backbone(config, load_weights=load_weights), config
    models = [
        _build_timm(c, "model.backbones", i, load_weights=load_weights)
        for i, c in enumerate(config.model.backbones)
    ]
    own: dict[str, Any] = resolve_model_data_config(models[0])
    image = config.image
    image = dataclasses.replace(
        image,
        size=image.size or own["input_size"][-1],
        mean=image.mean or tuple(own["mean"]),
        std=image.std or tuple(own["std"]),
    )
    return Backbones(models), dataclasses.replace(config, image=image)


def build_audio_backbone(config: Config, *, load_weights: bool = True) -> Backbones:
    """Build the timm models of spectrograms (B, 1, M, T); raise as `build_backbone`.

    Models with a fixed input size, such as a ViT, get the size of the spectrograms (Gong et al.,
    AST: Audio Spectrogram Transformer, 2021), and their position embeddings are interpolated.
    """
    import timm

    assert config.model.audio is not None
    models = []
    for i, c in enumerate(config.model.audio.backbones):
        args: dict[str, Any] = {"in_chans": 1}
        known = timm.is_model(c.name) and timm.get_pretrained_cfg(c.name)
        if known and known.fixed_input_size:
            args["img_size"] = audio_spec(config).shape[1:]
        where = "model.audio.backbones"
        models.append(_build_timm(c, where, i, load_weights=load_weights, **args))
    return Backbones(models)


@torch.no_grad()
def feature_shape(backbone: nn.Module, spec: PixelSpec | AudioSpec) -> tuple[int, int]:
    """Return the (positions, channels) of a backbone for an input format; raise ConfigError."""
    training = backbone.training
    backbone.eval()
    try:
        device = next(backbone.parameters()).device
        features: Tensor = backbone(torch.zeros(1, *spec.shape, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:  # timm asserts the input size
        names, setting, unit = "model.backbones", "image.size", "pixels"
        height, width = spec.shape[1:]
        if not isinstance(spec, PixelSpec):
            names, unit = "model.audio.backbones", "bands and frames"
            setting = "audio.mels, audio.hop or audio.seconds"
        raise ConfigError(
            f"{names} cannot be used, or not together, at {height} x {width} {unit}: {error};"
            f" set {setting}, or choose backbones whose grids are alike"
        ) from None
    finally:
        backbone.train(training)
    return features.shape[1], features.shape[2]


def build_mobilenet(config: BackboneConfig) -> MobileNet:
    """Build a MobileNet without timm."""
    args = {k: v for k, v in config.args.items() if k != "pad_type"}
    return MobileNet(config.name, remove=config.remove, **args)


def _build_timm(
    config: BackboneConfig, setting: str, index: int, *, load_weights: bool, **args: Any
) -> nn.Module:
    """Build the timm model at an index of a setting, such as `model.backbones`."""
    import timm

    where = f"{setting}.{index}"
    download = config.weights == "timm" and load_weights
    try:
        model: nn.Module = timm.create_model(
            config.name, pretrained=download, num_classes=0, **args, **config.args
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
    load_strictly(model, _adapt_inputs(model, state), path)


def _adapt_inputs(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights for the input channels and the input size of a timm model.

    The weights of the first convolution are summed over the channels, and position embeddings are
    interpolated, as timm does with the weights that it fetches.
    """
    from timm.layers.pos_embed import resample_abs_pos_embed
    from timm.models import adapt_input_conv

    net: Any = model
    key = f"{net.pretrained_cfg.get('first_conv')}.weight"
    own = net.state_dict()
    if key in state and key in own and own[key].shape[1] != state[key].shape[1]:
        state = state | {key: adapt_input_conv(own[key].shape[1], state[key])}
    key = "pos_embed"
    if key in state and key in own and own[key].shape != state[key].shape:
        grid, prefix = net.patch_embed.grid_size, net.num_prefix_tokens
        resampled = resample_abs_pos_embed(state[key], grid, num_prefix_tokens=prefix)
        state = state | {key: resampled}
    return state
