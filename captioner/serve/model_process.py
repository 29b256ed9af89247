"""A captioner in its own process, used like one in this process.

Threads that run a small model slow each other down: between operations of a few microseconds each
of them takes Python's global interpreter lock, and a thread that waits for the lock sleeps longer
than that. One caption at a time, two threads reach 47 captions per second where one reaches 44; two
processes reach 67.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partialmethod
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError
from captioner.predict.results import Encoded

if TYPE_CHECKING:
    from captioner.predict.captioner import Captioner
    from captioner.predict.pieces import Piece

_STOP = "stop"
"""Request to end the current stream; ignored if the stream has already ended."""


class ModelProcessError(CaptionerError):
    """The model's process exited before it answered."""


class RemoteCaptioner:
    """The methods of `Captioner` that a server uses, run in a child process.

    It must be used by one thread at a time. A process that exits is replaced, and its request is
    repeated once.

    Args:
        load: Loads the captioner; it is pickled and called in the child process.

    Raises:
        Exception: The error that `load` raised in the child process.
        ModelProcessError: The process exited twice (from every method).
    """

    def __init__(self, load: Callable[[], Captioner]) -> None:
        self._load, self._closed = load, False
        self._start()
        atexit.register(self.close)

    # The name of the method is positional-only, because the decoding options include `method`.
    def _call(self, method: str, /, *args: Any, **options: Any) -> Any:
        with suppress(ModelProcessError):
            return self._request(method, *args, **options)
        return self._request(method, *args, **options)

    caption = partialmethod(_call, "caption")
    answer = partialmethod(_call, "answer")
    score = partialmethod(_call, "score")
    attention = partialmethod(_call, "attention")
    encode_batch = partialmethod(_call, "encode_batch")

    def stream(self, image: Any, **options: Any) -> Iterator[Piece]:
        """Yield the pieces of `Captioner.stream`; closing the iterator stops the generation."""
        piece = self._request("stream", image, **options)
        try:
            while piece is not None:
                yield piece
                piece = self._receive()
        except GeneratorExit:
            with suppress(Exception):
                self._pipe.send((_STOP, (), {}))
                while self._receive() is not None:
                    pass
            raise

    def close(self) -> None:
        """Kill the process, even if it is busy."""
        self._closed = True
        self._process.kill()
        atexit.unregister(self.close)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        parent_end, child_end = context.Pipe()
        args = child_end, self._load
        self._process = context.Process(target=_serve_captioner, args=args, daemon=True)
        self._process.start()
        child_end.close()
        if self._closed:  # meanwhile, by another thread
            self._process.kill()
        self._pipe = _ObjectPipe(parent_end, _EncodedBytes.dump, _EncodedBytes)
        self.config, self.max_length, self.tokenizer, *others = self._receive()
        self.view, self.audio_rate, self.captions = others

    def _request(self, method: str, /, *args: Any, **options: Any) -> Any:
        if not self._process.is_alive() and not self._closed:
            try:
                self._start()
            except Exception as error:
                message = f"the model's process cannot be restarted: {error}"
                raise ModelProcessError(message) from error
        with suppress(OSError):  # the process has just exited, which `_receive` reports
            self._pipe.send((method, args, options))
        return self._receive()

    def _receive(self) -> Any:
        try:
            error, result = self._pipe.receive()
        except (EOFError, OSError) as cause:
            self._process.join()
            raise ModelProcessError("the model's process exited; send the request again") from cause
        if error is not None:
            raise error
        return result


@dataclass(frozen=True)
class _EncodedBytes:
    """A pickled `Encoded` of the child process; this process stores it without unpickling it."""

    data: bytes

    @staticmethod
    def dump(value: Any) -> bytes | None:
        """Return the bytes of an instance; None for other objects."""
        return value.data if isinstance(value, _EncodedBytes) else None


class _Pickler(pickle.Pickler):
    """A pickler that replaces the objects for which `convert` returns bytes by these bytes."""

    convert: Callable[[Any], bytes | None]

    def persistent_id(self, obj: Any) -> bytes | None:
        return self.convert(obj)


class _Unpickler(pickle.Unpickler):
    """The inverse of `_Pickler`, with the inverse of its `convert`."""

    convert: Callable[[bytes], Any]

    def persistent_load(self, pid: bytes) -> Any:
        return self.convert(pid)


@dataclass(frozen=True)
class _ObjectPipe:
    """Sends and receives objects; see `_Pickler` and `_Unpickler` for the two functions."""

    connection: Connection
    dump: Callable[[Any], bytes | None]
    load_bytes: Callable[[bytes], Any]

    def send(self, value: Any) -> None:
        """Send an object; raises OSError if the other end is closed."""
        pickler = _Pickler(file := io.BytesIO())
        pickler.convert = self.dump
        pickler.dump(value)
        self.connection.send_bytes(file.getbuffer())

    def receive(self) -> Any:
        """Receive an object; raises EOFError or OSError if the other end is closed."""
        unpickler = _Unpickler(io.BytesIO(self.connection.recv_bytes()))
        unpickler.convert = self.load_bytes
        return unpickler.load()


def _serve_captioner(connection: Connection, load: Callable[[], Captioner]) -> None:
    """Answer requests in the child process until the pipe is closed."""
    # Signals to the process group are handled by the server, which finishes accepted requests.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def dump(value: Any) -> bytes | None:
        return pickle.dumps(replace(value, backend=None)) if isinstance(value, Encoded) else None

    def load_bytes(data: bytes) -> Encoded:
        return replace(pickle.loads(data), backend=captioner.backend)

    pipe = _ObjectPipe(connection, dump, load_bytes)
    with suppress(EOFError, OSError):
        try:
            captioner = load()
        except Exception as error:
            return pipe.send((error, None))
        names = ("config", "max_length", "tokenizer", "view", "audio_rate", "captions")
        pipe.send((None, [getattr(captioner, name) for name in names]))
        while True:
            method, args, options = pipe.receive()
            if method != _STOP:
                _answer_request(captioner, pipe, method, *args, **options)


def _answer_request(
    captioner: Captioner, pipe: _ObjectPipe, method: str, /, *args: Any, **options: Any
) -> None:
    try:
        result = getattr(captioner, method)(*args, **options)
        if method == "stream":
            with closing(result):
                for piece in result:
                    if pipe.connection.poll():
                        break
                    pipe.send((None, piece))
            result = None
        pipe.send((None, result))
    except CaptionerError as error:
        pipe.send((error, None))
    except (EOFError, OSError):
        raise
    except Exception:
        traceback.print_exc()
        pipe.send((RuntimeError("internal error in the model's process; see the log"), None))


def load_in_worker(checkpoint: str, **options: Any) -> Captioner:
    """Call `captioner.predict.loading.load_worker`, importing torch only in the child process."""
    from captioner.predict.loading import load_worker

    return load_worker(checkpoint, **options)
