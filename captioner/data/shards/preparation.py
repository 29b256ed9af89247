"""Index the shards of a data set, and copy remote ones to the local cache.

A remote tar file is copied while the cache has room; the images of the others are read by range
requests. Parquet files allow no quick access to single rows, so their images are written to the
cache, whether they are remote or not.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE
from typing import NamedTuple, NoReturn

from tqdm import tqdm

from captioner.data.shards.parquet_rows import extract_parquet
from captioner.data.shards.shard_cache import ShardCache, explain_cache
from captioner.data.shards.shard_files import (
    PARQUET,
    ShardFile,
    check_compression,
    describe_shard,
    explain_server,
    open_shard,
    suffix_of,
)
from captioner.data.shards.tar_index import ShardIndex, index_tar
from captioner.errors import DataError
from captioner.files import replace_file
from captioner.sources import is_url

logger = logging.getLogger(__name__)

INDEX, IMAGES = ".json", ".images"
_CONNECTIONS = 8
"""Shards that are copied, or whose headers are read by range requests, at a time."""
_BLOCK = 2**24
PARALLEL_BYTES = 2**28
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
    left = [
        shard
        for shard in shards
        if not all(cache.path_of(shard, kind).exists() for kind in (INDEX, IMAGES))
    ]
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
    jobs = [
        _Job(shard.url, _container_of(shard, cache), shard.size, str(cache.path_of(shard, INDEX)))
        for shard in shards
        if not cache.path_of(shard, INDEX).exists()
    ]
    local = [job for job in jobs if not is_url(job.container)]
    with tqdm(
        desc="indexing shards", total=len(jobs), unit=" shards", disable=len(jobs) < 2
    ) as bar:
        if sum(job.size for job in local) > PARALLEL_BYTES:
            _run_processes(local, bar)
        with ThreadPoolExecutor(_CONNECTIONS if len(local) < len(jobs) else 1) as threads:
            for _ in threads.map(_index_shard, [j for j in jobs if not os.path.exists(j.target)]):
                bar.update()


class _Job(NamedTuple):
    """A tar file to index."""

    url: str
    container: str
    """Path or URL that is read."""
    size: int
    """Number of bytes."""
    target: str
    """Path of the index to write."""


def _run_processes(jobs: list[_Job], bar: tqdm[NoReturn]) -> None:
    """Index tar files in processes of their own; those that fail are left to the caller.

    `multiprocessing` is not used, because it would import the user's script in each process.
    """
    workers = min(os.cpu_count() or 1, len(jobs), _CONNECTIONS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", f"import {__name__} as module; module.index_from_stdin()"]
    processes = []
    try:
        for worker in range(workers if workers > 1 else 0):
            process = subprocess.Popen(
                command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, text=True
            )
            processes.append(process)
            assert process.stdin is not None
            with process.stdin as file:
                json.dump(jobs[worker::workers], file)
        for process in processes:
            for _ in process.stdout or ():
                bar.update()
    except OSError as error:
        logger.warning("the shards are indexed in one process (%s)", error)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def index_from_stdin() -> None:
    """Index the tar files that standard input names; write a line for each.

    This is the content of the processes that index many shards.
    """
    for job in json.load(sys.stdin):
        _index_shard(_Job(*job))
        sys.stdout.write("\n")
        sys.stdout.flush()


def _index_shard(job: _Job) -> None:
    """Write the index of a tar file; raise DataError."""
    try:
        with open_shard(job.container) as file:
            check_compression(job.url, file)
            index = index_tar(file, job.size, os.path.basename(job.url))
    except OSError as error:
        raise DataError(
            f"{job.url}: cannot be read ({error.strerror or error}); check the disk"
        ) from None
    with explain_cache(os.path.dirname(job.target)):
        replace_file(job.target, index.to_json())
