"""Run `train.py` in forks of a process that has imported everything; kill it on request.

A cold start spends seconds on imports; a fork starts at once. The server reads one job per line
from stdin and answers with the exit statuses of the job's processes.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("accelerate", "datasets", "timm", "torch._dynamo", "torch.utils.tensorboard")


class Moment(NamedTuple):
    """A function call at which a process kills itself with SIGKILL.

    `function` is `module:name`. Calls are counted from 1; with `within`, only those made during
    calls of that function. `when` is "before" or "after" the call, or "half": after it, with the
    file that the call has written (its second argument) truncated to its first half.
    """

    function: str
    call: int = 1
    when: str = "before"
    within: str = ""

    def __str__(self) -> str:
        return f"{self.when} call {self.call} of {self.function} {self.within}".strip()


class ForkServer:
    """The process of the server, as a context manager."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> ForkServer:
        # The stderr of all jobs goes to one file; a pipe that is not read would block them.
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.stdin.close()

    def train(
        self, words: Sequence[str], *, moment: Moment | None = None, ranks: int = 1
    ) -> tuple[list[int], str]:
        """Run `train.py` with these arguments in one process, or in several that train one model.

        Returns:
            The exit status of each process, negative for a signal, and the output on stderr.
        """
        before = self._log.stat().st_size
        job = {"words": list(words), "moment": moment, "ranks": ranks}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        with self._log.open("rb") as log:
            log.seek(before)
            error = log.read().decode("utf-8", "replace")
        assert answer, f"the server has ended: {error}"
        return json.loads(answer), error


def kill_at(moment: Moment) -> None:
    """Make this process kill itself at a moment."""
    calls, inside = 0, not moment.within

    def counted(original: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += inside
        due = inside and calls == moment.call
        if due and moment.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if due and moment.when == "half":
            os.truncate(args[1], os.path.getsize(args[1]) // 2)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def surrounding(original: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        inside = True
        try:
            return original(*args, **kwargs)
        finally:
            inside = False

    _wrap(moment.function, counted)
    if moment.within:
        _wrap(moment.within, surrounding)


def _wrap(function: str, wrapper: Any) -> None:
    owner, _, name = function.replace(":", ".").rpartition(".")
    owner = pkgutil.resolve_name(owner)
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, wrapped)


def _start(job: dict[str, Any], rank: int, port: int) -> int:
    """Fork a child for the job; return its process id."""
    if child := os.fork():
        return child
    status = 70
    try:
        from captioner.cli import train

        os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # stdout carries the answers
        if job["ranks"] > 1:  # as torchrun does
            size = str(job["ranks"])
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), GROUP_RANK="0")
            os.environ.update(WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
            os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
        if job["moment"]:
            kill_at(Moment(*job["moment"]))
        status = train.main(job["words"])
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = 130
    finally:
        sys.stderr.flush()
        os._exit(status)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _serve() -> None:
    import captioner.training

    importlib.import_module("captioner.cli.train")
    names = [
        f"captioner.training.{m.name}" for m in pkgutil.iter_modules(captioner.training.__path__)
    ]
    for name in (*LIBRARIES, *names):
        importlib.import_module(name)
    for line in sys.stdin:
        job, port = json.loads(line), _free_port()
        children = [_start(job, rank, port) for rank in range(job["ranks"])]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    _serve()
