"""Digests of files, and captioning each content once."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from captioner.cli.batch.find_images import STDIN
from captioner.files import file_digest

Source = str | bytes
"""A path, or the content of stdin."""
AHEAD = 32
"""Number of files that are read before they are needed."""
READERS = min(8, os.cpu_count() or 1)
"""Number of threads that read files if only their digests are needed."""


def read_source(path: str) -> Source:
    """Return the path of an image, or the content of stdin."""
    return sys.stdin.buffer.read() if path == STDIN else path


def compute_digest(source: Source) -> bytes | None:
    """Return the SHA-256 of a file; None if it cannot be read or is not a regular file."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    try:
        return bytes.fromhex(file_digest(source)) if os.path.isfile(source) else None
    except (OSError, ValueError):
        return None


def read_bytes(path: str) -> bytes | None:
    """Return the content of a regular file; None if it cannot be read."""
    try:
        return Path(path).read_bytes() if os.path.isfile(path) else None
    except (OSError, ValueError):
        return None


def is_binary(path: str) -> bool:
    """Return whether there is a regular file with a zero byte near its start."""
    if not os.path.isfile(path):  # Opening a pipe would block.
        return False
    try:
        with open(path, "rb") as file:
            return b"\0" in file.read(1024)
    except OSError:
        return False


def describe_distinct(
    paths: Sequence[str],
    describe: Callable[[Iterator[Source]], Iterator[Any]],
    known: MutableMapping[bytes, str],
    *,
    name: Callable[[str], str],
) -> Iterator[tuple[str, bytes | None, Any]]:
    """Yield each path with its digest and its result, which is None if its content is known.

    `describe` takes the sources with new content, reads them as it needs them, and yields their
    results in the same order. `known` has the `name` of the first path with each content; new
    contents are added.
    """
    waiting: deque[tuple[str, bytes | None, bool]] = deque()  # Paths that were not yielded yet.

    def new_sources() -> Iterator[Source]:
        for path, source, digest in read_digests(paths):
            is_known = digest is not None and digest in known
            waiting.append((path, digest, is_known))
            if not is_known:
                if digest is not None:
                    known[digest] = name(path)
                yield source

    for result in describe(new_sources()):
        while waiting[0][2]:
            yield *waiting.popleft()[:2], None
        yield *waiting.popleft()[:2], result
    for path, digest, _ in waiting:
        yield path, digest, None


def read_digests(
    paths: Sequence[str], *, readers: int = 2
) -> Iterator[tuple[str, Source, bytes | None]]:
    """Yield each path with its source and digest, while threads read the next files."""
    with ThreadPoolExecutor(readers) as pool:
        waiting: deque[tuple[str, Source, Future[bytes | None]]] = deque()
        try:
            for path in paths:
                source = read_source(path)
                waiting.append((path, source, pool.submit(compute_digest, source)))
                if len(waiting) > AHEAD:
                    yield _finish(*waiting.popleft())
            while waiting:
                yield _finish(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _finish(
    path: str, source: Source, digest: Future[bytes | None]
) -> tuple[str, Source, bytes | None]:
    return path, source, digest.result()
