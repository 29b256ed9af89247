"""Digests of files, so that a file that occurs twice is read and described once."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from captioner.cli.batch.find_images import STDIN
from captioner.files import file_digest

Source = str | bytes
"""A path, or what came from stdin."""
AHEAD = 32
"""Files whose content is read before their turn."""
READERS = min(8, os.cpu_count() or 1)
"""Threads that read files of which nothing but the digest is wanted."""


def source_of(path: str) -> Source:
    """What to read a picture from."""
    return sys.stdin.buffer.read() if path == STDIN else path


def digest(source: Source) -> bytes | None:
    """The SHA-256 of a file's bytes; None where it cannot be read, or is no regular file."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):  # a pipe would block
            return None
        return bytes.fromhex(file_digest(source))
    except (OSError, ValueError):
        return None


def read_bytes(path: str) -> bytes | None:
    """Return the content of a regular file, or None if there is none that can be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def is_binary(path: str) -> bool:
    """Return whether there is a regular file that does not begin as a text does."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return b"\0" in file.read(1024)
    except OSError:
        return False


def once_each(
    paths: Sequence[str],
    describe: Callable[[Iterator[Source]], Iterator[Any]],
    known: MutableMapping[bytes, str],
    *,
    name: Callable[[str], str],
) -> Iterator[tuple[str, bytes | None, Any]]:
    """Each path with its digest and what `describe` finds: None where the content is known.

    `describe` takes the sources that are new, as it comes to need them, and gives as many results
    in their order. `known` grows by the `name` of the path that a content is first met under.
    """
    waiting: deque[tuple[str, bytes | None, bool]] = deque()  # what has not been given out

    def new() -> Iterator[Source]:
        for path, source, content in digested(paths):
            repeated = content is not None and content in known
            waiting.append((path, content, repeated))
            if not repeated:
                if content is not None:
                    known[content] = name(path)
                yield source

    for result in describe(new()):
        while waiting[0][2]:
            yield *waiting.popleft()[:2], None
        yield *waiting.popleft()[:2], result
    for path, content, _ in waiting:
        yield path, content, None


def digested(
    paths: Sequence[str], *, readers: int = 2
) -> Iterator[tuple[str, Source, bytes | None]]:
    """Yield each path with its source and digest, while other threads read the next ones."""
    with ThreadPoolExecutor(readers) as pool:
        waiting: deque[tuple[str, Source, Any]] = deque()
        try:
            for path in paths:
                source = source_of(path)
                waiting.append((path, source, pool.submit(digest, source)))
                if len(waiting) > AHEAD:
                    first, source, found = waiting.popleft()
                    yield first, source, found.result()
            for first, source, found in waiting:
                yield first, source, found.result()
        finally:
            pool.shutdown(cancel_futures=True)
