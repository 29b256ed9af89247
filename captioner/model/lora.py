"""LoRA adapters on a frozen transformers model, through peft (Hu et al., ICLR 2022).

They exist only during a training run. A checkpoint holds plain weights with the adapters merged
in, so that using it does not need peft.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from captioner.errors import ConfigError
from captioner.extras import install_command
from captioner.text import one_line


def add_adapters(encoder: nn.Module, rank: int) -> None:
    """Freeze a Hugging Face model and add a trainable adapter to each of its linear layers.

    All linear layers get one, because adapters on attention alone do not match full fine-tuning
    (Dettmers et al., QLoRA, 2023, section 4), and because peft knows the attention layers' names
    for a few architectures only. The product is not scaled (alpha = rank): a scale would only be a
    factor on the learning rate. Raises ConfigError if peft is not installed or the rank is larger
    than a side of the weights.
    """
    _inject(encoder, rank, "all-linear", "model.question.lora_rank")


def add_chosen_adapters(model: nn.Module, rank: int, names: Sequence[str]) -> None:
    """Add a trainable adapter to each of the named linear layers of a transformers model.

    Raises ConfigError if peft is not installed or the rank is larger than a side of the weights.
    """
    _inject(model, rank, list(names), "train.lora_rank")


def freeze_adapted(model: nn.Module) -> None:
    """Freeze all weights except those of adapters."""
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            parameter.requires_grad_(False)


def _inject(model: nn.Module, rank: int, layers: str | list[str], setting: str) -> None:
    """Add adapters to the layers of these names, or to `all-linear`; raise ConfigError."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            f"{setting}={rank} needs peft ({one_line(error)}); {install_command('lora')}"
        ) from None
    limit, name = _largest_rank(model, layers)
    if rank > limit:
        raise ConfigError(
            f"{setting}={rank}: at most {limit}, the smaller side of the weights of {name}, which"
            " would get an adapter; choose a lower rank, such as 16"
        )
    settings = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
    with warnings.catch_warnings():
        # peft adapts the setting to each layer: the weights of `Conv1D` are transposed.
        warnings.filterwarnings("ignore", "fan_in_fan_out")
        inject_adapter_in_model(settings, model)


def _largest_rank(model: nn.Module, layers: str | list[str]) -> tuple[int, str]:
    """Return the smallest side of the weights of the layers, and the name of that layer."""
    from transformers.pytorch_utils import Conv1D

    names = None if isinstance(layers, str) else set(layers)
    return min(
        (min(layer.weight.shape), name)
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, Conv1D)) and (names is None or name in names)
    )


@torch.no_grad()
def merge_adapters(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of the equivalent plain model; the weights of `model` do not change."""
    state = model.state_dict()
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            weight = f"{name}.base_layer.weight"
            state[weight] = state[weight] + layer.get_delta_weight("default")
    return {k.replace(".base_layer.", "."): v for k, v in state.items() if ".lora_" not in k}


def add_new_adapters(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a plain model's state with new adapters, whose product is zero, for `model`."""
    own = model.state_dict()
    places = {key.replace(".base_layer.", "."): key for key in own}
    adapted = {places.get(key, key): value for key, value in state.items()}
    for key, value in own.items():
        if ".lora_A." in key:
            adapted[key] = nn.init.kaiming_uniform_(torch.empty_like(value), a=5**0.5)
        elif ".lora_B." in key:
            adapted[key] = torch.zeros_like(value)
    return adapted
