"""What a server tells of itself: Prometheus metrics, and a line of JSON for each request.

Neither holds images, questions or captions.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Telemetry:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        options = {"registry": registry}
        self._requests = Counter(
            "captioner_requests", "Requests answered", ["route", "status"], **options
        )
        self._rejections = Counter(
            "captioner_rejections", "Requests refused or given up", ["reason"], **options
        )
        self._latency = Histogram(
            "captioner_request_seconds", "Of a request", ["route"], buckets=_SECONDS, **options
        )
        self._stage = Histogram(
            "captioner_stage_seconds",
            "Of a request's stages: read (decode), wait (for the model), model (of a batch)",
            ["stage"],
            buckets=_SECONDS,
            **options,
        )
        self._batch = Histogram(
            "captioner_batch_size", "Requests in a batch", ["kind"], buckets=_SIZES, **options
        )
        self._depth = Gauge("captioner_queue_depth", "Requests that wait for the model", **options)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what is within."""
        with self._stage.labels(name).time():
            yield

    def queue_depth(self, depth: int) -> None:
        """How many requests wait."""
        self._depth.set(depth)

    def batch(self, kind: str, size: int, waits: Sequence[float]) -> None:
        """A batch begins, of requests that have waited so long."""
        self._batch.labels(kind).observe(size)
        for wait in waits:
            self._stage.labels("wait").observe(wait)

    def reject(self, reason: str) -> None:
        """A request is refused."""
        self._rejections.labels(reason).inc()

    def request(self, *, route: str, status: int, since: float, **facts: Any) -> None:
        """A request has been answered; `since` is of `time.perf_counter`."""
        seconds = time.perf_counter() - since
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        line = {"time": time.time(), "route": route, "status": status, "seconds": seconds} | facts
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}
        sys.stderr.write(json.dumps(rounded) + "\n")

    def text(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry)
