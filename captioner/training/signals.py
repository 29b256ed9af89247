"""Reasons to stop a run: signals, and steps without a finite gradient."""

from __future__ import annotations

import math
import signal
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Any

from captioner.errors import CaptionerError

STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 0}
"""Exit status after each signal; schedulers send SIGUSR1 before they take the machine away."""


class Stopped(Exception):
    """The run stops at a signal; `saved` states what is saved and how to continue from it."""

    def __init__(
        self, name: str, saved: str = "the state is saved; --resume continues from it"
    ) -> None:
        super().__init__(f"{name}: {saved}")
        self.status = STATUS[name]


class Signals:
    """Record the first signal within the block in `name`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Only the main thread can handle signals. Windows has no SIGUSR1.
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in STATUS if hasattr(signal, name)):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.name:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


class Diverged(CaptionerError):
    """Too many steps in a row had no finite gradient."""


@dataclass
class BadSteps:
    """Counts steps without a finite gradient; raises Diverged at `limit` in a row."""

    limit: int
    row: int = 0

    def record(self, norm: float) -> bool:
        """Count a step by the norm of its gradient; return whether it must be skipped."""
        if math.isfinite(norm):
            self.row = 0
            return False
        self.row += 1
        if self.row == self.limit:
            raise Diverged(
                f"{self.row} steps in a row without a finite gradient; the last state was saved"
                " before them: continue from it with --resume --force and a lower"
                " train.stages.N.lr"
            )
        return True

    def check_end(self, steps: int) -> None:
        """Raise Diverged if a stage ends in skipped steps: most of the `steps` of an epoch."""
        if 2 * self.row > steps:
            raise Diverged(
                f"the last {self.row} of {steps} steps of the last epoch had no finite gradient:"
                " training diverged; lower train.stages.N.lr"
            )
