"""Names of the files that are written for an image, which no two images share."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

from captioner.cli.batch.find_images import STDIN
from captioner.data.formats.io import IMAGE_SUFFIXES


class Names:
    """The names of what is written for the images of a run.

    They end in another suffix than the image's: `photo.jpg` has `photo.txt`. If another image in
    its folder has the same name but for the suffix, both keep theirs: `photo.jpg.txt` and
    `photo.png.txt`. That depends on what is in the folder, and not on which of its images the run
    is given or in which order.
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
        """Return the path of a file beside an image, such as its text."""
        return self._stem(path) + suffix

    def below(self, folder: str, path: str, suffix: str | None = None) -> str:
        """Return the path of a file that stands for an image in another folder.

        It has the place there that the image has below the deepest folder that holds all images.
        Without a suffix, it has the image's own name.
        """
        name = path if suffix is None else self._stem(path) + suffix
        return os.path.join(folder, os.path.relpath(os.path.abspath(name), self._base))

    def sharing(self, path: str) -> list[str]:
        """Return the images that would share the short name of an image, itself among them.

        Empty if there is no other.
        """
        folder, name = os.path.split(path)
        stem = os.path.splitext(name)[0]
        same = [x for x in self._like(folder, stem) if x == name or _clash(folder, name, x)]
        return [os.path.join(folder, x) for x in sorted(same)] if len(same) > 1 else []

    def _stem(self, path: str) -> str:
        return path if self.sharing(path) else os.path.splitext(path)[0]

    def _like(self, folder: str, stem: str) -> list[str]:
        """Return the images of a folder whose stem or whole name may be this stem."""
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
    return {name for name in names if name.lower().endswith(IMAGE_SUFFIXES)}


def _key(name: str) -> str:
    """Return what is equal for all names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _clash(folder: str, name: str, other: str) -> bool:
    """Return whether two images have one stem, or the stem of one is the name of the other."""
    stem, ending = os.path.splitext(other)
    own = os.path.splitext(name)[0]
    if own in (stem, other):
        return True
    # The stems differ in their case or encoding: the file system decides.
    if _key(own) == _key(stem):
        return _is_one_file(os.path.join(folder, own + ending), os.path.join(folder, other))
    return _is_one_file(os.path.join(folder, own), os.path.join(folder, other))


def _is_one_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False
