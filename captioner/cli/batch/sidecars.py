"""Write captions and keywords of images to text files and XMP: beside, in copies or in place."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial

from captioner.cli.batch.dedupe import is_binary, read_bytes
from captioner.cli.batch.output_names import OutputNames
from captioner.cli.batch.xmp import read_description, read_packet, write_metadata
from captioner.cli.batch.xmp_files import find_targets, write_beside
from captioner.cli.batch.xmp_properties import Entry, Origin, clean_text, read_origin
from captioner.cli.generate_options import BatchOptions
from captioner.cli.output import escape_path
from captioner.errors import ImageError
from captioner.files import open_replacement, write_file


class SidecarWriter:
    """Writes captions to text files beside the images and to XMP metadata.

    Without `overwrite`, it replaces no text, image or description except the caption that an
    earlier run wrote for the former content of the same image (`previous`). It never replaces the
    `reserved` files, which the run reads or writes.
    """

    def __init__(
        self,
        names: OutputNames,
        options: BatchOptions,
        *,
        reserved: Collection[str] = (),
        origin: Origin | None = None,
    ) -> None:
        self._names, self._overwrite = names, options.overwrite
        self._sidecar, self._copies = options.sidecar, options.copies
        self._in_place, self._origin = options.in_place, origin
        self._beside = options.xmp_names or "full" if options.xmp_sidecar else None
        self._has_description = not options.keywords_only
        self._reserved = {os.path.realpath(path) for path in reserved}
        self._written: dict[tuple[int, int], str] = {}
        """The image of each file that this run has written, by the identity of the file."""

    def write(
        self, path: str, text: str, keywords: Collection[str] = (), previous: str | None = None
    ) -> Iterator[tuple[bool, str]]:
        """Write one caption; yield whether each problem is a failure, and a message."""
        entry = self._make_entry(path, text, keywords, previous)
        writers = [partial(self._write_sidecar, path, text, previous)] if self._sidecar else []
        if self._copies or self._in_place:
            writers.append(partial(self._write_xmp, path, entry, previous))
        for target in self._find_files(path):
            writers.append(partial(self._write_beside, path, target, entry, previous))
        for write in writers:
            try:
                if problem := write():
                    yield False, problem
            except ImageError as error:
                yield True, f"{escape_path(path)}: {error}"
            except OSError as error:
                where = error.filename2 or error.filename or path
                where = escape_path(os.fsdecode(where))
                yield True, f"{escape_path(path)}: {where} cannot be written ({error.strerror})"
        if self._overwrite and entry.description and (kept := entry.embedded_description):
            problem = f"the description {kept!r} in its IPTC or EXIF is not replaced"
            yield False, f"{escape_path(path)}: {problem}; programs that prefer XMP hide it"

    def _make_entry(
        self, path: str, text: str, keywords: Collection[str], previous: str | None
    ) -> Entry:
        """Return what is written to XMP; captions of this and the last run count as own."""
        entry = Entry(text if self._has_description else "", tuple(keywords), self._origin)
        if not (self._copies or self._in_place or self._beside):
            return entry
        from captioner.cli.batch.embedded_texts import read_embedded_texts  # imports Pillow

        embedded = read_embedded_texts(path)
        own = (clean_text(text), clean_text(previous or ""))
        others = (description for description in embedded.descriptions if description not in own)
        description = next(others, "")
        return replace(entry, embedded_description=description, embedded_keywords=embedded.keywords)

    def _write_sidecar(self, path: str, text: str, previous: str | None) -> str:
        target = self._names.beside(path, ".txt")
        self._check(path, target)
        if self._overwrite and is_binary(target):
            raise ImageError(f"{escape_path(target)} is not a text file and is kept; rename it")
        own = previous is not None and read_bytes(target) == f"{previous}\n".encode()
        if write_file(target, f"{text}\n".encode(), overwrite=self._overwrite or own):
            self._record(path, target)
            return ""
        kept = "exists with another text and is kept; --overwrite replaces it"
        return f"{escape_path(target)}: {kept}"

    def _find_files(self, path: str) -> list[str]:
        """Return the files of XMP beside an image that are written."""
        if self._beside is None:
            return []
        return find_targets(path, self._names.sharing(path), self._beside)

    def _write_beside(self, path: str, target: str, entry: Entry, previous: str | None) -> str:
        self._check(path, target)
        try:
            overwrite = self._overwrite
            kept = write_beside(path, target, entry, previous=previous, overwrite=overwrite)
        except ImageError as error:
            raise ImageError(f"{escape_path(target)} {error}; it is kept") from None
        self._record(path, target)
        return _describe_kept(target, kept)

    def _write_xmp(self, path: str, entry: Entry, previous: str | None) -> str:
        with open(path, "rb") as file:
            data = file.read()
        overwrite = self._overwrite or _is_described(data, previous)
        described, kept = write_metadata(data, entry, overwrite=overwrite)
        if described is None or (kept and described == data):
            return _describe_kept(path, kept)
        if self._in_place:
            if described != data:
                check_is_writable(path)
                # The modification time is updated, so that backups copy the file.
                with open_replacement(os.path.realpath(path), like=path, times=False) as file:
                    file.write(described)
            return _describe_kept(path, kept)
        target = self._names.below(self._copies or "", path)
        if os.path.realpath(target) == os.path.realpath(path):
            raise ImageError("its copy would overwrite it; choose another folder or --in-place")
        self._check(path, target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        copy = read_bytes(target)
        if (earlier := _origin_of(copy)) is not None:
            # A copy of an earlier run may differ in its date alone.
            again, _ = write_metadata(data, replace(entry, origin=earlier), overwrite=overwrite)
            described = copy if copy is not None and again == copy else described
        own = _is_described(copy, previous)
        if write_file(target, described, overwrite=self._overwrite or own, like=path):
            self._record(path, target)
            return _describe_kept(path, kept)
        kept = "exists with other content and is kept; --overwrite replaces it"
        return f"{escape_path(target)}: {kept}"

    def _check(self, path: str, target: str) -> None:
        """Raise ImageError if a file must not be replaced, even with --overwrite."""
        if os.path.realpath(target) in self._reserved:
            raise ImageError(f"{escape_path(target)} is read or written by this run; rename one")
        image = os.path.realpath(path)
        identity = _identity(target)
        other = self._written.get(identity, image) if identity else image
        if other != image:
            raise ImageError(f"{escape_path(target)} belongs to {escape_path(other)}; rename one")

    def _record(self, path: str, target: str) -> None:
        if identity := _identity(target):
            self._written[identity] = os.path.realpath(path)


def check_is_writable(path: str) -> None:
    """Raise ImageError if the permissions of a file forbid writing; a replacement ignores them."""
    if not os.access(path, os.W_OK):
        raise ImageError("is read-only and is kept; allow writing to it, or use --xmp-sidecar")


def _identity(path: str) -> tuple[int, int] | None:
    """Return a key that is equal for all names of one file; None if the file does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _describe_kept(path: str, kept: str) -> str:
    """Return a message about another description in a file, or an empty text without one."""
    if not kept:
        return ""
    problem = f"already has the description {kept!r}; --overwrite replaces it"
    return f"{escape_path(path)}: {problem}"


def _origin_of(data: bytes | None) -> Origin | None:
    """Return what made the description of an image, None if that is not known."""
    try:
        packet = None if data is None else read_packet(data)
        return None if packet is None else read_origin(packet)
    except ImageError:
        return None


def _is_described(data: bytes | None, text: str | None) -> bool:
    """Return whether an image has the text as its description."""
    if data is None or text is None:
        return False
    try:
        return read_description(data) == " ".join(text.split())
    except ImageError:
        return False
