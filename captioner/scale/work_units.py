"""Input shards: one tar or Parquet file, or a chunk of the images of a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from captioner.data.shards.urls import (
    absolute_url,
    describe_failure,
    describe_stamp,
    expand_braces,
    expand_wildcards,
    is_pattern,
    list_files,
    open_file_system,
)
from captioner.errors import DataError
from captioner.files import IMAGE_SUFFIXES
from captioner.sources import is_url

Kind = Literal["tar", "parquet", "images"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "tar": (".tar", ".tar.gz", ".tgz"),
    "parquet": (".parquet",),
    "images": IMAGE_SUFFIXES,
}
Files = Sequence[tuple[str, Mapping[str, Any]]]
"""Names of files, and what fsspec reports about them."""


class InputOptionsError(DataError):
    """The inputs do not fit the options."""


@dataclass(frozen=True)
class WorkUnit:
    """One input shard, which becomes one output part."""

    kind: Kind
    url: str
    """The file, or the folder of the images."""
    stamp: str
    """Size and ETag or time of the file; of a chunk, a digest of those of its images."""
    members: tuple[tuple[str, str], ...] = ()
    """Name and key of each image of a chunk."""

    @property
    def label(self) -> str:
        """The shard in messages."""
        if self.kind != "images":
            return self.url
        span = f"{self.members[0][0]} to {self.members[-1][0]}"
        return f"{self.url} ({span})" if self.url else span

    def to_json(self) -> str:
        """Return the shard as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> WorkUnit:
        """Return the shard that `to_json` has written.

        Raises:
            ValueError: The line is damaged; also KeyError and TypeError.
        """
        fields = json.loads(line)
        members = tuple((name, key) for name, key in fields["members"])
        kind, values = fields["kind"], (fields["url"], fields["stamp"])
        texts = [*values, *(text for member in members for text in member)]
        if kind not in SUFFIXES or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{line[:80]!r} is no shard")
        if kind == "images" and not members:
            raise ValueError("a chunk has no images")
        return cls(kind, *values, members)


def find_units(source: str, *, chunk: int, recursive: bool = False) -> Iterator[WorkUnit]:
    """Yield the input shards of a file, a folder or a pattern, in the order of their names.

    Args:
        source: A tar or Parquet file, a folder of them or of images, or a pattern with braces or
            wildcards; a path or a URL of fsspec.
        chunk: Number of images of a folder in one shard.
        recursive: Include files in subfolders.

    Raises:
        DataError: There is no input, it cannot be read, or several kinds of files are mixed.
    """
    url = absolute_url(source)
    try:
        folder, files = _list_inputs(url, recursive)
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be read ({describe_failure(error)})") from None
    kinds: dict[Kind, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, info in files:
        kind = kind_of(name)
        if kind is not None:
            kinds.setdefault(kind, []).append((name, info))
    if not kinds:
        expected = "expected images, .tar or .parquet files"
        hint = "" if recursive or not folder else "; --recursive includes subfolders"
        raise DataError(f"{source}: has no input; {expected}{hint}")
    if len(kinds) > 1:
        counts = " and ".join(_count_files(kind, len(found)) for kind, found in kinds.items())
        raise DataError(f"{source}: has {counts}; select one kind with a pattern")
    ((kind, found),) = kinds.items()
    if kind == "images":
        yield from _chunk_images(folder, found, chunk)
        return
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    for name, info in found:
        yield WorkUnit(kind, prefix + name, describe_stamp(info))


def _count_files(kind: Kind, count: int) -> str:
    noun = {"tar": "tar file", "parquet": "Parquet file", "images": "image"}[kind]
    return f"{count} {noun}{'s' * (count != 1)}"


def check_output(source: str, output: str) -> None:
    """Raise InputOptionsError if the output is in a folder that is read with its subfolders."""
    url, inner = (absolute_url(text).rstrip("/") for text in (source, output))
    if not is_url(url):
        url = os.path.realpath(url).rstrip(os.sep)
        inner = inner if is_url(inner) else os.path.realpath(inner)
    if inner == url or inner.startswith((f"{url}/", f"{url}{os.sep}")):
        problem = f"is in the input folder {source}, which --recursive reads"
        raise InputOptionsError(f"{output}: the output {problem}; give a folder outside of it")


def kind_of(name: str) -> Kind | None:
    """Return the kind of an input file by its suffix; None for other files."""
    for kind, suffixes in SUFFIXES.items():
        if name.lower().endswith(suffixes):
            return kind
    return None


def _list_inputs(url: str, recursive: bool) -> tuple[str, Files]:
    """Return a folder and its files, or "" and the files of a pattern; raise OSError."""
    if is_pattern(url):
        urls = sorted({u for text in expand_braces(url) for u in expand_wildcards(text)})
        if not urls:
            raise DataError(f"{url}: matches no file")
    else:
        fs, path = open_file_system(url)
        if fs.isdir(path):
            return url, list(list_files(url, recursive=recursive))
        urls = [url]
    files = []
    for name in urls:
        fs, path = open_file_system(name)
        files.append((name, fs.info(path)))
    return "", files


def _chunk_images(folder: str, files: Files, chunk: int) -> Iterator[WorkUnit]:
    known: set[str] = set()
    for start in range(0, len(files), chunk):
        digest, members = hashlib.sha256(), []
        for name, info in files[start : start + chunk]:
            stamp = describe_stamp(info)
            digest.update(f"{name}\0{stamp}\n".encode("utf-8", "surrogatepass"))
            members.append((name, _choose_key(name, known)))
        yield WorkUnit("images", folder, digest.hexdigest(), tuple(members))


def _choose_key(name: str, known: set[str]) -> str:
    """Return a key without dots, as WebDataset needs it, that no earlier image has."""
    parent, _, base = name.rpartition("/")
    prefix = f"{parent}/".lstrip("/") if parent else ""
    key = prefix + os.path.splitext(base)[0].replace(".", "_")
    if key in known:
        key = prefix + base.replace(".", "_")
    while key in known:
        key += "_"
    known.add(key)
    return key
