"""The process of a command: exit status, signals and memory."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from captioner.errors import CaptionerError

MALLOPT = {
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_TOP_PAD_": (-2, 64 << 20),
    "MALLOC_MMAP_MAX_": (-4, 0),
}
"""glibc's settings by their variables, each with mallopt's number of it, and the value."""


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, prog: str) -> int:
    """`run(args)`, with a user's error on one line of stderr; returns the exit status."""
    keep_freed_memory()
    # What is wrong with an image is told in a line of its own.
    warnings.filterwarnings("ignore", module="PIL")
    # A file name in another encoding must not stop the run that prints it.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = run(args)
        sys.stdout.flush()  # a closed pipe is met here at the latest, not at exit
        return status
    except CaptionerError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone; what is left in the buffer must not be complained about at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def keep_freed_memory() -> None:
    """What is freed stays with the process, and with those that it starts, in huge pages.

    A forward pass takes and frees the same large blocks again and again, and glibc gives each back
    to the system, which hands it out anew, page by page and zeroed (mallopt(3), M_MMAP_THRESHOLD).
    Whoever has set one of the variables is left alone; without glibc, nothing happens. To be
    called before torch is imported.
    """
    if sys.platform != "linux" or {*MALLOPT, "GLIBC_TUNABLES", "LD_PRELOAD"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's
    for variable, (number, value) in MALLOPT.items():
        mallopt(number, value)
        os.environ[variable] = str(value)


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM ends the program in good order: what is open is closed; status 143."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # where no signal is met
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
