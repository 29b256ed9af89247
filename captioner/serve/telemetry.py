"""Prometheus metrics of a server, and a request log of one JSON object per line.

Neither contains images, questions or captions.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Telemetry:
    """The metrics of one server, in their own registry; their names begin with `captioner_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, namespace="captioner", registry=self.registry)
        histogram = partial(Histogram, namespace="captioner", registry=self.registry)
        gauge = partial(Gauge, namespace="captioner", registry=self.registry)
        self._requests = counter("requests", "Requests answered", ["route", "status"])
        self.rejections = counter("rejections", "Requests rejected or aborted", ["reason"])
        text = "Duration of a request"
        self._latency = histogram("request_seconds", text, ["route"], buckets=_SECONDS)
        text = "Duration of a stage: read (image decoding), wait (in the queue), model (of a batch)"
        self.stages = histogram("stage_seconds", text, ["stage"], buckets=_SECONDS)
        self._batch = histogram("batch_size", "Requests in a batch", ["kind"], buckets=_SIZES)
        self.queue_depth = gauge("queue_depth", "Requests that wait for the model")

    def record_batch(self, kind: str, size: int, waits: Sequence[float]) -> None:
        """Record the start of a batch, and how many seconds each of its requests waited."""
        self._batch.labels(kind).observe(size)
        for wait in waits:
            self.stages.labels("wait").observe(wait)

    def record_request(
        self, *, route: str, status: int, start: float, **fields: str | int | float
    ) -> None:
        """Record a request in the metrics and, with `fields`, in the log.

        `start` is the `time.perf_counter()` of its start.
        """
        seconds = time.perf_counter() - start
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        line = {"time": time.time(), "route": route, "status": status, "seconds": seconds} | fields
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}
        sys.stderr.write(json.dumps(rounded) + "\n")
