"""Build image backbones from a configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioner.checkpoint import WEIGHTS, resolve_checkpoint
from captioner.checkpoint.weights import load_strictly, load_weights
from captioner.config import BackboneConfig, Config
from captioner.errors import CheckpointError, ConfigError
from captioner.images.transforms import PixelSpec
from captioner.model.cpu.mobilenet import MobileNet
from captioner.model.image_encoder import Backbones

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


def build_mobilenet(config: BackboneConfig) -> MobileNet:
    """Build a MobileNet without timm."""
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
