"""Progress of a run: a bar on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from captioner.scale.shard_worker import Record

LINE_SECONDS = 30.0
"""The shortest time between two lines."""


class RunProgress:
    """Shows the shards that are done, images per second and the remaining time."""

    def __init__(self, total: int, done: int, notify: Callable[[object], None]) -> None:
        self._total, self._done, self._first = total, done, done
        self._images = self._errors = 0
        self._notify = notify
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="shard", file=sys.stderr)

    def add(self, record: Record) -> None:
        """Show that a shard is done."""
        self._done += 1
        self._images += record.rows
        self._errors += record.errors
        now = time.monotonic()
        rate = self._images / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{rate:.1f} images/s, {self._errors} errors", refresh=False)
            self._bar.update()
        elif now - self._last >= LINE_SECONDS:
            self._last = now
            self._notify(self.describe(now - self._start))

    def describe(self, seconds: float) -> str:
        """Return the state after some seconds as one line."""
        left = seconds / max(self._done - self._first, 1) * (self._total - self._done)
        rate = self._images / max(seconds, 1e-9)
        return (
            f"{self._done} of {self._total} shards, {self._images} images, {rate:.1f} images/s,"
            f" {self._errors} errors, about {left / 60:.0f} min left"
        )

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
