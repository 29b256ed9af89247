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


def read_image(backend: Backend, image: ModelInput | Encoded) -> Prepared | Encoded | InputError:
    """Return an image as the models take it, or the reason why it cannot be read.

    An encoded image is returned as it is; raise CaptionerError if another backend has encoded it.
    """
    if isinstance(image, Encoded):
        return image.check_backend(backend)
    try:
        return backend.read(image)
    except InputError as error:
        return error


def read_images(
    backend: Backend, images: Iterable[ModelInput | Encoded], *, ahead: int
) -> Iterator[Prepared | Encoded | InputError]:
    """Yield images in order, and read up to `ahead` of the following ones in threads."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[Prepared | Encoded | InputError]] = deque()
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
    return _encode_batch(backend, [read_image(backend, image) for image in images])


def encode_batches(
    backend: Backend,
    images: Iterable[ModelInput | Encoded],
    outcomes: deque[InputError | ImageTraits],
    *,
    batch_size: int,
) -> Iterator[list[Memory]]:
    """Yield the memories of batches of readable images; about three batches are held at a time.

    The error or the traits of each image are appended to `outcomes`, in order, before the memories
    of its batch are yielded.
    """
    for batch in _group(read_images(backend, images, ahead=batch_size), batch_size):
        encoded = _encode_batch(backend, batch)
        outcomes.extend(x.traits if isinstance(x, Encoded) else x for x in encoded)
        if memories := [x.memory for x in encoded if isinstance(x, Encoded)]:
            yield memories


def _group(
    images: Iterable[Prepared | Encoded | InputError], size: int
) -> Iterator[list[Prepared | Encoded | InputError]]:
    """Divide images into batches with `size` readable ones; the last batch may have fewer."""
    batch: list[Prepared | Encoded | InputError] = []
    readable = 0
    for image in images:
        batch.append(image)
        readable += not isinstance(image, InputError)
        if readable == size:
            yield batch
            batch, readable = [], 0
    yield batch


def _encode_batch(
    backend: Backend, images: Sequence[Prepared | Encoded | InputError]
) -> list[Encoded | InputError]:
    """Encode the images of a batch that are not encoded yet."""
    prepared = [x for x in images if isinstance(x, Prepared)]
    memories = iter(backend.encode(prepared) if prepared else ())
    return [
        _make_encoded(backend, x, next(memories)) if isinstance(x, Prepared) else x for x in images
    ]


def _make_encoded(backend: Backend, prepared: Prepared, memory: Memory) -> Encoded:
    name, probability = backend.kind(memory) or (None, None)
    traits = ImageTraits(prepared.low_confidence, name, probability, prepared.kinds)
    return Encoded(memory, backend, prepared.size, *traits)
