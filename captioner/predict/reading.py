"""Read images in threads while the model works on earlier ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from captioner.backends.base import Backend, Memory, Pixels
from captioner.errors import ImageError
from captioner.images import ImageInput
from captioner.predict.results import Encoded, ImageTraits

READERS = min(8, max(1, (os.cpu_count() or 1) // 2))
"""Threads that read images."""


def read_image(backend: Backend, image: ImageInput) -> Pixels | ImageError:
    """Return an image as the models take it, or the reason why it cannot be read."""
    try:
        return backend.read(image)
    except ImageError as error:
        return error


def read_images(
    backend: Backend, images: Iterable[ImageInput], *, ahead: int
) -> Iterator[Pixels | ImageError]:
    """Yield images in order, and read up to `ahead` of the following ones in threads."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[Pixels | ImageError]] = deque()
        try:
            for image in images:
                waiting.append(pool.submit(read_image, backend, image))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def encode_images(
    backend: Backend, images: Sequence[ImageInput | Encoded]
) -> list[Encoded | ImageError]:
    """Encode images in one batch; return errors in the places of images that cannot be read."""
    pixels = [read_image(backend, image) for image in images if not isinstance(image, Encoded)]
    readable = [x for x in pixels if isinstance(x, Pixels)]
    memories = iter(backend.encode(readable) if readable else ())
    encoded = (
        _make_encoded(backend, x, next(memories)) if isinstance(x, Pixels) else x for x in pixels
    )
    return [
        image.check_backend(backend) if isinstance(image, Encoded) else next(encoded)
        for image in images
    ]


def _make_encoded(backend: Backend, pixels: Pixels, memory: Memory) -> Encoded:
    traits = read_traits(backend, pixels, memory)
    return Encoded(memory, backend, pixels.size, *traits)


def read_traits(backend: Backend, pixels: Pixels, memory: Memory) -> ImageTraits:
    """Return the properties of an encoded image."""
    return ImageTraits(pixels.low_confidence, *(backend.kind(memory) or ()))


def encode_batches(
    backend: Backend,
    images: Iterable[ImageInput],
    outcomes: deque[ImageError | ImageTraits],
    *,
    batch_size: int,
) -> Iterator[list[Memory]]:
    """Yield the memories of batches of readable images; about three batches are held at a time.

    The error or the traits of each image are appended to `outcomes`, in order, before the memories
    of its batch are yielded.
    """
    batch: list[Pixels | ImageError] = []
    readable = 0
    for pixels in read_images(backend, images, ahead=batch_size):
        batch.append(pixels)
        readable += isinstance(pixels, Pixels)
        if readable == batch_size:
            yield _encode_batch(backend, batch, outcomes)
            batch, readable = [], 0
    if memories := _encode_batch(backend, batch, outcomes):
        yield memories


def _encode_batch(
    backend: Backend,
    batch: Sequence[Pixels | ImageError],
    outcomes: deque[ImageError | ImageTraits],
) -> list[Memory]:
    """Return the memories of the readable images of a batch; append all outcomes."""
    readable = [x for x in batch if isinstance(x, Pixels)]
    memories = backend.encode(readable) if readable else []
    remaining = iter(memories)
    for x in batch:
        if isinstance(x, Pixels):
            outcomes.append(read_traits(backend, x, next(remaining)))
        else:
            outcomes.append(x)
    return memories
