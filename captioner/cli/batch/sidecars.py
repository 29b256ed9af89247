"""Write captions beside the images: as text files, and as XMP in copies or in the images."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from captioner.cli.batch.dedupe import is_binary, read_bytes
from captioner.cli.batch.output_names import Names
from captioner.cli.batch.xmp import Described, describe, description
from captioner.cli.output import printable
from captioner.errors import ImageError
from captioner.files import replace_file, write_file


class Texts:
    """Where captions are written besides their rows.

    No other text, image or description is replaced without `overwrite`, but for the caption that
    an earlier run has written for a former content of the same file (`previous`).

    Args:
        names: The names of what is written.
        sidecar: Write photo.txt beside photo.jpg.
        copies: A folder for copies of the images with the caption in their XMP.
        in_place: Write the XMP into the images themselves.
        reserved: Files that the run reads or writes, which no text may replace.
    """

    def __init__(
        self,
        names: Names,
        *,
        sidecar: bool = False,
        copies: str | None = None,
        in_place: bool = False,
        overwrite: bool = False,
        reserved: Collection[str] = (),
    ) -> None:
        self._names, self._overwrite = names, overwrite
        self._sidecar, self._copies, self._in_place = sidecar, copies, in_place
        self._reserved = {os.path.realpath(path) for path in reserved}
        self._written: dict[tuple[int, int], str] = {}
        """The image of each file that this run has written, by the file's identity."""

    def write(
        self, path: str, text: str, previous: str | None = None
    ) -> Iterator[tuple[bool, str]]:
        """Write one caption everywhere; yield what is not done, and whether that is a failure."""
        if self._sidecar:
            yield from self._guarded(path, self._write_sidecar, text, previous)
        if self._copies or self._in_place:
            yield from self._guarded(path, self._write_xmp, text, previous)

    def _guarded(self, path, write, text, previous) -> Iterator[tuple[bool, str]]:
        try:
            if problem := write(path, text, previous):
                yield False, problem
        except ImageError as error:
            yield True, f"{printable(path)}: {error}"
        except OSError as error:
            where = error.filename2 or error.filename or path
            where = printable(os.fsdecode(where))
            yield True, f"{printable(path)}: {where} cannot be written ({error.strerror})"

    def _write_sidecar(self, path: str, text: str, previous: str | None) -> str:
        target = self._names.beside(path, ".txt")
        self._check(path, target)
        if self._overwrite and is_binary(target):
            raise ImageError(f"{printable(target)} is no text and is kept; rename it")
        own = previous is not None and read_bytes(target) == f"{previous}\n".encode()
        if write_file(target, f"{text}\n".encode(), overwrite=self._overwrite or own):
            self._note(path, target)
            return ""
        return (
            f"{printable(target)}: is there with another text and is kept; --overwrite replaces it"
        )

    def _write_xmp(self, path: str, text: str, previous: str | None) -> str:
        with open(path, "rb") as file:
            data = file.read()
        own = _is_described(data, previous)
        try:
            described = describe(data, text, overwrite=self._overwrite or own)
        except Described as error:
            return (
                f"{printable(path)}: is described as {str(error)!r} already; --overwrite replaces"
                " that"
            )
        if self._in_place:
            if described != data:
                # A new time of change, so that backups take notice.
                replace_file(os.path.realpath(path), described, like=path, times=False)
            return ""
        target = self._names.below(self._copies, path)
        if os.path.realpath(target) == os.path.realpath(path):
            raise ImageError("its copy would replace it; give another folder, or --in-place")
        self._check(path, target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        own = _is_described(read_bytes(target), previous)
        if write_file(target, described, overwrite=self._overwrite or own, like=path):
            self._note(path, target)
            return ""
        return f"{printable(target)}: is there and differs; it is kept, and --overwrite replaces it"

    def _check(self, path: str, target: str) -> None:
        """Raise ImageError if a file must not be replaced, whatever the flags say."""
        if os.path.realpath(target) in self._reserved:
            raise ImageError(f"{printable(target)} is read or written by this run; rename one")
        image = os.path.realpath(path)
        other = self._written.get(_identity(target), image)
        if other != image:
            raise ImageError(f"{printable(target)} holds what was written for {printable(other)}")

    def _note(self, path: str, target: str) -> None:
        if identity := _identity(target):
            self._written[identity] = os.path.realpath(path)


def _identity(path: str) -> tuple[int, int]:
    """Return what is equal for two names of one file; empty if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino


def _is_described(data: bytes | None, text: str | None) -> bool:
    """Return whether an image has a text as its description."""
    if data is None or text is None:
        return False
    try:
        return description(data) == " ".join(text.split())
    except ImageError:
        return False
