"""Exponential moving average (EMA) of a model's weights, which is validated and saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from captioner.training.distributed import place_like


class MovingAverage:
    """Exponential moving average of a model's parameters (Polyak and Juditsky, 1992).

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the influence
    of the initial weights decreases quickly. With decay 0, there is no average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {}
        self.reset(model)

    def reset(self, model: nn.Module) -> None:
        """Start again from the model's present weights."""
        self.updates = 0
        if self.decay:
            self.state = {k: v.detach().clone() for k, v in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        if not self.decay:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        trained = {k: v for k, v in model.named_parameters() if v.requires_grad}
        torch._foreach_lerp_(
            [self.state[k] for k in trained], list(trained.values()), weight=1 - decay
        )

    @torch.no_grad()
    def place_like(self, model: nn.Module) -> None:
        """Move the average to the devices, memory formats and shards of the model's weights."""
        if self.state:
            self.state = {k: place_like(self.state[k], v) for k, v in model.named_parameters()}

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights within the block."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        # In place: FSDP and DeepSpeed keep references to the storage of the weights.
        weights = dict(model.named_parameters())
        for key, averaged in self.state.items():
            present = weights[key].detach().clone()
            weights[key].copy_(averaged)
            averaged.copy_(present)
