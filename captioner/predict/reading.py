"""Read images in threads while the model works on earlier ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from captioner.backends.base import Backend, Memory, Pixels
from captioner.errors import ImageError
from captioner.images import ImageInput
from captioner.predict.results import Encoded

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
        Encoded(next(memories), backend, x.size, x.low_confidence) if isinstance(x, Pixels) else x
        for x in pixels
    )
    return [
        image.check_backend(backend) if isinstance(image, Encoded) else next(encoded)
        for image in images
    ]


def encode_batches(
    backend: Backend,
    images: Iterable[ImageInput],
    outcomes: deque[ImageError | bool],
    *,
    batch_size: int,
) -> Iterator[list[Memory]]:
    """Yield the memories of batches of readable images; about three batches are held at a time.

    The error or `low_confidence` of each image that is read is appended to `outcomes`.
    """
    batch: list[Pixels] = []
    for pixels in read_images(backend, images, ahead=batch_size):
        if isinstance(pixels, ImageError):
            outcomes.append(pixels)
            continue
        outcomes.append(pixels.low_confidence)
        batch.append(pixels)
        if len(batch) == batch_size:
            yield backend.encode(batch)
            batch = []
    if batch:
        yield backend.encode(batch)
