"""Dynamic batching: a queue of requests, and the rules by which they share a batch.

Each worker runs one batch at a time. While all workers are busy, queued requests are collected into
the next batches. A request that is cancelled before its batch starts is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from captioner.serve.settings import Settings
from captioner.serve.telemetry import Telemetry

RunBatch = Callable[[Any, list[Any]], Sequence[Any]]
"""Maps a worker's captioner and the payloads of a batch to one result or error per payload."""


@dataclass(eq=False)
class _Job:
    key: Hashable
    """The batch key: jobs with equal keys may share a batch."""
    run: RunBatch
    payload: Any
    kind: str
    future: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    queued_at: float = field(default_factory=time.monotonic)


class BatchScheduler:
    """Queue of requests that forms batches; all methods belong to one event loop.

    `count_requests` returns the number of requests in the server, including those that are still
    being received or decoded.
    """

    def __init__(
        self, settings: Settings, telemetry: Telemetry, count_requests: Callable[[], int]
    ) -> None:
        self.settings, self.telemetry, self._count_requests = settings, telemetry, count_requests
        self.jobs: deque[_Job] = deque()
        self._changed = asyncio.Event()
        self._forming, self._running = asyncio.Lock(), 0

    async def submit(
        self, kind: str, run: RunBatch, payload: Any, options: Mapping[str, Any] | None
    ) -> Any:
        """Queue a request and return its result.

        `run` computes a whole batch from its payloads. Requests of one kind with equal options
        share batches; with None, the request runs alone.

        Raises:
            Exception: The error that `run` returns for this request, or raises for the batch.
        """
        key = object() if options is None else (kind, repr(sorted(options.items())))
        job = _Job(key, run, payload, kind)
        self.jobs.append(job)
        self._changed.set()
        self.telemetry.queue_depth.set(len(self.jobs))
        return await job.future

    async def run_worker(self, threads: Executor, captioner: Any) -> None:
        """Run batches on one captioner, in a thread, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._form_batch()
            if batch:
                self._running += len(batch)
                await loop.run_in_executor(threads, self._run, captioner, batch, loop)
                self._running -= len(batch)
                self._changed.set()

    async def _form_batch(self) -> list[_Job]:
        """Wait for a job, then until its batch is full or its waiting time is over."""
        async with self._forming:
            while not self.jobs:
                self._changed.clear()
                await self._changed.wait()
            oldest = self.jobs[0]
            while not self._is_full(oldest):
                remaining = oldest.queued_at + self._max_wait(oldest) - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.clear()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), remaining)
            return self._pop_batch()

    def _max_wait(self, oldest: _Job) -> float:
        """Return how long the oldest job waits for others, in seconds."""
        if self._running and self._batch_size(oldest) == 1:
            # A batch of two costs little more than one, and the busy worker may finish first.
            return self.settings.max_single_wait
        incoming = self._count_requests() - len(self.jobs) - self._running
        return self.settings.max_wait if incoming else 0.0

    def _pop_batch(self) -> list[_Job]:
        """Remove the oldest job and those with its key from the queue, up to `max_batch`."""
        batch: list[_Job] = []
        kept: deque[_Job] = deque()
        for job in self.jobs:
            if job.future.done():  # cancelled
                continue
            fits = job.key == (batch[0].key if batch else job.key)
            (batch if fits and len(batch) < self.settings.max_batch else kept).append(job)
        self.jobs = kept
        self.telemetry.queue_depth.set(len(kept))
        return batch

    def _is_full(self, oldest: _Job) -> bool:
        alone = not isinstance(oldest.key, tuple)
        return alone or self._batch_size(oldest) >= self.settings.max_batch

    def _batch_size(self, oldest: _Job) -> int:
        return sum(job.key == oldest.key for job in self.jobs)

    def _run(self, captioner: Any, batch: list[_Job], loop: asyncio.AbstractEventLoop) -> None:
        """Run a batch in the worker's thread and hand each job its result or error."""
        waits = [time.monotonic() - job.queued_at for job in batch]
        self.telemetry.record_batch(batch[0].kind, len(batch), waits)
        results: Sequence[Any]
        try:
            with self.telemetry.stages.labels("model").time():
                results = batch[0].run(captioner, [job.payload for job in batch])
        except Exception as error:
            results = [error] * len(batch)
        loop.call_soon_threadsafe(_set_results, batch, list(results))


def _set_results(batch: list[_Job], results: list[Any]) -> None:
    for job, result in zip(batch, results, strict=True):
        if job.future.done():
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
