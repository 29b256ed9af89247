"""The key-value cache of a search.

Shapes: B images, K rows (hypotheses) per image, P memory positions, D width, H heads of a layer,
D/H the width of a head, S cached steps times K.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Cache:
    """Keys and values of the memory and of the generated tokens, one set per image for its K rows.

    Entry j * K + k of an image is what row k appended at step j, and `visible` (B, K, S) states
    which entries belong to the hypothesis of each row. Reordering the rows therefore moves no keys
    or values. Images are replaced during a search; `starts` (B,) is the step at which each began.

    Args:
        cross: Keys and values of the memory for each layer, each (B, H, P, D/H).
        heads: H of the self-attention of each layer.
        rows: K.
        room: Steps for which there is space.
        mask: (B, P), False at memory positions that are ignored.
    """

    def __init__(
        self,
        cross: list[tuple[Tensor, Tensor]],
        heads: Sequence[int],
        rows: int,
        room: int,
        mask: Tensor | None = None,
    ) -> None:
        k = cross[0][0]  # (B, H, P, D/H)
        images, _, _, depth = k.shape
        self.cross, self.mask, self.rows, self.room = cross, mask, rows, room
        # Hidden entries are multiplied by 0, so all entries that are read have been written.
        self.own = [k.new_empty((2, images, h, room * rows, depth)) for h in heads]
        """Keys and values of each layer, (2, B, H, S, D/H)."""
        self.visible = torch.zeros((images, rows, room * rows), dtype=torch.bool, device=k.device)
        self.starts = torch.zeros(images, dtype=torch.long, device=k.device)
        self.first, self.length = 0, 0  # steps in use: first to length - 1
        self._itself = torch.eye(rows, dtype=torch.bool, device=k.device)
        self._present: list[Tensor] = []
        """For each layer, the entries of this step."""
        self._past: list[Tensor] = []
        """For each layer, the entries of all steps in use."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the keys and values."""
        return self.own[0].dtype

    def ages(self) -> Tensor:
        """Return the number of tokens (B,) of each image before the present one."""
        return self.length - 1 - self.starts

    def advance(self, rows: int) -> Tensor | None:
        """Begin a step with `rows` rows per image: K, or 1 row that all others continue.

        Returns:
            A mask (B, 1, rows, S), True where a row may attend, or None for everywhere.
        """
        if self.length == self.room:
            self._move_up()
        begin = self.length * self.rows
        end = begin + self.rows
        complete = rows == self.rows
        self.visible[..., begin:end] = self._itself if complete else self._itself[0]
        own = [x[:, : len(self.starts)] for x in self.own]
        if not complete:
            for x in own:
                x[..., begin + rows : end, :] = 0
        self._present = [x[..., begin : begin + rows, :] for x in own]
        self._past = [x[..., self.first * self.rows : end, :] for x in own]
        self.length += 1
        if self.rows == 1 and self.first == 0 and not self.starts.any():
            return None
        return self.visible[:, None, :rows, self.first * self.rows : end]

    def append(self, layer: int, keys_values: Tensor) -> Tensor:
        """Write a layer's keys and values of this step, (2, B, H, K, D/H); return all so far."""
        self._present[layer].copy_(keys_values)
        return self._past[layer]

    def reorder(self, rows: Tensor) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""
        images = rows[:: self.rows] // self.rows
        self.visible = self.visible.flatten(0, 1)[rows].unflatten(0, (-1, self.rows))
        if len(images) < len(self.starts):
            self.starts = self.starts[images]
            used = slice(self.first * self.rows, self.length * self.rows)
            for x in self.own:
                x[:, : len(images), :, used] = x[:, images, :, used]
            self.cross = [(k[images], v[images]) for k, v in self.cross]
            self.mask = None if self.mask is None else self.mask[images]
            self.first = int(self.starts.min())

    def admit(self, cross: list[tuple[Tensor, Tensor]], places: Tensor) -> None:
        """Put other images in these places (n,): keys and values of their memory, unmasked."""
        for (k, v), (new_k, new_v) in zip(self.cross, cross, strict=True):
            k[places], v[places] = new_k, new_v
        self.visible[places] = False
        self.starts[places] = self.length
        self.first = int(self.starts.min())

    def _move_up(self) -> None:
        """Make room: remove the steps before the oldest image began."""
        if not self.first:
            raise ValueError(f"the cache is full after {self.room} steps")
        begin, end = self.first * self.rows, self.length * self.rows
        for x in self.own:
            own = x[:, : len(self.starts)]
            own[..., : end - begin, :] = own[..., begin:end, :].clone()
        self.visible[..., : end - begin] = self.visible[..., begin:end].clone()
        self.visible[..., end - begin :] = False
        self.starts = self.starts - self.first
        self.length, self.first = self.length - self.first, 0
