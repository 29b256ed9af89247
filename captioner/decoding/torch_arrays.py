"""Implement `Arrays` with torch: the only module of `decoding` that imports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from captioner.decoding.arrays import Arrays


def arrays_on(device: torch.device | str) -> Arrays:
    """Return the functions for tensors on a device."""
    return cast(Arrays, _TorchArrays(torch.device(device)))


@dataclass(frozen=True)
class _TorchArrays:
    device: torch.device

    where = staticmethod(torch.where)
    full_like = staticmethod(torch.full_like)
    repeat = staticmethod(torch.repeat_interleave)
    searchsorted = staticmethod(torch.searchsorted)
    exp = staticmethod(torch.exp)
    concat = staticmethod(torch.cat)
    stack = staticmethod(torch.stack)
    float32 = staticmethod(Tensor.float)
    topk = staticmethod(torch.topk)

    def asarray(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).to(self.device)

    def full(self, shape: tuple[int, ...], value: float) -> Tensor:
        return torch.full(shape, value, device=self.device)

    def arange(self, n: int) -> Tensor:
        return torch.arange(n, device=self.device)

    def nonzero(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.nonzero(as_tuple=True)

    def gather(self, x: Tensor, index: Tensor) -> Tensor:
        axis = index.ndim - 1
        if x.ndim > index.ndim:
            rest = x.shape[index.ndim :]
            index = index[(...,) + (None,) * len(rest)].expand(*index.shape, *rest)
        return x.gather(axis, index)

    def count(self, index: Tensor, mask: Tensor, size: int) -> Tensor:
        counts = torch.zeros((*index.shape[:-1], size), device=self.device)
        return counts.scatter_add_(-1, index, mask.expand(index.shape).float())

    def argsort(self, x: Tensor, *, descending: bool = False) -> Tensor:
        return x.argsort(dim=-1, descending=descending, stable=True)

    def amax(self, x: Tensor) -> Tensor:
        return x.amax(-1)

    def cumsum(self, x: Tensor) -> Tensor:
        return x.cumsum(-1, dtype=torch.float64)

    def log_softmax(self, x: Tensor) -> Tensor:
        return x.float().log_softmax(-1)
