"""Estimate the duration and the cost of a run from a sample of its images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from captioner.errors import DataError
from captioner.scale.driver import RunOptions, find_inputs
from captioner.scale.shard_rows import Columns, ShardError, ShardRow, iterate_rows
from captioner.scale.shard_worker import Job, describe_rows, load_model
from captioner.scale.work_units import WorkUnit

SAMPLE = 64
"""Images that are captioned for an estimate."""
COUNTED = 3
"""Shards whose rows are counted; the number in the others is taken to be the same per byte."""


@dataclass(frozen=True)
class Estimate:
    """The expected size and duration of a run."""

    shards: int
    images: int
    is_exact: bool
    """Whether the number of images is known."""
    workers: int
    sample: int
    """Images that were processed."""
    errors: int
    """Those of the sample with an error."""
    rate: float
    """Images per second of one worker like this machine."""
    shards_read: int = 0
    """Shards that were read for the sample or to count their images."""
    unreadable: int = 0
    """Those of them that cannot be read; they have no images here."""

    @property
    def hours(self) -> float:
        """Expected hours with all workers."""
        return self.images / self.rate / self.workers / 3600

    def lines(self, price: float | None) -> Iterator[str]:
        """Yield the estimate as lines of name, tab and value.

        `price` is that of one worker for an hour.
        """
        about = "" if self.is_exact else "about "
        yield f"shards\t{self.shards}"
        yield f"images\t{about}{self.images}"
        yield f"workers\t{self.workers}"
        yield f"unreadable shards\t{self.unreadable} of {self.shards_read} that were read"
        yield f"sample\t{self.sample} images, {self.errors} errors"
        yield f"images per second and worker\t{self.rate:.2f}"
        yield f"hours\t{self.hours:.2f}"
        if price is not None:
            yield f"cost\t{self.hours * self.workers * price:.2f}"


def estimate_run(job: Job, options: RunOptions, *, sample: int = SAMPLE) -> Estimate:
    """Process a sample of images on this machine and return an estimate; nothing is written.

    The first images of up to `sample` shards, spread over the input, are taken.

    Raises:
        CaptionerError: The inputs or the model cannot be read, or no image can be used.
    """
    units = list(find_inputs(job, options))
    problems: dict[str, str] = {}
    images, is_exact, counted = _count_images(units, job.columns, problems)
    chosen = _spread(units, sample)
    each = -(-sample // len(chosen))
    read = (islice(_read(unit, job.columns, problems), each) for unit in chosen)
    rows = list(islice(chain.from_iterable(read), sample))
    if not rows:
        reason = next(iter(problems.values()), "the shards are empty")
        raise DataError(f"{options.source}: no shard of the sample has rows: {reason}")
    captioner = load_model(replace(job, threads=options.threads or job.threads))
    list(describe_rows(job, captioner, rows[: job.batch_size]))  # the first batch is slower
    start = time.perf_counter()
    errors = sum(bool(row.get("error")) for row, _ in describe_rows(job, captioner, rows))
    seconds = time.perf_counter() - start
    return Estimate(
        shards=len(units),
        images=images,
        is_exact=is_exact,
        workers=options.workers or 1,
        sample=len(rows),
        errors=errors,
        shards_read=len({unit.label for unit in (*chosen, *counted)}),
        unreadable=len(problems),
        rate=len(rows) / seconds,
    )


def _spread(units: Sequence[WorkUnit], count: int) -> list[WorkUnit]:
    """Return up to `count` shards at equal distances."""
    step = max(1, len(units) // count)
    return list(units[::step][:count])


def _read(unit: WorkUnit, columns: Columns, problems: dict[str, str]) -> Iterator[ShardRow]:
    """Yield the rows of a shard as far as it can be read; add its problem to those by shard."""
    try:
        yield from iterate_rows(unit, columns)
    except ShardError as error:
        problems[unit.label] = str(error)


def _count_images(
    units: Sequence[WorkUnit], columns: Columns, problems: dict[str, str]
) -> tuple[int, bool, Sequence[WorkUnit]]:
    """Return the number of images in all shards, whether it is exact, and the shards counted."""
    if units[0].kind == "images":
        return sum(len(unit.members) for unit in units), True, ()
    counted = _spread(units, COUNTED)
    rows = {unit.label: sum(1 for _ in _read(unit, columns, problems)) for unit in counted}
    sizes = {unit.label: int(unit.stamp.split()[0]) for unit in units}
    for label in problems:  # a shard that cannot be read gets no part
        rows[label] = sizes[label] = 0
    per_byte = sum(rows.values()) / max(1, sum(sizes[unit.label] for unit in counted))
    return round(per_byte * sum(sizes.values())), len(counted) == len(units), counted
