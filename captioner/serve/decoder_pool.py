"""Pool of worker processes that decode files, so that a malicious one cannot harm the server.

A file that cannot be decoded, or that crashes its worker, raises ImageError or AudioError.
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
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from captioner import errors
from captioner.audio import is_audio
from captioner.audio.signatures import NEEDED_BYTES
from captioner.errors import AudioError, CaptionerError, ImageError, InputError
from captioner.serve.decoder_worker import LENGTH, DecoderLimits

if TYPE_CHECKING:
    from captioner.predict.results import Encoded

_ROOT = str(Path(__file__).parents[2])
_ERROR_TYPES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, CaptionerError)
}


@dataclass(eq=False)
class DecodedInput:
    """An image, a recording or both for the model, and the encoder output once it is computed."""

    image: Image.Image | None = None
    """The image in the model's input size."""
    audio: tuple[np.ndarray, int] | None = None
    """The samples (N,) and their rate."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the image area that the model sees, before resizing."""
    low_confidence: bool = False
    """The result of `captioner.images.is_blank` or `captioner.audio.is_silent_or_noise`."""
    encoded: Encoded | None = None
    """The result of `Captioner.encode_batch`; None until it is needed."""

    @property
    def nbytes(self) -> int:
        """The size of the pixels and samples."""
        pixels = self.image.width * self.image.height * 3 if self.image else 0
        return pixels + (self.audio[0].nbytes if self.audio else 0)

    @property
    def source(self) -> Any:
        """The input for the methods of `Captioner`."""
        if self.image is not None and self.audio is not None:
            from captioner.predict import Inputs

            return Inputs(image=self.image, audio=self.audio)
        return self.audio if self.image is None else self.image


def join_inputs(first: DecodedInput, second: DecodedInput) -> DecodedInput:
    """Return an image and a recording as one input; raise InputError for other parts."""
    if second.image is not None:
        first, second = second, first
    if first.image is None or second.audio is None:
        raise InputError("<bytes>: two files of the same kind; send one image and one recording")
    is_low = first.low_confidence and second.low_confidence
    return DecodedInput(first.image, second.audio, first.size, is_low)


class DecoderPool:
    """A fixed number of decoder processes; one that fails is replaced.

    Each decodes one file at a time, in at most `seconds`.
    """

    def __init__(self, limits: DecoderLimits, *, workers: int, seconds: float) -> None:
        self.limits, self.seconds = limits, seconds
        self._idle: asyncio.LifoQueue[Process | None] = asyncio.LifoQueue()
        for _ in range(workers):
            self._idle.put_nowait(None)  # started on first use
        self._running: set[Process] = set()

    async def decode(self, data: bytes) -> DecodedInput:
        """Decode an image or an audio file.

        A cancelled call kills its worker, because the rest of the response is still in its pipe.

        Raises:
            InputError: The file cannot be decoded, its worker exits or takes too long, or the
                model takes no such input.
        """
        worker = await self._idle.get()
        try:
            worker = await self._start_worker(worker)
            return await asyncio.wait_for(_request(worker, data), self.seconds)
        except CaptionerError:
            raise
        except BaseException as error:
            _kill(worker)
            worker = None
            if isinstance(error, asyncio.TimeoutError):
                message = f"took more than {self.seconds:g} s to decode; use another copy"
            elif isinstance(error, (OSError, asyncio.IncompleteReadError)):
                message = "cannot be decoded within the limits of memory and time"
            else:
                raise
            kind = AudioError if is_audio(data[:NEEDED_BYTES]) else ImageError
            raise kind(f"<bytes>: {message}") from None
        finally:
            self._idle.put_nowait(worker)

    async def start(self) -> None:
        """Start one worker before the first file arrives."""
        self._idle.put_nowait(await self._start_worker(await self._idle.get()))

    async def close(self) -> None:
        """Kill all workers and wait until they have exited."""
        running = list(self._running)
        for worker in running:
            _kill(worker)
        await asyncio.gather(*(worker.wait() for worker in running))

    async def _start_worker(self, worker: Process | None) -> Process:
        """Return the worker if it is running, otherwise a new one."""
        if worker is not None and worker.returncode is None:
            return worker
        self._running = {w for w in self._running if w.returncode is None}
        command = [sys.executable, "-m", "captioner.serve.decoder_worker", self.limits.dump()]
        path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        worker = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=os.environ | {"PYTHONPATH": path}
        )
        self._running.add(worker)
        return worker


def _kill(worker: Process | None) -> None:
    if worker is not None and worker.returncode is None:
        # `worker.kill()` may collect the exit status before asyncio's child watcher does.
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)


async def _request(worker: Process, data: bytes) -> DecodedInput:
    assert worker.stdin is not None
    worker.stdin.write(LENGTH.pack(len(data)))
    worker.stdin.write(data)
    await worker.stdin.drain()
    head = json.loads(await _read_frame(worker))
    if "error" in head:
        raise _ERROR_TYPES[head["kind"]](head["error"])
    content, is_low = await _read_frame(worker), head["low_confidence"]
    if "rate" in head:
        samples = np.frombuffer(content, np.float32)
        return DecodedInput(audio=(samples, head["rate"]), low_confidence=is_low)
    image = Image.frombytes("RGB", tuple(head["size"]), content)
    width, height = head["original_size"]
    return DecodedInput(image, size=(width, height), low_confidence=is_low)


async def _read_frame(worker: Process) -> bytes:
    assert worker.stdout is not None
    (length,) = LENGTH.unpack(await worker.stdout.readexactly(LENGTH.size))
    return await worker.stdout.readexactly(length)
