"""The engine: dynamic batching, concurrency limit, cancellation, errors."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("gradio")
from serving import FakeCaptioner

from captioner.errors import CaptionerError, ImageError, ImageFormatError
from captioner.serve.engine import Engine, NotReadyError, QueueFullError
from captioner.serve.settings import Settings


def png(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def run(test: Callable[[Engine], Coroutine], toy: Any = None, **settings: Any) -> Any:
    """Run a test with an engine that is ready."""

    async def whole() -> Any:
        engine = Engine(lambda: toy, Settings(**settings))
        engine.start()
        while not engine.ready:
            await asyncio.sleep(0.01)
        try:
            return await test(engine)
        finally:
            await engine.close()

    return asyncio.run(whole())


async def busy(engine: Engine, toy: FakeCaptioner) -> asyncio.Task:
    """Start a request that keeps the model busy until `toy.unblocked` is set."""
    toy.unblocked.clear()
    picture = await engine.decode(png(255))
    task = asyncio.create_task(engine.caption(picture))
    while not toy.batches:
        await asyncio.sleep(0.01)
    return task


def test_requests_during_a_batch_share_the_next_one() -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> list[Any]:
        first = await busy(engine, toy)
        pictures = [await engine.decode(png(n)) for n in range(6)]
        rest = [asyncio.create_task(engine.caption(p)) for p in pictures]
        await asyncio.sleep(0.05)
        toy.unblocked.set()
        return [result.text for result in await asyncio.gather(first, *rest)]

    assert run(test, toy, max_batch=4) == ["red 255 0", *(f"red {n} 0" for n in range(6))]
    assert toy.batches == [("caption", 1), ("caption", 4), ("caption", 2)]


def test_requests_with_equal_options_share_a_batch_in_order() -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> list[Any]:
        first = await busy(engine, toy)
        p = await engine.decode(png(1))
        rest = [
            engine.caption(p, options={"max_length": 5}),
            engine.caption(p),
            engine.caption(p, options={"max_length": 5}),
            engine.answer(p, "what?"),
            engine.answer(p, "where?"),
            engine.answer(p, "where?", num_answers=2),
        ]
        tasks = [asyncio.create_task(one) for one in rest]
        await asyncio.sleep(0.05)
        toy.unblocked.set()
        return await asyncio.gather(first, *tasks)

    results = run(test, toy)
    kinds = [("caption", 1), ("caption", 2), ("caption", 1), ("ask", 2), ("ask", 1)]
    assert toy.batches == kinds
    assert [r.text for r in results[4:]] == ["1 what?", "1 where?", "1 where?"]


def test_workers_run_concurrently() -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> list[str]:
        toy.unblocked.clear()
        pictures = [await engine.decode(png(n)) for n in range(3)]
        tasks = [asyncio.create_task(engine.caption(p)) for p in pictures]
        while len(toy.batches) < 2:
            await asyncio.sleep(0.01)
        toy.unblocked.set()
        return [result.text for result in await asyncio.gather(*tasks)]

    assert run(test, toy, workers=2, max_batch=1) == [f"red {n} 0" for n in range(3)]


def test_single_request_waits_while_another_worker_is_busy() -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> list[Any]:
        first = await busy(engine, toy)
        pictures = [await engine.decode(png(n)) for n in range(2)]
        one = asyncio.create_task(engine.caption(pictures[0]))
        await asyncio.sleep(0.1)
        assert toy.batches == [("caption", 1)]
        other = asyncio.create_task(engine.caption(pictures[1]))
        while len(toy.batches) < 2:
            await asyncio.sleep(0.01)
        toy.unblocked.set()
        return await asyncio.gather(first, one, other)

    run(test, toy, workers=2, max_single_wait=20)
    assert toy.batches == [("caption", 1), ("caption", 2)]


@pytest.mark.parametrize("max_single_wait", [0.05, 20])
def test_waiting_ends_after_the_maximum_or_with_the_other_batch(
    max_single_wait: float,
) -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> float:
        first = await busy(engine, toy)
        picture = await engine.decode(png(1))
        start = time.perf_counter()
        one = asyncio.create_task(engine.caption(picture))
        await asyncio.sleep(0.2)
        assert len(toy.batches) == 1 + (max_single_wait < 0.2)
        toy.unblocked.set()
        await asyncio.gather(first, one)
        return time.perf_counter() - start

    assert run(test, toy, workers=2, max_single_wait=max_single_wait) < 10


def test_sampling_runs_alone() -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> None:
        first = await busy(engine, toy)
        p = await engine.decode(png(1))
        rest = [engine.caption(p, options={"method": "sample"}) for _ in range(2)]
        tasks = [asyncio.create_task(one) for one in rest]
        await asyncio.sleep(0.05)
        toy.unblocked.set()
        await asyncio.gather(first, *tasks)

    run(test, toy)
    assert toy.batches == [("caption", 1)] * 3


def test_cancelled_requests_are_dropped_from_the_queue() -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> None:
        first = await busy(engine, toy)
        p = await engine.decode(png(1))
        tasks = [asyncio.create_task(engine.caption(p)) for _ in range(3)]
        await asyncio.sleep(0.05)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.sleep(0)
        toy.unblocked.set()
        await asyncio.gather(first, tasks[2])

    run(test, toy)
    assert toy.batches == [("caption", 1), ("caption", 1)]


def test_closed_stream_ends_the_generation() -> None:
    toy = FakeCaptioner()

    async def test(engine: Engine) -> list[str]:
        p = await engine.decode(png(1))
        whole = [piece async for piece in engine.stream(p)]
        toy.unblocked.clear()
        stream = engine.stream(p)
        first = asyncio.create_task(anext(stream))
        while len(toy.batches) < 4:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await stream.aclose()
        toy.unblocked.set()
        await engine.caption(p)
        return whole

    assert run(test, toy) == ["a", " red", " dog"]
    assert toy.batches[4:] == [("caption", 1)]


def test_error_of_one_request_does_not_affect_others() -> None:
    class Fussy(FakeCaptioner):
        def caption(self, images: list, **options: Any) -> list:
            if options.get("max_length") == 1:
                raise CaptionerError("too short")
            result = super().caption(images, **options)
            return [type(r)(error=CaptionerError("not 3")) if "3" in r.text else r for r in result]

    async def test(engine: Engine) -> list[Any]:
        pictures = [await engine.decode(png(n)) for n in (2, 3)]
        requests = [engine.caption(p) for p in pictures]
        requests.append(engine.caption(pictures[0], options={"max_length": 1}))
        return await asyncio.gather(*requests, return_exceptions=True)

    good, bad, worse = run(test, Fussy())
    assert good.text == "red 2 0"
    assert (str(bad), str(worse)) == ("not 3", "too short")


def test_slots_are_limited_and_need_a_ready_server() -> None:
    async def test(engine: Engine) -> None:
        with engine.slot():
            with engine.slot(), pytest.raises(QueueFullError), engine.slot():
                pass
            with engine.slot():
                pass
            draining = asyncio.create_task(engine.drain())
            await asyncio.sleep(0.05)
            assert not draining.done()
            with pytest.raises(NotReadyError), engine.slot():
                pass
        await draining

    run(test, FakeCaptioner(), max_requests=2)
    with pytest.raises(NotReadyError), Engine(FakeCaptioner, Settings()).slot():
        pass


def test_image_is_decoded_and_encoded_once() -> None:
    class Counting(FakeCaptioner):
        encoded = 0

        def encode_batch(self, images: list) -> list[Any]:
            self.encoded += len(images)
            return super().encode_batch(images)

    toy = Counting()

    async def test(engine: Engine) -> tuple[bool, bool]:
        first = await engine.decode(png(7))
        for _ in range(3):
            await engine.answer(await engine.decode(png(7)), "what?")
        same = await engine.decode(png(7)) is first
        for n in range(3):
            await engine.decode(png(n))
        return same, await engine.decode(png(7)) is first

    assert run(test, toy, image_cache_size=2) == (True, False)
    assert toy.encoded == 1


def test_bad_file_is_an_image_error() -> None:
    async def test(engine: Engine) -> int:
        for data, kind in (
            (b"", ImageFormatError),
            (b"text", ImageFormatError),
            (png(1)[:50], ImageError),
        ):
            with pytest.raises(kind):
                await engine.decode(data)
        return (await engine.decode(png(9))).image.getpixel((0, 0))[0]

    assert run(test, FakeCaptioner()) == 9


def test_single_request_does_not_wait() -> None:
    async def test(engine: Engine) -> float:
        p = await engine.decode(png(1))
        start = time.perf_counter()
        with engine.slot():
            await engine.caption(p)
        return time.perf_counter() - start

    assert run(test, FakeCaptioner(), max_wait=20) < 10


def test_load_error_is_kept_as_failure() -> None:
    async def test() -> Exception:
        def fail() -> None:
            raise CaptionerError("no such checkpoint")

        engine = Engine(fail, Settings())
        engine.start()
        while engine.failure is None:
            await asyncio.sleep(0.01)
        await engine.close()
        return engine.failure

    assert str(asyncio.run(test())) == "no such checkpoint"
