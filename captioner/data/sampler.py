"""Batches of an epoch as a function of (seed, epoch), the same for any number of processes.

Accelerate's sharding of the loader is not used, because with it the order depends on the number of
ranks and cannot be reproduced after a restart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from captioner.data.dataset import Key


class EpochBatches:
    """Batches of keys for one rank; each batch has one source. Set `epoch` before each epoch.

    An epoch shuffles the images of each source, repeats them by the source's weight, cuts them into
    steps of `batch_size * world`, mixes the steps of the sources and gives each rank its share of
    each step. So W ranks of B images process the same steps as one rank of W * B. A step with
    fewer images than ranks is left out, because each rank needs an image.

    Args:
        images: Indices of the images of each source.
        batch_size: Images per rank and step.
        weights: Passes over each source per epoch; 0.5 takes the first half of a shuffled pass, 0
            no image.
        seed: Seed of the order.
        shuffle: False keeps the order of `images`.
        rank: Index of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        images: Sequence[Sequence[int]],
        batch_size: int,
        *,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images, self.batch_size, self.seed, self.shuffle = images, batch_size, seed, shuffle
        self.weights = weights or [1.0] * len(images)
        self.rank, self.world = rank, world
        self.epoch = 0
        self.skip = 0
        """Batches to leave out at the start of an epoch that is resumed."""

    def __len__(self) -> int:
        return sum(len(self._slice_steps(source)) for source in range(len(self.images)))

    def __iter__(self) -> Iterator[list[Key]]:
        steps = []
        for source in range(len(self.images)):
            order = self._order(source)
            steps += [order[step] for step in self._slice_steps(source)]
        if self.shuffle and len(self.images) > 1:
            random.Random(f"steps {self.seed} {self.epoch}").shuffle(steps)
        for step in steps[self.skip :]:
            yield step[self.rank :: self.world]

    def _count(self, source: int) -> int:
        images = len(self.images[source])
        least = min(1, images) if self.weights[source] else 0
        return max(least, round(self.weights[source] * images))

    def _slice_steps(self, source: int) -> list[slice]:
        """Return the slices of a source's order that its steps are."""
        count, step = self._count(source), self.batch_size * self.world
        starts = range(0, count, step)
        return [slice(at, min(at + step, count)) for at in starts if count - at >= self.world]

    def _order(self, source: int) -> list[Key]:
        """Return the keys of a source for one epoch; each pass has its own `Key.epoch`."""
        passes, keys = math.ceil(self.weights[source]), list[Key]()
        for epoch in range(self.epoch * passes, (self.epoch + 1) * passes):
            images = list(self.images[source])
            if self.shuffle:
                label = f"order {self.seed} {epoch}" + f" {source}" * bool(source)
                random.Random(label).shuffle(images)
            keys += [Key(epoch, index, source) for index in images]
        return keys[: self._count(source)]
