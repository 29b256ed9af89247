"""The units of a model that structured pruning can remove: attention heads and inner units.

Shapes: D width, H heads, U inner units of a feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from captioner.model.layers import Attention, FeedForwardLayer, replace_linear

FFN = "ffn"
"""Last component of the name of a feed-forward layer, such as `decoder.layers.0.ffn`."""


@dataclass(frozen=True)
class Units:
    """The heads of an attention module, or the inner units of a feed-forward layer.

    Each unit has `depth` rows in each of the linear layers `inputs` of `owner`, and as many columns
    in `output`.
    """

    owner: Attention | FeedForwardLayer
    inputs: tuple[str, ...]
    output: str

    @property
    def count(self) -> int:
        """Number of units: H or U."""
        return (
            self.owner.heads if isinstance(self.owner, Attention) else self.owner.fc1.out_features
        )

    @property
    def depth(self) -> int:
        """Rows of a unit: D/H for a head, 1 for an inner unit."""
        return self._linear(self.output).in_features // self.count

    @property
    def weights(self) -> int:
        """Number of weights of a unit."""
        inputs = (self._linear(name) for name in self.inputs)
        rows = sum(layer.in_features + 1 for layer in inputs)
        return self.depth * (rows + self._linear(self.output).out_features)

    def keep(self, kept: Sequence[int]) -> None:
        """Remove all other units, in place."""
        starts = torch.tensor(kept)[:, None] * self.depth
        index = (starts + torch.arange(self.depth)).flatten()
        for name in self.inputs:
            layer = self._linear(name)
            setattr(self.owner, name, replace_linear(layer, layer.weight[index], layer.bias[index]))
        layer = self._linear(self.output)
        setattr(self.owner, self.output, replace_linear(layer, layer.weight[:, index], layer.bias))
        if isinstance(self.owner, Attention):
            self.owner.heads = len(kept)

    def _linear(self, name: str) -> nn.Linear:
        layer = getattr(self.owner, name)
        assert isinstance(layer, nn.Linear)
        return layer


def list_units(model: nn.Module) -> dict[str, Units]:
    """Return the units of all Transformer layers by name, such as `decoder.layers.0.self_attn`.

    Backbones and Hugging Face text encoders have none.
    """
    units = {}
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            inputs = ("q_proj", "k_proj", "v_proj")
            units[name] = Units(module, inputs, "out_proj")
        elif isinstance(module, FeedForwardLayer):
            units[f"{name}.{FFN}"] = Units(module, ("fc1",), "fc2")
    return units


def resize_units(model: nn.Module, sizes: Mapping[str, int]) -> None:
    """Reduce the number of heads or inner units of layers, in place, as in a pruned checkpoint.

    Raises:
        ValueError: The model has no units of a name, or fewer than the count.
    """
    units = list_units(model)
    for name, count in sizes.items():
        if name not in units:
            raise ValueError(f"the model has no attention or feed-forward layer {name}")
        if count > units[name].count:
            raise ValueError(f"{name}: {count}: expected at most {units[name].count}")
        units[name].keep(range(count))
