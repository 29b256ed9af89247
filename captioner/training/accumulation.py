"""The batches of an epoch, grouped by optimizer step so that weights of rows count across them.

The loss of a batch is divided by the sum of its weights, and the mean over the accumulated batches
is taken. A batch of rows of weight 0.1 would then count as much as one of rows of weight 1: with a
single row in each batch, weights would have no effect. Therefore the loss of a batch is multiplied
by the mean weight of its tokens, over the mean of these means. For batches with equally many
tokens, the gradient is that of a single batch with all rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from captioner.data.collate import Batch
from captioner.tokenizer import PAD
from captioner.training.distributed import any_rank
from captioner.training.run import Run
from captioner.training.stage_setup import Stage
from captioner.training.validation import report_unreadable


@dataclass(frozen=True)
class Microbatch:
    """A batch of one rank, several of which may make a step of the optimizer."""

    number: int
    """Position in the epoch."""
    batch: Batch
    counts: bool
    """False if this rank could read no image, so that the batch must not change the weights."""
    share: Tensor | None = None
    """Factor of its loss; None is 1."""


def usable_batches(run: Run, stage: Stage, batches: Iterable[Batch]) -> Iterator[Microbatch]:
    """Yield the batches of which some rank could read an image; all ranks must call this."""
    for i, batch in enumerate(batches, run.progress.batch):
        report_unreadable(batch.unreadable, run.train_set, run.report)
        is_readable = batch.is_readable
        if not any_rank(run.accelerator, is_readable):
            continue
        if not is_readable:  # the other ranks take a step, in which this one must take part
            batch = stage.collate([run.train_set.make_blank(batch.unreadable[0])])
        yield Microbatch(i, batch, is_readable)


def has_weights(rows: Any) -> bool:
    """Return whether any row of a table of examples has weights other than 1."""
    return any(rows["weights"])


def share_steps(
    batches: Iterable[Microbatch], accelerator: Accelerator, *, size: int, pad: int = PAD
) -> Iterator[Microbatch]:
    """Yield batches with their shares in the step of `size` batches; all ranks must call this.

    The batches of a step are read before the first one is yielded.
    """
    batches = iter(batches)
    while step := list(itertools.islice(batches, size)):
        sums = torch.stack([weight_sums(part, pad) for part in step])  # (batches, 2)
        shares = shares_of(accelerator.reduce(sums.to(accelerator.device)))
        yield from (replace(part, share=share) for part, share in zip(step, shares, strict=True))


def weight_sums(part: Microbatch, pad: int = PAD) -> Tensor:
    """Return the sum of the weights of the tokens of a batch, and the number of its tokens (2,)."""
    batch = part.batch
    sums = torch.stack([batch.count(pad), replace(batch, weights=None).count(pad)])
    return sums * part.counts


def shares_of(sums: Tensor) -> Tensor:
    """Return the factors of the losses of batches with these sums over all ranks (batches, 2)."""
    means = sums[:, 0] / sums[:, 1]
    return means / means.mean()
