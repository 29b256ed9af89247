"""Digests of files, and writing files as a whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from captioner.cli.batch.find_images import STDIN

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
    found = hashlib.sha256()
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):  # a pipe would block
            return None
        with open(source, "rb") as file:
            while block := file.read(2**20):
                found.update(block)
    except (OSError, ValueError):
        return None
    return found.digest()


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


def fingerprint(checkpoint: str | os.PathLike) -> str:
    """What tells a checkpoint's folder from another, whatever its name; it costs a reading."""
    names = ("config.yaml", "model.safetensors", "tokenizer.model")
    parts = [digest(os.path.join(checkpoint, name)) or b"" for name in names]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


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


def write_whole(path: str, data: bytes, *, like: str | None = None, times: bool = True) -> None:
    """Put `data` in the place of a file, or nothing; OSError.

    With `like`, it gets the permissions of that file, and its times. What replaces a file is
    first brought to the disk: a power cut must not cost the old one and the new one.
    """
    folder, name = os.path.split(path)
    # Hidden, so that no run takes it for a picture; always the same, so that a kill leaves one.
    short = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    partial = os.path.join(folder, f".{short}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            if os.path.exists(path):
                file.flush()
                os.fsync(file.fileno())
        if like is not None:
            (shutil.copystat if times else shutil.copymode)(like, partial)
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise


def put(path: str, data: bytes, *, overwrite: bool, like: str | None = None) -> bool:
    """`write_whole`, but whether it is there then: without `overwrite`, no other file gives way."""
    if os.path.lexists(path):
        same = digest(path) == hashlib.sha256(data).digest()
        if same or not overwrite:
            return same
    write_whole(path, data, like=like)
    return True
