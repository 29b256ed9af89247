"""Names of the files that are written for images; no two images share a name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

from captioner.cli.batch.find_images import STDIN
from captioner.cli.output import escape_path
from captioner.files import IMAGE_SUFFIXES, RAW_SUFFIXES


class OutputNames:
    """The names of the files that are written for the images of a run.

    The suffix of the image is replaced: `photo.jpg` has `photo.txt`. If the names of two images in
    a folder differ only in their suffix, both keep it: `photo.jpg.txt` and `photo.png.txt`. The
    names depend on the files in the folder, and not on which of them the run takes.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._given: dict[str, set[str]] = {}
        for path in paths:
            if path != STDIN:
                folder, name = os.path.split(path)
                self._given.setdefault(folder, set()).add(name)
        self._folders: dict[str, dict[str, list[str]]] = {}
        folders = {os.path.dirname(os.path.abspath(path)) for path in paths if path != STDIN}
        self._base = os.path.commonpath(folders) if folders else ""

    def beside(self, path: str, suffix: str) -> str:
        """Return the path of a file beside an image."""
        return self._stem(path) + suffix

    def below(self, folder: str, path: str, suffix: str | None = None) -> str:
        """Return the path of a file for an image in another folder.

        Subfolders are kept, relative to the deepest folder that contains all images. Without a
        suffix, the file has the name of the image.
        """
        name = path if suffix is None else self._stem(path) + suffix
        return os.path.join(folder, os.path.relpath(os.path.abspath(name), self._base))

    def sharing(self, path: str) -> list[str]:
        """Return an image and those that would share its short name; empty if none would."""
        folder, name = os.path.split(path)
        stem = os.path.splitext(name)[0]
        same = [x for x in self._similar(folder, stem) if x == name or _share_name(folder, name, x)]
        return [os.path.join(folder, x) for x in sorted(same)] if len(same) > 1 else []

    def report_shared(self, paths: Sequence[str], suffix: str) -> str:
        """Return a message about the images that keep their suffix; empty if none does."""
        groups = sorted({tuple(self.sharing(path)) for path in paths} - {()})
        if not groups:
            return ""
        names = "; ".join(" and ".join(map(escape_path, group)) for group in groups[:3])
        example = escape_path(self.beside(groups[0][0], suffix))
        return (
            "images that differ in their suffix alone keep it in the names of what is written for"
            f" them, such as {example} ({names}{'; ...' * (len(groups) > 3)})"
        )

    def _stem(self, path: str) -> str:
        return path if self.sharing(path) else os.path.splitext(path)[0]

    def _similar(self, folder: str, stem: str) -> list[str]:
        """Return the images of a folder whose stem or whole name may equal a stem."""
        if folder not in self._folders:
            images: dict[str, list[str]] = {}
            for name in sorted(self._given.get(folder, set()) | _images_in(folder)):
                for key in {_key(os.path.splitext(name)[0]), _key(name)}:
                    images.setdefault(key, []).append(name)
            self._folders[folder] = images
        return self._folders[folder].get(_key(stem), [])


def _images_in(folder: str) -> set[str]:
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:
        return set()
    return {name for name in names if name.lower().endswith(IMAGE_SUFFIXES + RAW_SUFFIXES)}


def _key(name: str) -> str:
    """Return a key that is equal for names that some file system regards as one."""
    return unicodedata.normalize("NFC", name).casefold()


def _share_name(folder: str, name: str, other: str) -> bool:
    """Return whether two images have one stem, or the stem of one is the name of the other."""
    stem, ending = os.path.splitext(other)
    own = os.path.splitext(name)[0]
    if own in (stem, other):
        return True
    # The stems differ in case or Unicode form: the file system decides whether they are one.
    if _key(own) == _key(stem):
        return _is_one_file(os.path.join(folder, own + ending), os.path.join(folder, other))
    return _is_one_file(os.path.join(folder, own), os.path.join(folder, other))


def _is_one_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False
