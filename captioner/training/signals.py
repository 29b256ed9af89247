"""When a run stops: by a signal at the next step's end, or by steps that lead nowhere."""

from __future__ import annotations

import math
import signal
import threading
from types import FrameType

from captioner.errors import CaptionerError

STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 0}
"""Exit status after each signal; SIGUSR1 is what schedulers send before they take the machine."""


class Stopped(Exception):
    """A signal came and what there was is saved; `status` is the exit status."""

    def __init__(
        self, name: str, saved: str = "the state is saved; --resume goes on from it"
    ) -> None:
        super().__init__(f"{name}: {saved}")
        self.status = STATUS[name]


class Signals:
    """Within the block, a first signal is noted in `name`; a second interrupts at once."""

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        # Only the main thread may take signals, and Windows has no SIGUSR1.
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
    """Step after step without a finite gradient."""


class BadSteps:
    """Counts steps whose gradient is not finite; raises Diverged at so many in a row."""

    def __init__(self, limit: int) -> None:
        self.limit, self.row = limit, 0

    def is_bad(self, norm: float) -> bool:
        """Whether a step with this norm of the gradient is to be left out."""
        if math.isfinite(norm):
            self.row = 0
            return False
        self.row += 1
        if self.row == self.limit:
            raise Diverged(
                f"{self.row} steps in a row without a finite gradient; the last state is from"
                " before them: --resume --force with a lower train.stages.N.lr goes on from there"
            )
        return True
