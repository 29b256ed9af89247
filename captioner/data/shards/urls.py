"""Files and folders by URL, through fsspec: local paths, object stores and others."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from captioner.errors import DataError
from captioner.extras import explain_missing
from captioner.sources import is_url
from captioner.text import one_line

_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
"""Keys of fsspec's `info` that change when the content of a file changes, best first."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BLOCK = 2**24
"""Bytes of a remote file that are requested together."""


def absolute_url(url: str) -> str:
    """Return a URL or a path that does not depend on the working folder."""
    url = re.sub(r"^(file|local)://", "", url)
    return url if is_url(url) else os.path.abspath(url)


def open_file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path within it.

    Raises:
        DataError: The protocol is unknown, or its library is not installed.
    """
    with explain_missing(f"reading {url}"):
        import fsspec
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise DataError(f"{url}: cannot be opened ({describe_failure(error)})") from None


def open_url(url: str) -> BinaryIO:
    """Open a file for reading; raise OSError, or DataError as `open_file_system` does."""
    if not is_url(url):
        return open(url, "rb")
    fs, path = open_file_system(url)
    file: BinaryIO = fs.open(path, "rb", block_size=_BLOCK)
    return file


def join_url(folder: str, name: str) -> str:
    """Return the URL of a file in a folder; an absolute path or URL is returned as it is."""
    if is_url(name) or os.path.isabs(name):
        return name
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, name)


def list_files(folder: str, *, recursive: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the files of a folder, sorted by name: name relative to the folder, and information.

    Hidden files and folders are left out.
    """
    fs, root = open_file_system(folder)
    root = root.rstrip("/")
    files = fs.find(root, maxdepth=None if recursive else 1, detail=True)
    for path in sorted(files):
        name = path[len(root) :].lstrip("/")
        if not any(part.startswith(".") for part in name.split("/")):
            yield name, files[path]


def is_pattern(url: str) -> bool:
    """Return whether a URL has braces or wildcards and is not the name of an existing file."""
    has_magic = _has_wildcards(url) or re.search(r"\{.*\}", url) is not None
    return has_magic and (is_url(url) or not os.path.lexists(url))


def _has_wildcards(url: str) -> bool:
    if url.startswith(("http://", "https://")):
        url = url.partition("?")[0]  # a query, such as a signature
    return re.search(r"[*?\[]", url) is not None


def expand_braces(pattern: str) -> list[str]:
    """Return the texts for a pattern with `{000..049}` or `{train,val}`, in order."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    if numbers := _RANGE.fullmatch(match[1]):
        first, last = numbers.groups()
        width = len(first) if first.startswith("0") else 0
        choices = [f"{n:0{width}d}" for n in range(int(first), int(last) + 1)]
    else:
        choices = match[1].split(",")
    rest = expand_braces(pattern[match.end() :])
    return [pattern[: match.start()] + a + b for a, b in itertools.product(choices, rest)]


def expand_wildcards(pattern: str) -> list[str]:
    """Return the files that a URL with wildcards names, sorted.

    A name without wildcards is returned even if no such file exists.
    """
    if not _has_wildcards(pattern) or not is_pattern(pattern):
        return [pattern]
    if not is_url(pattern):
        return sorted(glob.glob(pattern, recursive=True))
    fs, path = open_file_system(pattern)
    return sorted(fs.unstrip_protocol(name) for name in fs.glob(path))


def describe_stamp(info: Mapping[str, Any]) -> str:
    """Return the size of a file with its ETag or time, which tell a changed file from an old one.

    `info` is what fsspec's `info` returns.
    """
    stamp = next((info[key] for key in _STAMPS if info.get(key)), "")
    return f"{info.get('size')} {stamp}".rstrip()


def describe_failure(error: BaseException) -> str:
    """Return the message of an error on one line, with its type if it has no text."""
    text = one_line(getattr(error, "strerror", None) or error)
    return text[:500] or type(error).__name__
