"""Requests that wait for the model: in which company they run, and for how long they may wait.

The model runs in several lanes, a batch in each. Requests that ask alike share a batch; while all
lanes are at work, the next batches gather. A request that is cancelled before its turn costs
nothing.
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

Run = Callable[[Any, list[Any]], Sequence[Any]]
"""A lane's captioner and payloads to results, or to errors in their places."""


@dataclass(eq=False)
class _Job:
    key: Hashable
    """Jobs of one key may share a batch."""
    run: Run
    payload: Any
    kind: str
    future: asyncio.Future = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    since: float = field(default_factory=time.monotonic)


class Batches:
    """The requests that wait; its methods belong to one event loop.

    `requests` tells how many there are in the server, those included that are not here yet.
    """

    def __init__(
        self, settings: Settings, telemetry: Telemetry, *, requests: Callable[[], int]
    ) -> None:
        self.settings, self.telemetry, self._requests = settings, telemetry, requests
        self.jobs: deque[_Job] = deque()
        self._more = asyncio.Event()
        self._gathering, self._running = asyncio.Lock(), 0

    async def submit(
        self, kind: str, run: Run, payload: Any, options: Mapping[str, Any] | None
    ) -> Any:
        """What `run` makes of the payload, alone or among others that have equal options.

        Without options it shares no batch. Raises what stands in the result's place.
        """
        key = object() if options is None else (kind, repr(sorted(options.items())))
        job = _Job(key, run, payload, kind)
        self.jobs.append(job)
        self._more.set()
        self.telemetry.queue_depth(len(self.jobs))
        return await job.future

    async def serve(self, threads: Executor, captioner: Any) -> None:
        """Run batch after batch in a thread, a lane; several may serve side by side."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gather()
            if batch:
                self._running += len(batch)
                await loop.run_in_executor(threads, self._run, captioner, batch, loop)
                self._running -= len(batch)
                self._more.set()

    async def _gather(self) -> list[_Job]:
        """The oldest job and those that may share its batch; waits for more where there are few."""
        async with self._gathering:
            while not self.jobs:
                self._more.clear()
                await self._more.wait()
            oldest = self.jobs[0]
            while not self._full(oldest):
                left = oldest.since + self._patience(oldest) - time.monotonic()
                if left <= 0:
                    break
                self._more.clear()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._more.wait(), left)
            return self._take()

    def _patience(self, oldest: _Job) -> float:
        """How long the oldest job may have waited before it runs in the company that it has."""
        if self._running and self._company(oldest) == 1:
            # Two of one batch cost little more than one, and the other lane may be done before.
            return self.settings.max_alone
        return self.settings.max_wait if self._coming() else 0.0

    def _coming(self) -> int:
        """How many requests are neither waiting for the model nor in it."""
        return self._requests() - len(self.jobs) - self._running

    def _take(self) -> list[_Job]:
        """The oldest job and those of its key, as many as a batch holds."""
        batch: list[_Job] = []
        kept: deque[_Job] = deque()
        for job in self.jobs:
            if job.future.done():  # its caller has gone
                continue
            fits = job.key == (batch[0].key if batch else job.key)
            (batch if fits and len(batch) < self.settings.max_batch else kept).append(job)
        self.jobs = kept
        self.telemetry.queue_depth(len(kept))
        return batch

    def _full(self, oldest: _Job) -> bool:
        # Only a key of texts is ever shared.
        if not isinstance(oldest.key, tuple):
            return True
        return self._company(oldest) >= self.settings.max_batch

    def _company(self, oldest: _Job) -> int:
        return sum(job.key == oldest.key for job in self.jobs)

    def _run(self, captioner: Any, batch: list[_Job], loop: asyncio.AbstractEventLoop) -> None:
        """In the lane's thread: every job gets its result or its error."""
        now = time.monotonic()
        self.telemetry.batch(batch[0].kind, len(batch), [now - job.since for job in batch])
        try:
            with self.telemetry.stage("model"):
                results = batch[0].run(captioner, [job.payload for job in batch])
        except Exception as error:
            results = [error] * len(batch)
        loop.call_soon_threadsafe(_settle, batch, list(results))


def _settle(batch: list[_Job], results: list[Any]) -> None:
    for job, result in zip(batch, results, strict=True):
        if job.future.done():
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
