"""Locate the folder that holds the images of a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from captioner.data.formats.io import Source, is_file, is_folder
from captioner.sources import is_url, parse_member

# Folder names that the common archives unpack to, in lower case; the first is spelled so.
_IMAGE_FOLDERS = (
    *("flicker8k_dataset", "flickr8k_dataset", "flickr8k_images", "flickr30k_images"),
    *("flickr30k-images", "images", "image", "imgs"),
)


class FolderIndex:
    """Check whether files exist with one directory listing per folder.

    COCO has 120,000 images in a folder: one `scandir` takes a fraction of the time of a `stat`
    call per file, above all on a network file system.
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._containers: dict[str, bool] = {}

    def contains(self, path: str) -> bool:
        """Return whether the file exists; for a member, the file that holds it.

        The listing of a folder may be older than a shard that is copied to a cache meanwhile.
        """
        if member := parse_member(path):
            container = member.container
            if container not in self._containers:
                self._containers[container] = is_url(container) or os.path.exists(container)
            return self._containers[container]
        folder, name = os.path.split(path)
        if folder not in self._names:
            self._names[folder] = _list_names(folder)
        return name in self._names[folder]


def _list_names(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if is_file(entry))
    except (OSError, ValueError):  # ValueError: a NUL in a name from a broken row
        return frozenset()


def choose_image_folder(
    source: Source, names: Sequence[str], *, folders: Sequence[str] = ()
) -> Path:
    """Return the folder that holds the images (relative paths), or else the first candidate.

    With the first candidate, the missing images are reported one by one.
    """
    folder = find_image_folder(source, names, folders=folders)
    return folder or _candidate_folders(source, folders)[0]


def find_image_folder(
    source: Source, names: Sequence[str], *, folders: Sequence[str] = ()
) -> Path | None:
    """Return the first candidate folder that holds any of a sample of the images, or None.

    Candidates are `source.images` if it is given, otherwise the folder of the data set, the folder
    of the annotation file and its parent. Subfolders named as in `folders`, or as the common
    archives name them, come first, and may be nested (some archives unpack to `Images/Images`).
    """
    sample = names[:: max(1, len(names) // 16)]
    for folder in _candidate_folders(source, folders):
        if any(_is_file(folder, name) for name in sample):
            return folder
    return None


def _candidate_folders(source: Source, folders: Sequence[str]) -> list[Path]:
    wanted = (*(name.lower() for name in folders), *_IMAGE_FOLDERS)
    if source.images is not None:
        return [source.images, *_subfolders(source.images, wanted)]
    beside = source.files[0].parent
    bases = list(dict.fromkeys([source.root, beside, beside.parent]))
    named = [folder for base in bases for folder in _subfolders(base, wanted)]
    nested = [inner for folder in named for inner in _subfolders(folder, wanted)]
    return [*named, *nested, *bases]


def _subfolders(base: Path, wanted: Sequence[str]) -> list[Path]:
    """Return the subfolders with the wanted names, in that order; letter case is ignored."""
    try:
        with os.scandir(base) as entries:
            present = {entry.name.lower(): entry.name for entry in entries if is_folder(entry)}
    except OSError:
        return []
    direct = [base / present[name] for name in wanted if name in present]
    deeper = [base / name for name in wanted if "/" in name and (base / name).is_dir()]
    return direct + deeper


def _is_file(folder: Path, name: str) -> bool:
    try:
        return os.path.isfile(folder / name)
    except ValueError:  # a NUL in the name
        return False
