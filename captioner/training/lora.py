"""Low-rank adapters on a frozen text encoder, through peft (LoRA, Hu et al., ICLR 2022).

They live within a run alone. A checkpoint has plain weights, to which the adapters' products are
added, so that nobody else needs peft.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from captioner.errors import ConfigError
from captioner.text import one_line

PEFT = "peft>=0.18"


def add_adapters(encoder: nn.Module, rank: int) -> None:
    """Freeze a Hugging Face model, and give each of its linear layers an adapter to train.

    Every layer, since attention's alone are too few to match full training (Dettmers et al.,
    QLoRA, 2023, section 4), and since peft knows their names in a few architectures only. The
    product is added as it is, unscaled: a factor on it would be one on the learning rate.
    Raises ConfigError without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            f"model.question.lora_rank={rank} needs peft ({one_line(error)});"
            f' install it with: pip install "{PEFT}"'
        ) from None
    settings = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear")
    inject_adapter_in_model(settings, encoder)


@torch.no_grad()
def merged(model: nn.Module) -> dict[str, Tensor]:
    """The state of the plain model that computes the same; this one's own weights stay."""
    state = model.state_dict()
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            weight = f"{name}.base_layer.weight"
            state[weight] = state[weight] + layer.get_delta_weight("default")
    return {k.replace(".base_layer.", "."): v for k, v in state.items() if ".lora_" not in k}


def unmerged(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A plain model's state as `model` takes it: with new adapters, which change nothing yet."""
    own = model.state_dict()
    places = {key.replace(".base_layer.", "."): key for key in own}
    found = {places.get(key, key): value for key, value in state.items()}
    for key, value in own.items():
        if ".lora_A." in key:
            found[key] = nn.init.kaiming_uniform_(torch.empty_like(value), a=5**0.5)
        elif ".lora_B." in key:
            found[key] = torch.zeros_like(value)
    return found
