"""Prometheus metrics of a run; without names of images or texts."""

from __future__ import annotations

from functools import partial

from captioner.errors import CaptionerError
from captioner.extras import explain_missing
from captioner.scale.shard_worker import Record

_SECONDS = (1, 3, 10, 30, 100, 300, 1000, 3000)


class RunMetrics:
    """The metrics of one run, at a port of this machine; their names begin with `captioner_scale`.

    Args:
        port: The port; 0 is any free one.
        host: Address of an interface to listen on; 0.0.0.0 is all of IPv4.

    Raises:
        CaptionerError: The port is in use, or the address is not one of this machine.
        DependencyError: prometheus-client is not installed.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        with explain_missing("--metrics-port"):
            from prometheus_client import (
                CollectorRegistry,
                Counter,
                Gauge,
                Histogram,
                start_http_server,
            )
        registry = CollectorRegistry()
        counter = partial(Counter, namespace="captioner", subsystem="scale", registry=registry)
        gauge = partial(Gauge, namespace="captioner", subsystem="scale", registry=registry)
        histogram = partial(Histogram, namespace="captioner", subsystem="scale", registry=registry)
        self._images = counter("images", "Images that have a row")
        self._errors = counter("errors", "Rows with an error")
        self._parts = counter("parts", "Output parts")
        self._failed = counter("failed_shards", "Shards that have failed")
        self._seconds = histogram("shard_seconds", "Time of a shard", buckets=_SECONDS)
        self._queue = gauge("queue", "Shards that are not done")
        try:
            self._server, _ = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            place = f"--metrics-port {port} at {host}"
            raise CaptionerError(f"{place}: {error.strerror}; use another") from None
        self.port: int = self._server.server_port

    def record(self, record: Record, left: int) -> None:
        """Count one shard; `left` is the number of those that are not done."""
        self._queue.set(left)
        self._seconds.observe(record.seconds)
        if record.part is None:
            self._failed.inc()
            return
        self._parts.inc()
        self._images.inc(record.rows)
        self._errors.inc(record.errors)

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
