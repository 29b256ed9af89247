"""The decoder pool: equal pixels, and errors that do not affect other images."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import picture

pytest.importorskip("gradio")
from captioner.audio import load_audio
from captioner.errors import (
    AudioError,
    AudioFormatError,
    ImageError,
    ImageFormatError,
    ImageSizeError,
    InputError,
)
from captioner.images import fit, load_image
from captioner.serve.decoder_pool import DecodedInput, DecoderPool, join_inputs
from captioner.serve.decoder_worker import DecoderLimits, decode

LIMITS = DecoderLimits(size=(32, 48), crop=False, max_pixels=10**6, memory=2**30, seconds=3)


def encoded(kind: str, *, size: tuple[int, int] = (300, 200), **options: Any) -> bytes:
    file = io.BytesIO()
    picture(0, size=size).save(file, kind, **options)
    return file.getvalue()


def run(
    test: Callable[[DecoderPool], Coroutine], limits: DecoderLimits = LIMITS, **options: Any
) -> Any:
    async def whole() -> Any:
        pool = DecoderPool(limits, **{"workers": 1, "seconds": 20.0} | options)
        try:
            return await test(pool)
        finally:
            await pool.close()

    return asyncio.run(whole())


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pixels_equal_those_of_load_image(kind: str, crop: bool) -> None:
    limits, data = replace(LIMITS, crop=crop), encoded(kind)

    async def test(pool: DecoderPool) -> DecodedInput:
        return await pool.decode(data)

    loaded = load_image(data, min_size=96)
    expected = fit(loaded, limits.size, crop=crop)
    result = run(test, limits)
    assert np.array_equal(np.asarray(result.image), np.asarray(expected))
    assert result.size == (expected.size if crop else loaded.size)
    assert not result.low_confidence


def test_noise_is_detected_at_full_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")

    async def test(pool: DecoderPool) -> DecodedInput:
        return await pool.decode(file.getvalue())

    assert run(test).low_confidence


def test_errors_keep_their_type_and_the_worker_survives() -> None:
    async def test(pool: DecoderPool) -> set[int]:
        seen = set()
        for data, kind in (
            (b"", ImageFormatError),
            (b"<html>", ImageFormatError),
            (encoded("PNG", size=(2000, 600)), ImageSizeError),
            (encoded("PNG")[:-40], ImageError),
        ):
            with pytest.raises(ImageError) as error:
                await pool.decode(data)
            assert type(error.value) is kind
            seen |= {worker.pid for worker in pool._running}
        return seen

    assert len(run(test)) == 1


def test_killed_worker_is_an_image_error_and_is_replaced() -> None:
    async def test(pool: DecoderPool) -> int:
        await pool.start()
        (worker,) = pool._running
        asyncio.get_running_loop().call_later(0.1, os.kill, worker.pid, signal.SIGKILL)
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(ImageError, match="limits"):
            await pool.decode(encoded("PNG"))
        await pool.decode(encoded("PNG"))
        return await worker.wait()

    assert run(test) == -signal.SIGKILL


def test_stopped_worker_is_killed_after_the_timeout() -> None:
    async def test(pool: DecoderPool) -> float:
        await pool.start()
        (worker,) = pool._running
        os.kill(worker.pid, signal.SIGSTOP)
        start = time.perf_counter()
        with pytest.raises(ImageError, match=r"more than 0\.5 s"):
            await pool.decode(encoded("PNG"))
        return time.perf_counter() - start

    assert run(test, seconds=0.5) < 5


def test_cancelled_call_does_not_affect_the_next() -> None:
    async def test(pool: DecoderPool) -> tuple[int, int]:
        await pool.start()
        first = asyncio.create_task(pool.decode(encoded("PNG", size=(900, 900))))
        await asyncio.sleep(0.001)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return (await pool.decode(encoded("PNG"))).image.size

    assert run(test) == (48, 32)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_memory_is_limited() -> None:
    """A PNG of a few kilobytes whose pixels exceed the memory limit is an ImageError."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">2I5B", 20000, 20000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(60001 * 100), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

    async def test(pool: DecoderPool) -> None:
        with pytest.raises(ImageError):
            await pool.decode(bomb)
        await pool.decode(encoded("PNG"))

    run(test, replace(LIMITS, max_pixels=10**9))


def test_decoder_worker_does_not_import_torch() -> None:
    code = "import sys, captioner.serve.decoder_worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_recordings_equal_those_of_load_audio() -> None:
    pytest.importorskip("soundfile")
    from bad_recordings import tone, write

    data = write(tone(44_100), 44_100)

    async def test(pool: DecoderPool) -> DecodedInput:
        with pytest.raises(AudioError, match="longer than 2 s"):
            await pool.decode(write(tone(seconds=3)))
        with pytest.raises(AudioFormatError, match="expected WAV"):
            await pool.decode(b"text")
        with pytest.raises(InputError, match="recordings only"):
            await pool.decode(encoded("PNG"))
        return await pool.decode(data)

    limits = replace(LIMITS, size=None, audio_rate=8_000, max_audio_seconds=2.0)
    samples, rate = run(test, limits).audio
    assert rate == 8_000
    assert np.array_equal(samples, load_audio(data, 8_000).samples)


def test_an_unknown_format_names_those_of_images_and_recordings() -> None:
    for rate, last in ((None, "HEIC, ICO"), (8_000, "ICO, WAV, FLAC, Ogg, AIFF, MP3")):
        (frame,) = decode(b"just text", replace(LIMITS, audio_rate=rate))
        assert json.loads(frame)["error"].endswith(last)


def test_an_image_and_a_recording_are_joined_in_any_order() -> None:
    image, audio = DecodedInput(Image.new("RGB", (2, 3)), size=(2, 3)), (np.zeros(4, np.float32), 8)
    recording = DecodedInput(audio=audio, low_confidence=True)
    for first, second in ((image, recording), (recording, image)):
        joined = join_inputs(first, second)
        assert (joined.image, joined.audio, joined.size) == (image.image, audio, (2, 3))
        assert not joined.low_confidence
        assert joined.nbytes == 18 + 16
    for pair in ((image, image), (recording, recording)):
        with pytest.raises(InputError, match="same kind"):
            join_inputs(*pair)
