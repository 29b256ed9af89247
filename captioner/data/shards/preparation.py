"""Index the shards of a data set, and copy remote ones to the local cache.

A remote tar file is copied while the cache has room; the images of the others are read by range
requests. Parquet files allow no quick access to single rows, so their images are written to the
cache, whether they are remote or not.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from tqdm import tqdm

from captioner.data.shards.parquet_rows import extract_parquet
from captioner.data.shards.shard_cache import ShardCache
from captioner.data.shards.shard_files import (
    PARQUET,
    ShardFile,
    describe_shard,
    explain_server,
    open_shard,
    suffix_of,
)
from captioner.data.shards.tar_index import ShardIndex, index_tar
from captioner.errors import DataError
from captioner.sources import is_url

logger = logging.getLogger(__name__)

INDEX, IMAGES = ".json", ".images"
_CONNECTIONS = 8
"""Shards that are copied, or whose headers are read by range requests, at a time."""
_BLOCK = 2**24
_PARALLEL = 2**28
"""Bytes of tar files above which several processes read the headers."""


@dataclass(frozen=True)
class Shard:
    """A shard whose images can be read."""

    url: str
    """Absolute path or URL, as the user knows it."""
    container: str
    """The file or URL that holds the bytes of the images."""
    index: ShardIndex


def prepare_shards(urls: Sequence[str], cache: ShardCache) -> Iterator[Shard]:
    """Yield the shards in order, one at a time in memory.

    Raises:
        DataError: A shard or the cache cannot be read, or a Parquet file exceeds the cache.
    """
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        describe = threads.map if any(map(is_url, urls)) else map
        shards = list(describe(describe_shard, urls))
    with cache.writing(shards):
        _extract([shard for shard in shards if suffix_of(shard.url) == PARQUET], cache)
        tars = [shard for shard in shards if suffix_of(shard.url) != PARQUET]
        _copy([shard for shard in tars if is_url(shard.url)], cache)
        _write_indexes(tars, cache)
    for shard in shards:
        index = ShardIndex.from_json(cache.path_of(shard, INDEX).read_bytes())
        yield Shard(shard.url, _container_of(shard, cache), index)


def _container_of(shard: ShardFile, cache: ShardCache) -> str:
    """Return the file or URL that holds the images of a shard."""
    if suffix_of(shard.url) == PARQUET:
        return str(cache.path_of(shard, IMAGES).absolute())
    if is_url(shard.url) and (copy := cache.path_of(shard, "")).exists():
        return str(copy.absolute())
    return shard.url


def _extract(shards: list[ShardFile], cache: ShardCache) -> None:
    """Write the images and the index of each Parquet file that has none."""
    left = [shard for shard in shards if not cache.path_of(shard, INDEX).exists()]
    for shard in tqdm(left, "reading Parquet files", unit=" files", disable=len(left) < 2):
        if not cache.make_room(shard.size):
            raise DataError(
                f"{shard.url}: its images ({shard.size / 1e9:.3g} GB) exceed the cache of"
                f" {cache.limit / 1e9:g} GB; raise data.cache_gb, or convert the data to tar files"
            )
        with cache.open_file(shard, IMAGES) as images:
            index = extract_parquet(shard.url, images)
        with cache.open_file(shard, INDEX) as file:
            file.write(index.to_json())


def _copy(shards: list[ShardFile], cache: ShardCache) -> None:
    """Copy remote shards, in order, while the cache has room."""
    left = [shard for shard in shards if not cache.path_of(shard, "").exists()]
    total, fitting = 0, list[ShardFile]()
    for shard in left:
        if not cache.make_room(total + shard.size):
            break
        total += shard.size
        fitting.append(shard)
    if len(fitting) < len(left):
        logger.info(
            "%d of %d shards exceed the cache of %g GB (data.cache_gb): their images are read by"
            " range requests",
            len(left) - len(fitting),
            len(shards),
            cache.limit / 1e9,
        )
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        copies = threads.map(lambda shard: _copy_shard(shard, cache), fitting)
        few = len(fitting) < 2
        list(tqdm(copies, "copying shards", len(fitting), unit=" shards", disable=few))


def _copy_shard(shard: ShardFile, cache: ShardCache) -> None:
    with open_shard(shard.url) as source, cache.open_file(shard, "") as file:
        block = b"start"
        while block:
            with explain_server(shard.url):
                block = source.read(_BLOCK)
            file.write(block)
        if file.tell() != shard.size:
            problem = f"only {file.tell()} of {shard.size} bytes arrived"
            raise DataError(f"{shard.url}: {problem}; start again")


def _write_indexes(shards: list[ShardFile], cache: ShardCache) -> None:
    """Write the index of each tar file that has none."""
    left = [shard for shard in shards if not cache.path_of(shard, INDEX).exists()]
    containers = [_container_of(shard, cache) for shard in left]
    places = list(zip(left, containers, strict=True))
    remote = [shard for shard, path in places if is_url(path)]
    local = [(shard, path) for shard, path in places if not is_url(path)]
    bar = tqdm(desc="indexing shards", total=len(left), unit=" shards", disable=len(left) < 2)
    with bar, ThreadPoolExecutor(_CONNECTIONS) as threads:
        done = itertools.chain(
            _index_local(local),
            zip(remote, threads.map(_index_shard, remote, [s.url for s in remote]), strict=True),
        )
        for shard, data in done:
            with cache.open_file(shard, INDEX) as file:
                file.write(data)
            bar.update()


def _index_local(places: list[tuple[ShardFile, str]]) -> Iterator[tuple[ShardFile, bytes]]:
    """Yield the shards with their indexes; many are read in several processes."""
    left = places
    workers = min(os.cpu_count() or 1, len(places), _CONNECTIONS)
    large = sum(shard.size for shard, _ in places) > _PARALLEL
    if workers > 1 and large and not multiprocessing.current_process().daemon:
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                indexes = pool.map(_index_shard, *zip(*places, strict=True))
                for (shard, _), data in zip(places, indexes, strict=True):
                    left = left[1:]
                    yield shard, data
        except BrokenProcessPool:  # a script that starts processes when it is imported
            logger.warning("the processes that index shards ended early; one process goes on")
    for shard, path in left:
        yield shard, _index_shard(shard, path)


def _index_shard(shard: ShardFile, container: str) -> bytes:
    """Return the index of a tar file as JSON; raise DataError."""
    try:
        with open_shard(container) as file:
            return index_tar(file, shard.size, shard.name).to_json()
    except OSError as error:
        raise DataError(
            f"{shard.url}: cannot be read ({error.strerror or error}); check the disk"
        ) from None
