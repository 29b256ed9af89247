"""Which images make which batch: a function of (seed, epoch), the same whatever runs it.

Accelerate's own loader sharding is not used: with it the order depends on the ranks and is not
reproduced after a restart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from captioner.data.dataset import Key


class EpochBatches:
    """Batches of keys for one rank, each batch of one source; set `epoch` before each pass.

    `skip` batches are left out at the front of a pass: those that a resumed epoch has had.

    `images[s]` are the images of source s. An epoch shuffles them, as often as the source's
    weight says (of a half pass, the half that comes first; of none, no image), cuts them into
    steps of `batch_size * world`, mixes the sources' steps and gives every rank its share of
    each step, so that W ranks of B images see what one rank of W * B sees. A source's last step
    is left out where it has fewer images than ranks, since each rank needs one.
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
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        return sum(len(self._cuts(source)) for source in range(len(self.images)))

    def __iter__(self) -> Iterator[list[Key]]:
        steps = []
        for source in range(len(self.images)):
            order = self._order(source)
            steps += [order[cut] for cut in self._cuts(source)]
        if self.shuffle and len(self.images) > 1:
            random.Random(f"steps {self.seed} {self.epoch}").shuffle(steps)
        for step in steps[self.skip :]:
            yield step[self.rank :: self.world]

    def _length(self, source: int) -> int:
        images = len(self.images[source])
        least = min(1, images) if self.weights[source] else 0
        return max(least, round(self.weights[source] * images))

    def _cuts(self, source: int) -> list[slice]:
        """The places of a source's steps in its order."""
        length, step = self._length(source), self.batch_size * self.world
        starts = range(0, length, step)
        return [slice(at, min(at + step, length)) for at in starts if length - at >= self.world]

    def _order(self, source: int) -> list[Key]:
        """What an epoch shows of a source; another pass is another epoch to the data set."""
        passes, found = math.ceil(self.weights[source]), []
        for epoch in range(self.epoch * passes, (self.epoch + 1) * passes):
            images = list(self.images[source])
            if self.shuffle:
                label = f"order {self.seed} {epoch}" + f" {source}" * bool(source)
                random.Random(label).shuffle(images)
            found += [Key(epoch, index, source) for index in images]
        return found[: self._length(source)]
