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


class BatchReader:
    """Batches of encoded images, with the errors of the images that cannot be read.

    Args:
        backend: The model.
        images: Any number of images; about three batches are held at a time.
        batch_size: The number of images of a batch.
    """

    def __init__(self, backend: Backend, images: Iterable[ImageInput], *, batch_size: int) -> None:
        self.backend, self.images, self.batch_size = backend, images, batch_size
        self._read: deque[ImageError | bool] = deque()  # an error, or `low_confidence`

    def memories(self) -> Iterator[list[Memory]]:
        """Yield the memories of each batch of readable images."""
        batch: list[Pixels] = []
        for pixels in read_images(self.backend, self.images, ahead=self.batch_size):
            if isinstance(pixels, ImageError):
                self._read.append(pixels)
                continue
            self._read.append(pixels.low_confidence)
            batch.append(pixels)
            if len(batch) == self.batch_size:
                yield self.backend.encode(batch)
                batch = []
        if batch:
            yield self.backend.encode(batch)

    def take_errors(self) -> Iterator[ImageError]:
        """Yield the errors of the images before the next readable one, in order."""
        while self._read and isinstance(error := self._read[0], ImageError):
            self._read.popleft()
            yield error

    def take_low_confidence(self) -> bool:
        """Return whether the next readable image shows nothing that can be described."""
        return bool(self._read.popleft())
