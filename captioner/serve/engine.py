"""The captioner of a server: decodes files, queues requests and returns their results."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from captioner.audio.recording import import_decoder
from captioner.config.decoding_options import widen_beam
from captioner.errors import CaptionerError
from captioner.serve.batching import BatchScheduler
from captioner.serve.decoder_pool import DecodedInput, DecoderPool, join_inputs
from captioner.serve.decoder_worker import DecoderLimits
from captioner.serve.model_process import RemoteCaptioner
from captioner.serve.settings import Settings
from captioner.serve.telemetry import Telemetry

if TYPE_CHECKING:
    from captioner.predict.captioner import Captioner
    from captioner.predict.pieces import Piece
    from captioner.predict.results import Answers, Attention, Caption, Encoded, Result, Scored

AnyCaptioner: TypeAlias = "Captioner | RemoteCaptioner"
Options: TypeAlias = Mapping[str, Any] | None
_CACHE_BYTES = 2**28
"""Largest size of the cached images and recordings."""


class QueueFullError(CaptionerError):
    """The maximum number of concurrent requests has been reached."""


class NotReadyError(CaptionerError):
    """The model is still loading, or the server is shutting down."""


class Engine:
    """A captioner for many concurrent requests; its methods belong to one event loop.

    Args:
        load: Loads the captioner of one worker. It is called once per worker, in a thread, after
            `start`; it may return the same captioner each time, or captioners in child processes
            (`captioner.serve.model_process`).
        settings: Limits of the server.

    Attributes:
        captioner: The captioner of the first worker; None until all are loaded.
        failure: The error that prevented the model from loading.
        draining: True if new requests are rejected because the server is shutting down.
        closing: Set when open connections are to be closed.
        active: The number of requests in progress.
    """

    def __init__(self, load: Callable[[], AnyCaptioner], settings: Settings) -> None:
        self.settings, self.telemetry = settings, Telemetry()
        self.captioner: AnyCaptioner | None = None
        self.failure: Exception | None = None
        self.draining = False
        self.closing = asyncio.Event()
        self.active = 0
        self._load = load
        self._captioners: list[AnyCaptioner] = []
        self._threads = ThreadPoolExecutor(settings.workers, "model")
        self._scheduler = BatchScheduler(settings, self.telemetry, lambda: self.active)
        self._inputs: OrderedDict[bytes, DecodedInput] = OrderedDict()
        self._decoders: DecoderPool | None = None
        self._main_task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """True if requests are accepted."""
        return self.captioner is not None and not self.draining

    @property
    def loaded(self) -> AnyCaptioner:
        """The captioner of the first worker; raises NotReadyError until it is loaded."""
        if self.captioner is None:
            raise NotReadyError("the model is being loaded")
        return self.captioner

    def start(self) -> None:
        """Load the captioners and run the workers, in a background task."""
        self._main_task = asyncio.create_task(self._run())

    async def drain(self) -> None:
        """Reject new requests, and wait until the accepted ones are answered."""
        self.draining = True
        while self.active:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Stop all workers and threads."""
        if self._main_task is not None:
            self._main_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._main_task
        for captioner in self._captioners:
            if isinstance(captioner, RemoteCaptioner):
                captioner.close()
        if self._decoders is not None:
            await self._decoders.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count a request as active; raises QueueFullError or NotReadyError if it is rejected."""
        if not self.ready:
            state = "the server is shutting down" if self.draining else "the model is being loaded"
            raise NotReadyError(state)
        if self.active >= self.settings.max_requests:
            raise QueueFullError(f"{self.active} requests are in progress; try again later")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def decode(self, *files: bytes) -> DecodedInput:
        """Return the content of a file, or of an image and a recording, from the cache if possible.

        Raises:
            InputError: A file cannot be decoded, or the model does not take these inputs.
        """
        if self._decoders is None:
            raise NotReadyError("the model is being loaded")
        digest = b"".join(hashlib.sha256(data).digest() for data in files)
        if digest not in self._inputs:
            if len(files) == 1:
                with self.telemetry.stages.labels("read").time():
                    self._inputs[digest] = await self._decoders.decode(files[0])
            else:
                first, second = [await self.decode(data) for data in files]
                self._inputs[digest] = join_inputs(first, second)
        self._inputs.move_to_end(digest)
        decoded = self._inputs[digest]
        while self._is_cache_full():
            self._inputs.popitem(last=False)
        return decoded

    async def caption(
        self, image: DecodedInput, *, num_captions: int = 1, options: Options = None
    ) -> Result:
        """Caption an image with options of `Captioner.caption`; raises its errors.

        Without a `beam_size`, the beam is widened to hold all captions.
        """
        options = self._widen_beam(num_captions, {**(options or {})})

        def run(captioner: AnyCaptioner, images: list[DecodedInput]) -> Sequence[Any]:
            sources = [image.source for image in images]
            results = captioner.caption(sources, batch_size=len(sources), **options)
            return _unpack(results, images)

        # Sampling depends on an image's position in its batch, so it runs alone.
        alone = options.get("method") == "sample"
        return await self._scheduler.submit("caption", run, image, None if alone else options)

    async def answer(self, image: DecodedInput, question: str, **options: Any) -> Answers:
        """Answer a question; takes the options of `Captioner.ask` and raises its errors."""

        def run(captioner: AnyCaptioner, rows: list[tuple[DecodedInput, str]]) -> Sequence[Any]:
            images = [image for image, _ in rows]
            questions = [question for _, question in rows]
            pairs = list(zip(_encode(captioner, images), questions, strict=True))
            return _unpack(captioner.answer(pairs, batch_size=len(rows), **options), images)

        return await self._scheduler.submit("ask", run, (image, question), options)

    async def score(
        self, image: DecodedInput, texts: Sequence[str], question: str | None = None
    ) -> list[Scored]:
        """Score texts for an image; raises the errors of `Captioner.score`."""

        def run(captioner: AnyCaptioner, _: list[DecodedInput]) -> Sequence[Any]:
            (encoded,) = _encode(captioner, [image])
            return [captioner.score(encoded, texts, question=question)]

        return await self._scheduler.submit("score", run, image, None)

    async def attention(
        self, image: DecodedInput, text: str | Caption, question: str | None = None
    ) -> list[Attention]:
        """Compute the attention maps of a text; raises the errors of `Captioner.attention`."""

        def run(captioner: AnyCaptioner, _: list[DecodedInput]) -> Sequence[Any]:
            (encoded,) = _encode(captioner, [image])
            return [captioner.attention(encoded, text, question=question)]

        return await self._scheduler.submit("attention", run, image, None)

    async def stream(
        self, image: DecodedInput, *, question: str | None = None, options: Options = None
    ) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of a text as they are generated; raises errors of `Captioner.stream`.

        Closing the generator stops the generation before the next word.
        """
        loop, closed = asyncio.get_running_loop(), False
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

        def run(captioner: AnyCaptioner, _: list[DecodedInput]) -> Sequence[Any]:
            (encoded,) = _encode(captioner, [image])
            stream = captioner.stream(encoded, question=question, **(options or {}))
            for piece in stream:
                if closed:
                    break
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            if isinstance(stream, Generator):
                stream.close()
            return [None]

        job = asyncio.ensure_future(self._scheduler.submit("stream", run, image, None))
        job.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await job
        finally:
            closed = True
            job.cancel()

    def _is_cache_full(self) -> bool:
        size = sum(decoded.nbytes for decoded in self._inputs.values())
        return len(self._inputs) > self.settings.image_cache_size or size > _CACHE_BYTES

    def _widen_beam(self, num_captions: int, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options with a beam that holds all captions, unless `beam_size` is set."""
        default = self.loaded.config.decoding
        if options.get("method", default.method) == "beam" and "beam_size" not in options:
            groups = options.get("groups", default.groups)
            options["beam_size"] = widen_beam(default.beam_size, num_captions, groups=groups)
        return options | {"num_captions": num_captions}

    async def _run(self) -> None:
        """Load the captioners, start a decoder, and run the model workers."""
        loop, count = asyncio.get_running_loop(), self.settings.workers
        try:
            loads = [loop.run_in_executor(self._threads, self._load) for _ in range(count)]
            self._captioners = await asyncio.gather(*loads)
            if self._captioners[0].audio_rate is not None:
                import_decoder()
        except Exception as error:
            self.failure = error
            return
        self._decoders = self._create_decoders(self._captioners[0])
        await self._decoders.start()
        self.captioner = self._captioners[0]
        run = partial(self._scheduler.run_worker, self._threads)
        await asyncio.gather(*map(run, self._captioners))

    def _create_decoders(self, captioner: AnyCaptioner) -> DecoderPool:
        settings, seconds = self.settings, self.settings.decoder_seconds
        size, crop = captioner.view or (None, False)
        limits = DecoderLimits(
            size,
            crop,
            settings.max_pixels,
            settings.decoder_memory,
            seconds=int(seconds) + 1,
            audio_rate=captioner.audio_rate,
            max_audio_seconds=settings.max_audio_seconds,
        )
        return DecoderPool(limits, workers=settings.image_decoders, seconds=seconds)


def _encode(captioner: AnyCaptioner, images: Sequence[DecodedInput]) -> list[Encoded]:
    """Return the encoder outputs of images, computing those that are missing."""
    new = list({id(image): image for image in images if image.encoded is None}.values())
    outputs = captioner.encode_batch([image.source for image in new]) if new else []
    for image, encoded in zip(new, outputs, strict=True):
        image.encoded = encoded
    return [image.encoded for image in images if image.encoded is not None]


def _unpack(results: Sequence[Any], images: Sequence[DecodedInput]) -> list[Any]:
    """Return each result, or the error that it holds, marked with the image's low confidence.

    The captioner gets a reduced image, on which it may not recognize noise in a large one.
    """
    return [
        result.error or (replace(result, low_confidence=True) if image.low_confidence else result)
        for result, image in zip(results, images, strict=True)
    ]
