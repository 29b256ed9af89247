"""A captioner behind a server: pictures are read, requests queue, each gets what it asked for."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from captioner.config.decoding_options import widen_beam
from captioner.errors import CaptionerError
from captioner.serve.batching import Batches
from captioner.serve.decoder_pool import Picture, Reader
from captioner.serve.decoder_worker import Limits
from captioner.serve.model_process import RemoteCaptioner
from captioner.serve.settings import Settings
from captioner.serve.telemetry import Telemetry

if TYPE_CHECKING:
    from captioner.predict import Answers, Captioner, Result, Scored
    from captioner.predict.pieces import Piece


class Busy(CaptionerError):
    """There are as many requests as may be; the caller may come again."""


class NotReady(CaptionerError):
    """The model is being loaded, or the server is being stopped."""


class Engine:
    """A captioner that many may ask at once; its methods belong to one event loop.

    `load` makes the captioner of each lane, in a thread of its own, after `start`. It may be one
    for all, or what is in a process of its own (`captioner.serve.model_process`).
    """

    def __init__(self, load: Callable[[], Captioner], settings: Settings) -> None:
        self.settings, self.telemetry = settings, Telemetry()
        self.captioner: Captioner | None = None
        """That of the first lane."""
        self.failure: Exception | None = None
        self.draining = False
        self.closing = asyncio.Event()
        """Set when the server ends, and what is still open with it."""
        self.active = 0
        self._load, self._captioners = load, []
        self._threads = ThreadPoolExecutor(settings.lanes, "model")
        self._batches = Batches(settings, self.telemetry, requests=lambda: self.active)
        self._known: OrderedDict[bytes, Picture] = OrderedDict()
        self._reader: Reader | None = None
        self._serving: asyncio.Task | None = None

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.captioner is not None and not self.draining

    @property
    def longest(self) -> int:
        """The most tokens that the model can write."""
        return self.captioner.max_length

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Of all the texts."""
        return sum(len(self.captioner.tokenizer.encode(text)) for text in texts if text)

    def start(self) -> None:
        """Load the captioner, and serve what comes from then on."""
        self._serving = asyncio.create_task(self._serve())

    async def drain(self) -> None:
        """Take no more requests, and wait for those at hand."""
        self.draining = True
        while self.active:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End workers and thread."""
        if self._serving is not None:
            self._serving.cancel()
            with suppress(asyncio.CancelledError):
                await self._serving
        for captioner in self._captioners:
            if isinstance(captioner, RemoteCaptioner):
                captioner.close()
        if self._reader is not None:
            await self._reader.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Room for one request; raises Busy where there is none, NotReady."""
        if not self.ready:
            raise NotReady("being stopped" if self.draining else "the model is being loaded")
        if self.active >= self.settings.max_requests:
            raise Busy(f"{self.active} requests are being served; come again a little later")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def read(self, data: bytes) -> Picture:
        """The picture in an image file; raises ImageError."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._known:
            with self.telemetry.stage("read"):
                self._known[digest] = await self._reader.read(data)
        self._known.move_to_end(digest)
        while len(self._known) > self.settings.max_known:
            self._known.popitem(last=False)
        return self._known[digest]

    async def caption(
        self, picture: Picture, *, num_captions: int = 1, options: Mapping[str, Any] | None = None
    ) -> Result:
        """As `Captioner.caption`; raises what the result would hold, and CaptionerError.

        Without a `beam_size`, there are as many beams as captions at least.
        """
        options = self._widened(num_captions, {**(options or {})})

        def run(captioner: Captioner, pictures: list[Picture]) -> Sequence[Any]:
            images = [p.image for p in pictures]
            found = captioner.caption(images, batch_size=len(images), **options)
            return _marked(found, pictures)

        # What is drawn depends on an image's place in its batch.
        alone = options.get("method") == "sample"
        return await self._batches.submit("caption", run, picture, None if alone else options)

    async def ask(self, picture: Picture, question: str, **options: Any) -> Answers:
        """As `Captioner.ask`, with its options; raises its errors."""

        def run(captioner: Captioner, rows: list[tuple[Picture, str]]) -> Sequence[Any]:
            _encode(captioner, [picture for picture, _ in rows])
            pairs = [(picture.encoded, question) for picture, question in rows]
            found = captioner.answer(pairs, batch_size=len(rows), **options)
            return _marked(found, [picture for picture, _ in rows])

        return await self._batches.submit("ask", run, (picture, question), options)

    async def score(
        self, picture: Picture, texts: Sequence[str], question: str | None = None
    ) -> list[Scored]:
        """As `Captioner.score`; raises its errors."""

        def run(captioner: Captioner, _: list[Picture]) -> Sequence[Any]:
            _encode(captioner, [picture])
            return [captioner.score(picture.encoded, texts, question=question)]

        return await self._batches.submit("score", run, picture, None)

    async def attention(
        self, picture: Picture, text: str, question: str | None = None
    ) -> list[Any]:
        """As `Captioner.attention`; raises its errors."""

        def run(captioner: Captioner, _: list[Picture]) -> Sequence[Any]:
            _encode(captioner, [picture])
            return [captioner.attention(picture.encoded, text, question=question)]

        return await self._batches.submit("attention", run, picture, None)

    async def stream(
        self,
        picture: Picture,
        *,
        question: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Piece]:
        """Yield the pieces of a text as they are written, as `Captioner.stream`; raises its errors.

        Who stops listening ends the writing before the next word.
        """
        loop, pieces, gone = asyncio.get_running_loop(), asyncio.Queue(), False

        def run(captioner: Captioner, _: list[Picture]) -> Sequence[Any]:
            _encode(captioner, [picture])
            written = captioner.stream(picture.encoded, question=question, **(options or {}))
            with closing(written):
                for piece in written:
                    if gone:
                        break
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)
            return [None]

        job = asyncio.ensure_future(self._batches.submit("stream", run, picture, None))
        job.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await job
        finally:
            gone = True
            job.cancel()

    def _widened(self, num_captions: int, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options with enough beams for the captions and groups, unless they are set."""
        default = self.captioner.config.decoding
        if options.get("method", default.method) == "beam" and "beam_size" not in options:
            groups = options.get("groups", default.groups)
            options["beam_size"] = widen_beam(default.beam_size, num_captions, groups=groups)
        return options | {"num_captions": num_captions}

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            loads = (
                loop.run_in_executor(self._threads, self._load) for _ in range(self.settings.lanes)
            )
            self._captioners = await asyncio.gather(*loads)
        except Exception as error:
            self.failure = error
            return
        captioner = self._captioners[0]
        settings = self.settings
        size, crop = captioner.view
        limits = Limits(
            size=size,
            crop=crop,
            max_pixels=settings.max_pixels,
            memory=settings.reader_memory,
            seconds=int(settings.reader_seconds) + 1,
        )
        self._reader = Reader(limits, workers=settings.readers, seconds=settings.reader_seconds)
        await self._reader.start()
        self.captioner = captioner
        await asyncio.gather(*(self._batches.serve(self._threads, c) for c in self._captioners))


def _encode(captioner: Captioner, pictures: Sequence[Picture]) -> None:
    new = list({id(p): p for p in pictures if p.encoded is None}.values())
    found = captioner.encode_batch([p.image for p in new]) if new else []
    for picture, encoded in zip(new, found, strict=True):
        picture.encoded = encoded


def _marked(found: Sequence[Any], pictures: Sequence[Picture]) -> list[Any]:
    """Results, or their errors; the reader has seen more of a large picture of noise."""
    return [
        one.error or (replace(one, low_confidence=True) if picture.low_confidence else one)
        for one, picture in zip(found, pictures, strict=True)
    ]
