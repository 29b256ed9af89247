"""Which images make which batch: a function of (seed, epoch), the same whatever runs it.

Accelerate's own loader sharding is not used: with it the order depends on the ranks and is not
reproduced after a restart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator


class EpochBatches:
    """Batches of (epoch, index) for one rank; set `epoch` before each pass.

    An epoch shuffles all images, cuts them into steps of `batch_size * world` and gives every
    rank its share of each step, so that W ranks of B images see what one rank of W * B sees.
    A last step with fewer images than ranks is left out, since each rank needs one.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.rank, self.world = rank, world
        self.epoch = 0

    def __len__(self) -> int:
        step = self.batch_size * self.world
        return self.length // step + (self.length % step >= self.world)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = list(range(self.length))
        if self.shuffle:
            random.Random(f"order {self.seed} {self.epoch}").shuffle(order)
        step = self.batch_size * self.world
        for i in range(len(self)):
            share = order[i * step : (i + 1) * step][self.rank :: self.world]
            yield [(self.epoch, index) for index in share]
