"""Captions beside the images: text files, and XMP in copies of them or in themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from captioner.errors import ImageError
from captioner.folders.files import put, write_whole
from captioner.folders.xmp import Described, describe
from captioner.printing import printable


class Texts:
    """Where captions are put besides their rows.

    `sidecar` is photo.txt beside photo.jpg. `copies` is a folder for copies with the caption in
    their XMP, at the places that the images have below the deepest folder that holds all `paths`;
    `in_place` is the images themselves. No file that is there and differs gives way to these, and
    no description in an image, but with `overwrite`.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        sidecar: bool = False,
        copies: str | None = None,
        in_place: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._sidecar, self._copies, self._in_place = sidecar, copies, in_place
        self._overwrite = overwrite
        folders = {os.path.dirname(os.path.abspath(path)) for path in paths} if copies else ()
        self._base = os.path.commonpath(folders) if folders else ""

    def write(self, path: str, text: str) -> Iterator[tuple[bool, str]]:
        """Put one caption everywhere; what is not done comes with whether that is a failure."""
        if self._sidecar:
            yield from self._guarded(path, self._write_sidecar, text)
        if self._copies or self._in_place:
            yield from self._guarded(path, self._write_xmp, text)

    def _guarded(self, path, write, text) -> Iterator[tuple[bool, str]]:
        try:
            if kept := write(path, text):
                yield False, kept
        except ImageError as error:
            yield True, f"{printable(path)}: {error}"
        except OSError as error:
            where = error.filename2 or error.filename or path
            where = printable(os.fsdecode(where))
            yield True, f"{printable(path)}: {where} cannot be written ({error.strerror})"

    def _write_sidecar(self, path: str, text: str) -> str:
        target = os.path.splitext(path)[0] + ".txt"
        if put(target, f"{text}\n".encode(), overwrite=self._overwrite):
            return ""
        return (
            f"{printable(target)}: is there with another text and is left; --overwrite replaces it"
        )

    def _write_xmp(self, path: str, text: str) -> str:
        with open(path, "rb") as file:
            data = file.read()
        try:
            found = describe(data, text, overwrite=self._overwrite)
        except Described as error:
            told = f"is described as {str(error)!r} already; --overwrite replaces that"
            return f"{printable(path)}: {told}"
        if self._in_place:
            if found != data:
                # A new time of change, so that backups take notice.
                write_whole(os.path.realpath(path), found, like=path, times=False)
            return ""
        target = os.path.join(self._copies, os.path.relpath(os.path.abspath(path), self._base))
        if os.path.realpath(target) == os.path.realpath(path):
            raise ImageError("its copy would replace it; give another folder, or --in-place")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if put(target, found, overwrite=self._overwrite, like=path):
            return ""
        return f"{printable(target)}: is there and differs; it is left, and --overwrite replaces it"
