"""A captioner in a process of its own, asked as if it were in this one.

Threads that run a small model get in each other's way: between operations of some microseconds
each holds Python's lock, and who waits for it sleeps longer than that. One caption at a time, two
threads made 47 a second where one makes 44; two processes make 67.
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
    from captioner.predict import Captioner

_STOP = "stop"
"""Asks for the end of a stream; where it comes too late for that, it asks for nothing."""


class LaneError(CaptionerError):
    """The process of a captioner has ended before it answered."""


class RemoteCaptioner:
    """What a server asks of a `Captioner`, in the process that it starts; for one thread at a time.

    `load` goes there pickled. A process that ends is replaced, and what it was asked for is asked
    once more; raises LaneError where that one ends, too. Raises what `load` raises.
    """

    def __init__(self, load: Callable[[], Captioner]) -> None:
        self._load, self._closed = load, False
        self._start()
        atexit.register(self.close)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        with suppress(LaneError):
            return self._answer(name, *args, **options)
        return self._answer(name, *args, **options)

    caption = partialmethod(_call, "caption")
    answer = partialmethod(_call, "answer")
    score = partialmethod(_call, "score")
    attention = partialmethod(_call, "attention")
    encode_batch = partialmethod(_call, "encode_batch")

    def stream(self, image: Any, **options: Any) -> Iterator[str]:
        """As `Captioner.stream`; who closes it ends the writing before the next piece."""
        piece = self._answer("stream", image, **options)
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
        """End the process, whatever it is at."""
        self._closed = True
        self._process.kill()
        atexit.unregister(self.close)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        own, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._load), daemon=True)
        self._process.start()
        other.close()
        if self._closed:  # meanwhile, by another thread
            self._process.kill()
        self._pipe = _Pipe(own, seal=_Sealed.data_of, unseal=_Sealed)
        self.config, self.max_length, self.tokenizer, self.view = self._receive()

    def _answer(self, name: str, *args: Any, **options: Any) -> Any:
        if not self._process.is_alive() and not self._closed:
            try:
                self._start()
            except Exception as error:
                raise LaneError(f"the model's process cannot be started again: {error}") from error
        with suppress(OSError):  # it has just ended, which is what is found next
            self._pipe.send((name, args, options))
        return self._receive()

    def _receive(self) -> Any:
        try:
            error, found = self._pipe.receive()
        except (EOFError, OSError) as problem:
            self._process.join()
            raise LaneError("the model's process has ended; ask again a little later") from problem
        if error is not None:
            raise error
        return found


@dataclass(frozen=True)
class _Sealed:
    """An encoded image, on its way through a process that only keeps it."""

    data: bytes

    @staticmethod
    def data_of(value: Any) -> bytes | None:
        """What was sealed, if this was."""
        return value.data if isinstance(value, _Sealed) else None


class _Pipe:
    """Objects to and from another process; to some, `seal` gives bytes that are sent instead."""

    def __init__(
        self,
        connection: Connection,
        *,
        seal: Callable[[Any], bytes | None],
        unseal: Callable[[bytes], Any],
    ) -> None:
        self.connection, self._seal, self._unseal = connection, seal, unseal

    def send(self, value: Any) -> None:
        """Raises OSError where nobody is at the other end."""
        file = io.BytesIO()
        pickler = pickle.Pickler(file)
        pickler.persistent_id = self._seal
        pickler.dump(value)
        self.connection.send_bytes(file.getbuffer())

    def receive(self) -> Any:
        """Raises EOFError or OSError where nobody is at the other end."""
        unpickler = pickle.Unpickler(io.BytesIO(self.connection.recv_bytes()))
        unpickler.persistent_load = self._unseal
        return unpickler.load()


def _serve(connection: Connection, load: Callable[[], Captioner]) -> None:
    """The process: answers pairs of an error and what was found, until nobody listens."""
    # A signal to all processes of the server is for the one that finishes what has begun.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def seal(value: Any) -> bytes | None:
        return pickle.dumps(replace(value, models=())) if isinstance(value, Encoded) else None

    def unseal(data: bytes) -> Encoded:
        return replace(pickle.loads(data), models=captioner.members.models)

    pipe = _Pipe(connection, seal=seal, unseal=unseal)
    with suppress(EOFError, OSError):
        try:
            captioner = load()
        except Exception as error:
            return pipe.send((error, None))
        facts = captioner.config, captioner.max_length, captioner.tokenizer, captioner.view
        pipe.send((None, facts))
        while True:
            name, args, options = pipe.receive()
            if name != _STOP:
                _do(captioner, pipe, name, *args, **options)


def _do(captioner: Captioner, pipe: _Pipe, name: str, *args: Any, **options: Any) -> None:
    try:
        found = getattr(captioner, name)(*args, **options)
        if name == "stream":
            with closing(found):
                for piece in found:
                    if pipe.connection.poll():
                        break
                    pipe.send((None, piece))
            found = None
        pipe.send((None, found))
    except CaptionerError as error:
        pipe.send((error, None))
    except (EOFError, OSError):
        raise
    except Exception:
        traceback.print_exc()
        pipe.send((RuntimeError("an error in the model's process; see the log"), None))


def opened(checkpoint: str, **options: Any) -> Captioner:
    """As `captioner.predict.loading.load_worker`, which brings torch with it."""
    from captioner.predict.loading import load_worker

    return load_worker(checkpoint, **options)
