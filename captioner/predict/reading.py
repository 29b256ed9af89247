"""Read images in threads while the model works on earlier ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from captioner.backends.base import Backend, Memory
from captioner.backends.model_inputs import ModelInput, Prepared
from captioner.errors import InputError
from captioner.predict.results import Encoded, ImageTraits

READERS = min(8, max(1, (os.cpu_count() or 1) // 2))
"""Threads that read images."""


def read_image(backend: Backend, image: ModelInput) -> Prepared | InputError:
    """Return an image as the models take it, or the reason why it cannot be read."""
    try:
        return backend.read(image)
    except InputError as error:
        return error


def read_images(
    backend: Backend, images: Iterable[ModelInput], *, ahead: int
) -> Iterator[Prepared | InputError]:
    """Yield images in order, and read up to `ahead` of the following ones in threads."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[Prepared | InputError]] = deque()
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
    backend: Backend, images: Sequence[ModelInput | Encoded]
) -> list[Encoded | InputError]:
    """Encode images in one batch; return errors in the places of images that cannot be read."""
    pixels = [read_image(backend, image) for image in images if not isinstance(image, Encoded)]
    readable = [x for x in pixels if isinstance(x, Prepared)]
    memories = iter(backend.encode(readable) if readable else ())
    encoded = (
        _make_encoded(backend, x, next(memories)) if isinstance(x, Prepared) else x for x in pixels
    )
    return [
        image.check_backend(backend) if isinstance(image, Encoded) else next(encoded)
        for image in images
    ]


def _make_encoded(backend: Backend, prepared: Prepared, memory: Memory) -> Encoded:
    traits = read_traits(backend, prepared, memory)
    return Encoded(memory, backend, prepared.size, *traits)


def read_traits(backend: Backend, prepared: Prepared, memory: Memory) -> ImageTraits:
    """Return the properties of an encoded image."""
    name, probability = backend.kind(memory) or (None, None)
    return ImageTraits(prepared.low_confidence, name, probability, prepared.kinds)


def encode_batches(
    backend: Backend,
    images: Iterable[ModelInput],
    outcomes: deque[InputError | ImageTraits],
    *,
    batch_size: int,
) -> Iterator[list[Memory]]:
    """Yield the memories of batches of readable images; about three batches are held at a time.

    The error or the traits of each image are appended to `outcomes`, in order, before the memories
    of its batch are yielded.
    """
    batch: list[Prepared | InputError] = []
    readable = 0
    for pixels in read_images(backend, images, ahead=batch_size):
        batch.append(pixels)
        readable += isinstance(pixels, Prepared)
        if readable == batch_size:
            yield _encode_batch(backend, batch, outcomes)
            batch, readable = [], 0
    if memories := _encode_batch(backend, batch, outcomes):
        yield memories


def _encode_batch(
    backend: Backend,
    batch: Sequence[Prepared | InputError],
    outcomes: deque[InputError | ImageTraits],
) -> list[Memory]:
    """Return the memories of the readable images of a batch; append all outcomes."""
    readable = [x for x in batch if isinstance(x, Prepared)]
    memories = backend.encode(readable) if readable else []
    remaining = iter(memories)
    for x in batch:
        if isinstance(x, Prepared):
            outcomes.append(read_traits(backend, x, next(remaining)))
        else:
            outcomes.append(x)
    return memories
