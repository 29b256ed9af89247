"""The local cache of shards: their indexes, copies of remote tar files, images of Parquet files.

The files of each folder of shards are in a folder of their own. A process that reads them holds a
shared lock on it until it ends, and only folders without such a lock are deleted to make room. On
systems without `fcntl`, nothing is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from captioner.data.shards.shard_files import ShardFile
from captioner.errors import DataError
from captioner.files import open_replacement

DEFAULT_GB = 50.0
"""Default bound of the cache, in gigabytes."""
_USE, _WRITE = "in-use.lock", "writing.lock"
_VERSION = 1
"""Part of the names of the folders; raise it if the indexes get another content."""
# Locks of the process; they end with it.
_held: dict[Path, BinaryIO] = {}


def default_folder() -> Path:
    """Return the folder of the cache, below that of `datasets`."""
    if folder := os.environ.get("HF_DATASETS_CACHE"):
        return Path(folder, "captioner")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(base, "huggingface")
    return Path(os.path.expanduser(home), "datasets", "captioner")


class ShardCache:
    """The cache of the shards of one data set.

    Args:
        folder: Folder of the whole cache; by default, that of `datasets`.
        limit: Most bytes of the whole cache. The indexes, which are small, are always written.
    """

    def __init__(self, folder: Path | None, limit: float) -> None:
        self.folder, self.limit = folder or default_folder(), limit

    def path_of(self, shard: ShardFile, kind: str) -> Path:
        """Return the file for a shard: its index, its copy or its images, by the suffix."""
        return self._folder_of(shard) / f"{shard.digest}-{shard.name}{kind}"

    def _folder_of(self, shard: ShardFile) -> Path:
        text = f"{_VERSION} {shard.folder}".encode("utf-8", "surrogateescape")
        name = hashlib.sha256(text).hexdigest()[:16]
        return self.folder / "shards" / name

    @contextlib.contextmanager
    def writing(self, shards: list[ShardFile]) -> Iterator[None]:
        """Keep other processes from writing files for the same shards within the block.

        The files are not deleted while this process runs. Those of earlier versions of the shards
        are deleted, unless another process reads them.

        Raises:
            DataError: The folder cannot be written.
        """
        folders = sorted({self._folder_of(shard) for shard in shards})
        with contextlib.ExitStack() as stack:
            with explain_cache(self.folder):
                for folder in folders:
                    folder.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(_locked(folder / _WRITE))
                    if _hold(folder):
                        _delete_old(folder, shards)
                    _share(folder)
            yield

    def make_room(self, size: int) -> bool:
        """Return whether a file of this size fits; delete folders that no process uses for it."""
        root = self.folder / "shards"
        sizes = {folder: _size_of(folder) for folder in root.iterdir() if folder.is_dir()}
        used = sum(sizes.values())
        if size > self.limit:
            return False
        for folder in sorted(sizes, key=_last_use):
            if used + size <= self.limit:
                break
            if folder not in _held and _delete_unused(folder):
                used -= sizes[folder]
        return used + size <= self.limit

    @contextlib.contextmanager
    def open_file(self, shard: ShardFile, kind: str) -> Iterator[BinaryIO]:
        """Open a file for a shard, which exists after the block unless there was an error."""
        with explain_cache(self.folder), open_replacement(self.path_of(shard, kind)) as file:
            yield file


@contextlib.contextmanager
def explain_cache(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError into a DataError about the cache."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: cannot hold the cache of the shards ({error.strerror or error});"
            " point HF_HOME at a folder that can be written, or lower data.cache_gb"
        ) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hold(folder: Path) -> bool:
    """Lock a folder until the process ends; return whether no other process uses it."""
    path = folder / _USE
    path.touch()  # its time is that of the last use
    if folder in _held or fcntl is None:
        return False
    _held[folder] = file = open(path, "ab")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _share(folder: Path) -> None:
    """Let other processes use a locked folder, too."""
    if fcntl is not None:
        fcntl.flock(_held[folder], fcntl.LOCK_SH)


def _delete_old(folder: Path, shards: list[ShardFile]) -> None:
    """Delete incomplete files, and the files of shards that have changed since."""
    digests = {shard.name: shard.digest for shard in shards}
    for path in folder.iterdir():
        digest, _, rest = path.name.partition("-")
        name = next((rest.removesuffix(kind) for kind in (".json", ".images")
                     if rest.endswith(kind)), rest)  # fmt: skip
        if path.suffix == ".partial" or digests.get(name, digest) != digest:
            path.unlink(missing_ok=True)


def _delete_unused(folder: Path) -> bool:
    """Delete a folder unless a process uses it; return whether it was deleted."""
    if fcntl is None:
        return False
    try:
        with open(folder / _USE, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    except OSError:
        return False
    return True


def _size_of(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:  # deleted meanwhile
        return 0


def _last_use(folder: Path) -> float:
    try:
        return (folder / _USE).stat().st_mtime
    except OSError:
        return 0.0
