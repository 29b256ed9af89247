"""Prometheus metrics of a server, and a request log of one JSON object per line.

Neither contains images, questions or captions.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Telemetry:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "captioner_requests", "Requests answered", ["route", "status"], registry=registry
        )
        self._rejections = Counter(
            "captioner_rejections", "Requests rejected or aborted", ["reason"], registry=registry
        )
        self._latency = Histogram(
            "captioner_request_seconds",
            "Duration of a request",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stage = Histogram(
            "captioner_stage_seconds",
            "Duration of a stage: read (image decoding), wait (in the queue), model (of a batch)",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch = Histogram(
            "captioner_batch_size",
            "Requests in a batch",
            ["kind"],
            buckets=_SIZES,
            registry=registry,
        )
        self._depth = Gauge(
            "captioner_queue_depth", "Requests that wait for the model", registry=registry
        )

    @contextmanager
    def time_stage(self, name: str) -> Iterator[None]:
        """Measure the duration of a stage."""
        with self._stage.labels(name).time():
            yield

    def set_queue_depth(self, depth: int) -> None:
        """Set the number of requests in the queue."""
        self._depth.set(depth)

    def record_batch(self, kind: str, size: int, waits: Sequence[float]) -> None:
        """Record the start of a batch, and how many seconds each of its requests waited."""
        self._batch.labels(kind).observe(size)
        for wait in waits:
            self._stage.labels("wait").observe(wait)

    def count_rejection(self, reason: str) -> None:
        """Count a rejected request."""
        self._rejections.labels(reason).inc()

    def record_request(
        self, *, route: str, status: int, start: float, **fields: str | int | float
    ) -> None:
        """Record a finished request in the metrics and in the log.

        Args:
            route: Path pattern of the route.
            status: HTTP status.
            start: `time.perf_counter()` at the start of the request.
            **fields: Further fields of the log line.
        """
        seconds = time.perf_counter() - start
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        line = {"time": time.time(), "route": route, "status": status, "seconds": seconds} | fields
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}
        sys.stderr.write(json.dumps(rounded) + "\n")

    def metrics_text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self.registry)
