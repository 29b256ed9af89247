"""Find and open the shards of a data set, on disk or on a server.

A data set is one shard, a folder of shards, or a pattern with braces, stars and question marks,
such as `s3://bucket/train-{000..049}.tar`.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from captioner.data.example import SPLIT_NAMES, normalize_split
from captioner.data.shards.urls import (
    absolute_url,
    describe_stamp,
    expand_braces,
    expand_wildcards,
    is_pattern,
    join_url,
    list_files,
    open_file_system,
    open_url,
)
from captioner.errors import DataError
from captioner.sources import is_url

TAR, PARQUET = ".tar", ".parquet"
_COMPRESSIONS = {
    "gzip": rb"\x1f\x8b",
    "bzip2": rb"BZh\d1AY&SY",
    "xz": rb"\xfd7zXZ\0",
    "zstd": rb"\x28\xb5\x2f\xfd",
}
"""First bytes of compressed files, by the program that decompresses them."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class ShardFile:
    """A file with rows and images."""

    url: str
    """Absolute path of a local file, or a URL."""
    size: int
    version: str
    """Changes with the content: the time of modification, or what the server reports."""

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2] if is_url(self.url) else os.path.basename(self.url)

    @property
    def folder(self) -> str:
        """The folder or URL that the file is in."""
        if is_url(self.url):
            return self.url.rpartition("/")[0]
        return os.path.dirname(self.url)

    @property
    def digest(self) -> str:
        """Identifies the content."""
        text = f"{self.url} {self.size} {self.version}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


class ShardListing(NamedTuple):
    """The shards at a location; absolute paths or URLs."""

    shards: list[str]
    unread: list[str]
    """Parquet files in a folder of tar files, except those that describe one of them."""


def is_shard_address(root: str) -> bool:
    """Return whether the location of a data set is a URL or a pattern of shards."""
    return is_url(root) or is_pattern(root)


def find_shard_files(root: str) -> ShardListing:
    """Return the shards that a URL or a pattern names; those of each pattern are sorted.

    Raises:
        DataError: There is none, or they have several formats, or the server cannot be read.
    """
    url = absolute_url(os.path.expanduser(root))
    patterns = [url] if os.path.exists(url) else expand_braces(url)
    listings = [_find_remote(p) if is_url(p) else _find_local(p) for p in patterns]
    shards = list(dict.fromkeys(path for listing in listings for path in listing.shards))
    unread = list(dict.fromkeys(path for listing in listings for path in listing.unread))
    if not shards:
        raise DataError(f"{root}: no shards here; expected the path of .tar or .parquet files")
    check_suffixes(root, shards)
    return ShardListing(shards, unread)


def check_suffixes(root: str, shards: Sequence[str]) -> str:
    """Return the common suffix of shards; raise DataError if a shard cannot be read at random."""
    for shard in shards:
        if shard.lower().endswith(COMPRESSED):
            raise DataError(
                f"{shard}: is compressed, so that its images cannot be read in any order;"
                " decompress it (images hardly shrink), for example with gunzip"
            )
    suffixes = {suffix_of(shard) for shard in shards}
    if len(suffixes) > 1 or not suffixes <= {TAR, PARQUET}:
        kinds = ", ".join(sorted(suffixes))
        raise DataError(f"{root}: names files {kinds}; expected either .tar or .parquet")
    return suffixes.pop()


def check_compression(url: str, file: BinaryIO) -> None:
    """Raise DataError if a tar file is compressed, whatever its name is."""
    start = file.read(16)
    for program, pattern in _COMPRESSIONS.items():
        if re.match(pattern, start):
            raise DataError(
                f"{url}: is compressed by {program}, so that its images cannot be read in any"
                f" order; decompress it, for example with {program} -dc < OLD.tar > NEW.tar"
            )


def suffix_of(shard: str) -> str:
    """Return the suffix of a shard in lower case, without the query of a URL."""
    path = shard.partition("?")[0] if is_url(shard) else shard
    return os.path.splitext(path)[1].lower()


def _find_local(pattern: str) -> ShardListing:
    if os.path.isdir(pattern):
        paths = glob.iglob(os.path.join(glob.escape(pattern), "**"), recursive=True)
        return _choose_shards(paths)
    shards = [path for path in expand_wildcards(pattern) if os.path.exists(path)]
    if not shards:
        raise DataError(f"{pattern}: no such file; check the path or the pattern (data.root)")
    return ShardListing(shards, [])


def _choose_shards(paths: Iterable[str]) -> ShardListing:
    """Return the tar files of a folder, or else its Parquet files."""
    files = sorted(path for path in paths if suffix_of(path) in (TAR, PARQUET))
    tars = {os.path.splitext(path)[0]: path for path in files if suffix_of(path) == TAR}
    if not tars:
        return ShardListing(files, [])
    tables = (path for path in files if suffix_of(path) == PARQUET)
    unread = [path for path in tables if os.path.splitext(path)[0] not in tars]
    return ShardListing(list(tars.values()), unread)


def _find_remote(pattern: str) -> ShardListing:
    with explain_server(pattern):
        if is_pattern(pattern):
            return ShardListing(expand_wildcards(pattern), [])
        if pattern.partition("?")[0].lower().endswith((TAR, PARQUET, *COMPRESSED)):
            return ShardListing([pattern], [])
        names = (name for name, _ in list_files(pattern, recursive=True))
        return _choose_shards([join_url(pattern, name) for name in names])


def describe_shard(url: str) -> ShardFile:
    """Return a shard with its size and version; raise DataError."""
    if not is_url(url):
        try:
            status = os.stat(url)
        except OSError as error:
            raise DataError(f"{url}: cannot be read ({error.strerror}); check the path") from None
        return ShardFile(url, status.st_size, str(status.st_mtime_ns))
    with explain_server(url):
        system, path = open_file_system(url)
        info = system.info(path)
    if info.get("size") is None:
        raise DataError(f"{url}: the server does not report the size; copy the shard to a disk")
    return ShardFile(url, int(info["size"]), describe_stamp(info))


@contextmanager
def open_shard(url: str) -> Iterator[BinaryIO]:
    """Open a shard as a seekable binary file; raise DataError."""
    if is_url(url):
        with explain_server(url), open_url(url) as file:
            yield file
        return
    try:
        file = open_url(url)
    except OSError as error:
        raise DataError(f"{url}: cannot be read ({error.strerror}); check the path") from None
    with file:
        yield file


@contextmanager
def explain_server(url: str) -> Iterator[None]:
    """Turn an error of a server, or of its client, into a DataError of one line."""
    try:
        yield
    except DataError:
        raise
    except ImportError as error:  # the message of fsspec names the package
        raise DataError(f"{url}: {_first_line(error)}") from None
    except Exception as error:  # each client has errors of its own
        reason = "no such file" if isinstance(error, FileNotFoundError) else _first_line(error)
        raise DataError(
            f"{url}: cannot be read ({reason}); check the address and the credentials"
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def common_folder(shards: Sequence[str]) -> str:
    """Return the folder or URL that all shards are below."""
    if not is_url(shards[0]):
        return os.path.commonpath([os.path.dirname(shard) for shard in shards])
    columns = zip(*(shard.split("/")[:-1] for shard in shards), strict=False)
    return "/".join(parts[0] for parts in itertools.takewhile(lambda p: len(set(p)) == 1, columns))


def relative_name(shard: str, folder: str) -> str:
    """Return the path of a shard below a folder, with slashes."""
    if is_url(shard):
        return shard[len(folder) :].lstrip("/")
    return os.path.relpath(shard, folder).replace(os.sep, "/")


def split_of_shard(relative: str) -> str | None:
    """Return the split that a shard is named after, or that a folder above it is named after.

    Args:
        relative: Its path below the folder of the data set, such as `val/0000.tar` or
            `coco-train2014-000.tar`.
    """
    words = re.split(r"[^a-z]+", os.path.splitext(relative)[0].lower())
    splits = [normalize_split(word) for word in words if word in SPLIT_NAMES]
    return splits[-1] if splits else None
