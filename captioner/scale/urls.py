"""Files and folders by URL, through fsspec: local paths, object stores and others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from captioner.errors import DataError
from captioner.extras import explain_missing

_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
"""Keys of fsspec's `info` that change when the content of a file changes, best first."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_remote(url: str) -> bool:
    """Return whether a name is a URL and not a path of this machine."""
    return "://" in url and not url.startswith(("file://", "local://"))


def absolute_url(url: str) -> str:
    """Return a URL that does not depend on the working folder."""
    return url if is_remote(url) else os.path.abspath(re.sub(r"^(file|local)://", "", url))


def open_file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path within it.

    Raises:
        DataError: The protocol is unknown, or its library is not installed.
    """
    with explain_missing("captioner scale"):
        import fsspec
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise DataError(f"{url}: cannot be opened ({one_line(error)})") from None


def open_url(url: str) -> BinaryIO:
    """Open a file for reading; raise OSError."""
    if not is_remote(url):
        return open(url, "rb")
    fs, path = open_file_system(url)
    file: BinaryIO = fs.open(path, "rb")
    return file


def join_url(folder: str, name: str) -> str:
    """Return the URL of a file in a folder; an absolute path or URL is returned as it is."""
    if is_remote(name) or os.path.isabs(name):
        return name
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def list_files(folder: str, *, recursive: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the files of a folder, sorted by name: name relative to the folder, and information.

    Hidden files and folders are left out.
    """
    fs, root = open_file_system(folder)
    root = root.rstrip("/")
    found = fs.find(root, maxdepth=None if recursive else 1, detail=True)
    for path in sorted(found):
        name = path[len(root) :].lstrip("/")
        if not any(part.startswith(".") for part in name.split("/")):
            yield name, found[path]


def expand_pattern(pattern: str) -> list[str]:
    """Return the files that a URL with braces or wildcards names, sorted.

    Braces are expanded first: `{000..049}` counts, `{a,b}` lists. A name without wildcards is
    returned even if no such file exists.
    """
    urls: list[str] = []
    for url in _expand_braces(pattern):
        if not re.search(r"[*?\[]", url):
            urls.append(url)
            continue
        fs, path = open_file_system(url)
        names = fs.glob(path)
        urls += [fs.unstrip_protocol(name) if is_remote(url) else name for name in names]
    return sorted(dict.fromkeys(urls))


def is_pattern(url: str) -> bool:
    """Return whether a URL has braces or wildcards and is not the name of an existing file."""
    has_magic = re.search(r"[*?\[]|\{.*\}", url) is not None
    return has_magic and (is_remote(url) or not os.path.lexists(url))


def _expand_braces(pattern: str) -> Iterator[str]:
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    span = _RANGE.fullmatch(match[1])
    if span:
        first, last = span.groups()
        width = len(first) if first.startswith("0") else 0
        words = [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    else:
        words = match[1].split(",")
    for word in words:
        yield from _expand_braces(pattern[: match.start()] + word + pattern[match.end() :])


def describe_stamp(info: Mapping[str, Any]) -> str:
    """Return the size of a file with its ETag or time, which tell a changed file from an old one.

    `info` is what fsspec's `info` returns.
    """
    stamp = next((info[key] for key in _STAMPS if info.get(key)), "")
    return f"{info.get('size')} {stamp}".rstrip()


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, with its type if it has no text."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:500] or type(error).__name__
