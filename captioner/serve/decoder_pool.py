"""Image files to pixels, in processes that a hostile file may take down without harm.

Raises ImageError for whatever cannot be read, a file that ends its worker included.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from captioner import errors
from captioner.errors import ImageError
from captioner.serve.decoder_worker import LENGTH, Limits

_ROOT = str(Path(__file__).parents[2])
_KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ImageError)
}


@dataclass(eq=False)
class Picture:
    """An image that has been read: small, of the model's size, and what the model made of it."""

    image: Image.Image
    size: tuple[int, int]
    """Width and height of what it shows, before it was brought to the model's size."""
    low_confidence: bool = False
    """As `captioner.images.is_blank` found."""
    encoded: Any = None
    """As `Captioner.encode_batch` gives it, once it has been asked for."""


class Reader:
    """So many workers, each with one image at a time; what fails is replaced."""

    def __init__(self, limits: Limits, *, workers: int, seconds: float) -> None:
        self.limits, self.seconds = limits, seconds
        self._idle: asyncio.LifoQueue[Process | None] = asyncio.LifoQueue()
        for _ in range(workers):
            self._idle.put_nowait(None)  # started when there is work for it
        self._running: set[Process] = set()

    async def read(self, data: bytes) -> Picture:
        """An RGB image of the size of the limits; raises ImageError.

        A worker that takes longer than `seconds`, or dies, is the image's fault. A caller that
        goes away costs the worker, since half an answer would be left in its pipe.
        """
        worker = await self._idle.get()
        try:
            if worker is None or worker.returncode is not None:
                worker = await self._start()
            return await asyncio.wait_for(_ask(worker, data), self.seconds)
        except ImageError:
            raise
        except asyncio.TimeoutError:
            worker = self._kill(worker)
            raise ImageError(
                f"<bytes>: took more than {self.seconds:g} s to decode; use another copy"
            ) from None
        except (OSError, asyncio.IncompleteReadError):
            worker = self._kill(worker)
            raise ImageError(
                "<bytes>: cannot be decoded within the limits of memory and time"
            ) from None
        except BaseException:
            worker = self._kill(worker)
            raise
        finally:
            self._idle.put_nowait(worker)

    async def start(self) -> None:
        """Have a worker ready before the first image comes."""
        self._idle.put_nowait(await self._start(await self._idle.get()))

    async def close(self) -> None:
        """End all workers."""
        running = list(self._running)
        for worker in running:
            self._kill(worker)
        await asyncio.gather(*(worker.wait() for worker in running))

    async def _start(self, worker: Process | None = None) -> Process:
        if worker is not None and worker.returncode is None:
            return worker
        self._running = {w for w in self._running if w.returncode is None}
        words = [sys.executable, "-m", "captioner.serve.decoder_worker", self.limits.dump()]
        path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        options = {"stdin": PIPE, "stdout": PIPE, "stderr": DEVNULL}
        options["env"] = os.environ | {"PYTHONPATH": path}
        worker = await asyncio.create_subprocess_exec(*words, **options)
        self._running.add(worker)
        return worker

    def _kill(self, worker: Process | None) -> None:
        if worker is not None and worker.returncode is None:
            # Not `worker.kill()`, which may take the exit status from asyncio, that waits for it.
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)


async def _ask(worker: Process, data: bytes) -> Picture:
    worker.stdin.write(LENGTH.pack(len(data)))
    worker.stdin.write(data)
    await worker.stdin.drain()
    head = json.loads(await _frame(worker))
    if "error" in head:
        raise _KINDS[head["kind"]](head["error"])
    image = Image.frombytes("RGB", tuple(head["size"]), await _frame(worker))
    return Picture(image, tuple(head["of"]), head["low_confidence"])


async def _frame(worker: Process) -> bytes:
    (length,) = LENGTH.unpack(await worker.stdout.readexactly(LENGTH.size))
    return await worker.stdout.readexactly(length)
