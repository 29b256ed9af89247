"""The process of a command: messages, exit status, signals and memory."""

from __future__ import annotations

import ctypes
import importlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from captioner.errors import CaptionerError
from captioner.extras import explain_missing

Options = TypeVar("Options")

_logger = logging.getLogger("captioner.cli")
_logger.propagate = False
_details = logging.getLogger("captioner.predict")
_progress = logging.getLogger("captioner.export")
for _other in (_details, _progress):
    _other.propagate = False

MALLOPT = {
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_TOP_PAD_": (-2, 64 << 20),
    "MALLOC_MMAP_MAX_": (-4, 0),
}
"""Environment variables of glibc's allocator: mallopt's number and the value of each."""


class _StderrHandler(logging.Handler):
    """Print records to the current `sys.stderr`, which tests replace."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print(self.format(record), file=sys.stderr)


def notify(message: object) -> None:
    """Print a message for the user to stderr, as `PROG: message`."""
    _logger.warning("%s", message)


def show_messages(prog: str) -> None:
    """Print warnings and the messages of `notify` to stderr, after the name of the program."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter(f"{prog}: %(message)s"))
    for logger in (_logger, _details, _progress):
        logger.handlers = [handler]
    _details.setLevel(logging.WARNING)
    _progress.setLevel(logging.INFO)


def show_details() -> None:
    """Also print which backend and device are used, and why."""
    _details.setLevel(logging.INFO)


def run_command(
    parse: Callable[..., Options], run: Callable[[Options], int], argv: list[str] | None, prog: str
) -> int:
    """Parse the arguments (None for those of the process) and run a command.

    An error that the user can correct is one line on stderr.

    Returns:
        The exit status: that of `run`; 1 after an error or a closed pipe; 130 after Ctrl-C.
    """
    show_messages(prog)
    options = parse(argv, prog=prog)
    keep_freed_memory()
    import_numpy()
    # The ImageError of an image already describes the problem.
    warnings.filterwarnings("ignore", module="PIL")
    # A file name in another encoding must not stop the run that prints it.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with explain_missing("this command"):
            status = run(options)
        sys.stdout.flush()  # Raises BrokenPipeError here, and not at exit.
        return status
    except CaptionerError as error:
        notify(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Without this, Python would complain at exit that the buffer cannot be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def keep_freed_memory() -> None:
    """Keep freed memory in this process, and in those that it starts, in huge pages.

    A forward pass allocates and frees the same large blocks repeatedly. By default glibc returns
    each to the system, which then maps it again page by page, filled with zeros (mallopt(3),
    M_MMAP_THRESHOLD). Variables that the user has set are kept; without glibc, nothing changes.
    Must be called before torch is imported.
    """
    if sys.platform != "linux" or {*MALLOPT, "GLIBC_TUNABLES", "LD_PRELOAD"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # Read by torch.
    for variable, (number, value) in MALLOPT.items():
        mallopt(number, value)
        os.environ[variable] = str(value)


def import_numpy() -> None:
    """Import NumPy with one thread for linear algebra, which is used for small arrays only.

    Its other threads would spin while the program starts. The environment is not changed, because
    torch may use the same library.
    """
    if "numpy" in sys.modules or "OPENBLAS_NUM_THREADS" in os.environ:
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    importlib.import_module("numpy")
    del os.environ["OPENBLAS_NUM_THREADS"]


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM raises SystemExit with status 143, so that files are closed."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Only it receives signals.
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
