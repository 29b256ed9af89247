"""The folder of a run's output, local or at a URL: publish parts once, read and append records.

A part of a local folder is linked under its final name, which fails if that exists: of several
attempts, the first one is kept. On other file systems a part is uploaded to a temporary name and
renamed, except in object stores, where an upload appears under its final name only when it is
complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from captioner.data.shards.urls import absolute_url, describe_failure, join_url, open_file_system
from captioner.errors import DataError
from captioner.files import file_digest, replace_file
from captioner.sources import is_url

PARTS = "parts"
LOCK = ".captioner.lock"
"""A file that a run holds locked until it ends."""
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "hf", "r2")
"""Protocols whose uploads are atomic."""
UPLOAD_SECONDS = 10.0
"""How often the appended lines of a remote file are uploaded."""
MOST_ATTEMPTS = 3
"""How often a part is begun in one run, if each attempt ends with the death of its process."""
_TEMPORARY = ".tmp-"


class OutputFolder:
    """The output of a run. Its methods raise DataError if a file cannot be read or written."""

    def __init__(self, url: str) -> None:
        self.url = absolute_url(url)
        self.is_remote = is_url(self.url)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs on this machine from using the folder within the block.

        Remote folders, and file systems without locks, are not locked. A folder that is created
        here and is empty at the end is removed.

        Raises:
            DataError: Another run uses the folder.
        """
        if self.is_remote or fcntl is None or os.path.isfile(self.url):
            yield
            return
        path = os.path.join(self.url, LOCK)
        is_new = not os.path.lexists(self.url)
        with self._guard(""):
            os.makedirs(self.url, exist_ok=True)
            file = open(path, "ab")  # noqa: SIM115
        with file:
            if not _try_lock(file, path):
                hint = "wait for its end, or give another folder"
                raise DataError(f"{self.url}: another run writes to this folder; {hint}")
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    os.remove(path)
                    if is_new:
                        os.rmdir(self.url)  # only if it is empty

    @contextmanager
    def new_part(self, name: str) -> Iterator[str]:
        """Yield the path of a temporary file that becomes a part when the block ends.

        The path is unique to the attempt. If the part exists by then, that one is kept.
        """
        folder = tempfile.gettempdir() if self.is_remote else os.path.join(self.url, PARTS)
        path = os.path.join(folder, f"{_TEMPORARY}{name}-{uuid.uuid4().hex}")
        try:
            with self._guard(name):
                self._mark_attempt(path)
            yield path
            with self._guard(name):
                self._publish(path, name)
        finally:
            with contextlib.suppress(OSError):
                os.remove(path)
                if self.is_remote:
                    self.remove_part(os.path.basename(path))

    def count_attempts(self, name: str) -> int:
        """Return the number of attempts at a part that have not ended, or whose process died."""
        fs, path = open_file_system(join_url(self.url, f"{PARTS}/{_TEMPORARY}{name}-*"))
        with self._guard(name):
            return len(fs.glob(path))

    def _mark_attempt(self, path: str) -> None:
        """Create the temporary file, and one of its name in a remote folder."""
        with open(path, "wb"):
            pass
        if self.is_remote:
            name = f"{PARTS}/{os.path.basename(path)}"
            fs, marker = open_file_system(join_url(self.url, name))
            fs.makedirs(marker.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(marker, b"")

    def _publish(self, path: str, name: str) -> None:
        if self.is_remote:
            fs, final = open_file_system(join_url(self.url, f"{PARTS}/{name}"))
            if fs.exists(final):
                return
            if self.url.partition(":")[0] in OBJECT_STORES:
                fs.put_file(path, final)
                return
            temporary = final.replace(name, os.path.basename(path))
            fs.put_file(path, temporary)
            fs.mv(temporary, final)
            return
        final = os.path.join(self.url, PARTS, name)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(path, final)
        except FileExistsError:
            return
        except OSError:  # a file system without links
            os.replace(path, final)

    def digest(self, name: str) -> tuple[str, int] | None:
        """Return the SHA-256 and the size of a part; None if there is none."""
        with self._guard(name):
            size = self.size(name)
            if size is None:
                return None
            if not self.is_remote:
                return file_digest(os.path.join(self.url, PARTS, name)), size
            fs, path = open_file_system(join_url(self.url, f"{PARTS}/{name}"))
            digest = hashlib.sha256()
            with fs.open(path, "rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
            return digest.hexdigest(), size

    def size(self, name: str) -> int | None:
        """Return the size of a part in bytes; None if there is none."""
        fs, path = open_file_system(join_url(self.url, f"{PARTS}/{name}"))
        with self._guard(name):
            try:
                return int(fs.info(path)["size"])
            except FileNotFoundError:
                return None

    def list_parts(self) -> list[str]:
        """Return the names of all parts and temporary files."""
        fs, path = open_file_system(join_url(self.url, PARTS))
        with self._guard(PARTS):
            if not fs.isdir(path):
                return []
            return [name.rpartition("/")[2] for name in fs.ls(path, detail=False)]

    def remove_part(self, name: str) -> None:
        """Remove a part or a temporary file."""
        fs, path = open_file_system(join_url(self.url, f"{PARTS}/{name}"))
        with self._guard(name), contextlib.suppress(FileNotFoundError):
            fs.rm_file(path)

    def remove_run(self, names: Iterable[str]) -> None:
        """Remove files of a run without parts, and the empty folder of the parts."""
        for name in names:
            fs, path = open_file_system(join_url(self.url, name))
            with self._guard(name), contextlib.suppress(FileNotFoundError):
                fs.rm_file(path)
        fs, path = open_file_system(join_url(self.url, PARTS))
        with contextlib.suppress(Exception):  # object stores have no empty folders
            fs.rmdir(path)

    def is_empty(self) -> bool:
        """Return whether the folder is missing or has no files."""
        fs, path = open_file_system(self.url)
        with self._guard(""):
            if fs.isfile(path):
                raise DataError(f"{self.url}: is a file; give a folder")
            names = fs.ls(path, detail=False) if fs.isdir(path) else []
        return all(name.rpartition("/")[2] == LOCK for name in names)

    def list_names(self) -> set[str]:
        """Return the names in the folder, without hidden ones."""
        fs, path = open_file_system(self.url)
        with self._guard(""):
            names = {name.rstrip("/").rpartition("/")[2] for name in fs.ls(path, detail=False)}
        return {name for name in names if not name.startswith(".")}

    def create(self) -> None:
        """Create the folder and that of the parts."""
        fs, path = open_file_system(join_url(self.url, PARTS))
        with self._guard(""):
            fs.makedirs(path, exist_ok=True)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        fs, path = open_file_system(join_url(self.url, name))
        with self._guard(name):
            try:
                data: bytes = fs.cat_file(path)
            except FileNotFoundError:
                return None
            return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small file atomically."""
        with self._guard(name):
            if self.is_remote:
                fs, path = open_file_system(join_url(self.url, name))
                fs.pipe_file(path, data)
            else:
                replace_file(os.path.join(self.url, name), data)

    @contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = join_url(self.url, name) if name else self.url
            raise DataError(
                f"{place}: cannot be read or written ({describe_failure(error)})"
            ) from None


class AppendedFile:
    """Lines that are appended to a file of the output, each flushed to the disk.

    Remote files cannot be appended to: their lines are kept in a temporary file, which is uploaded
    every `UPLOAD_SECONDS` and at the end.
    """

    def __init__(self, output: OutputFolder, name: str) -> None:
        self._output, self._name = output, name
        earlier = output.read(name) or b""
        # A line that was cut by a crash would be joined with the next one.
        whole = earlier[: earlier.rfind(b"\n") + 1]
        if output.is_remote:
            handle, path = tempfile.mkstemp(prefix="captioner-")
            os.close(handle)
            Path(path).write_bytes(whole)
        else:
            path = os.path.join(output.url, name)
            if whole != earlier:
                output.write(name, whole)
        self._path = path
        self._file = open(path, "ab")  # noqa: SIM115
        self._uploaded = time.monotonic()

    def append(self, line: str) -> None:
        """Append one line and flush it to the disk."""
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._output.is_remote and time.monotonic() - self._uploaded > UPLOAD_SECONDS:
            self._upload()

    def close(self) -> None:
        """Close the file and upload it if it is remote."""
        self._file.close()
        if self._output.is_remote:
            self._upload()
            os.remove(self._path)

    def _upload(self) -> None:
        self._output.write(self._name, Path(self._path).read_bytes())
        self._uploaded = time.monotonic()


def _try_lock(file: BinaryIO, path: str) -> bool:
    """Lock an open file until it is closed; return whether no other process has done so."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another run may have removed the file since it was opened.
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks
        return True


def is_temporary(name: str) -> bool:
    """Return whether a file among the parts was left by an interrupted attempt."""
    return name.startswith(_TEMPORARY)
