"""Find copies of images: equal bytes, and edited copies by perceptual hashes.

The Hamming distances of all pairs of hashes are computed in blocks, which takes a second for 25,000
images. Pairs of near hashes are verified by `captioner.quality.alignment`.

Shapes: N images, B images of a block, P pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from captioner.data.duplicates import group_equal_files
from captioner.quality.alignment import MIN_PLAIN, is_copy, reduce_thumbnails
from captioner.quality.image_facts import ImageFacts

MAX_DISTANCE = 18
"""Largest distance of the 64-bit hashes of copies; 3 % of those edited strongly exceed it."""
_BLOCK = 2**22
"""Pairs of hashes that are compared at a time."""


class CopyGroups:
    """Groups of images that are copies of each other (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self.equal: dict[str, str] = {}
        """The first image with equal bytes, for images that have one."""
        self.mirrored: set[frozenset[str]] = set()
        """Pairs of which one is the mirror image of the other."""

    def find(self, path: str) -> str:
        """Return the representative of the group of an image."""
        root = path
        while (parent := self._parents.get(root, root)) != root:
            root = parent
        while path != root:
            self._parents[path], path = root, self._parents[path]
        return root

    def join(self, first: str, second: str) -> None:
        """Put two images into one group."""
        a, b = self.find(first), self.find(second)
        self._parents[a] = self._parents.setdefault(b, b)

    def list_groups(self, paths: Sequence[str]) -> list[list[str]]:
        """Return the groups of at least two of the images, in the order of the images."""
        groups: dict[str, list[str]] = {}
        for path in paths:
            groups.setdefault(self.find(path), []).append(path)
        return [group for group in groups.values() if len(group) > 1]


def find_copies(facts: Mapping[str, ImageFacts]) -> CopyGroups:
    """Return the groups of copies among images; those that cannot be decoded have none.

    Blank images have equal bytes or no copies, because one is as like another.
    """
    groups = CopyGroups()
    for equal in group_equal_files(path for path, image in facts.items() if not image.error):
        for path in equal[1:]:
            groups.equal[path] = equal[0]
            groups.join(path, equal[0])
    images = [
        image
        for path, image in facts.items()
        if image.thumbnail is not None and not image.blank and path not in groups.equal
    ]
    for first, second, mirrored in _find_edited(images):
        groups.join(images[second].path, images[first].path)
        if mirrored:
            groups.mirrored.add(frozenset((images[first].path, images[second].path)))
    return groups


def _find_edited(images: Sequence[ImageFacts]) -> Iterator[tuple[int, int, bool]]:
    """Yield the numbers of two images that are copies, and whether one is mirrored."""
    if len(images) < 2:
        return
    hashes = np.array([image.hashes for image in images], dtype=np.uint64)  # (N, 2)
    thumbnails = np.stack([image.thumbnail for image in images if image.thumbnail is not None])
    reduced = reduce_thumbnails(thumbnails)  # (N, P)
    for mirrored in (False, True):
        others = reduce_thumbnails(thumbnails[:, :, ::-1]) if mirrored else reduced
        for first, second in near_pairs(hashes[:, 0], hashes[:, int(mirrored)]):
            near = np.einsum("np,np->n", reduced[first], others[second]) >= MIN_PLAIN
            for i, j in zip(first[near].tolist(), second[near].tolist(), strict=True):
                other = thumbnails[j][:, ::-1] if mirrored else thumbnails[j]
                if is_copy(thumbnails[i], other):
                    yield i, j, mirrored


def near_pairs(
    first: np.ndarray, second: np.ndarray, *, limit: int = MAX_DISTANCE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of pairs i < j whose hashes first[i] and second[j] differ in few bits.

    Args:
        first: (N,) hashes as uint64.
        second: (N,) hashes that they are compared with.
        limit: Largest number of different bits.
    """
    size = max(1, _BLOCK // max(1, len(first)))
    for start in range(0, len(first), size):
        block = first[start : start + size, None]  # (B, 1)
        distances = np.bitwise_count(block ^ second[None, start:])  # (B, N - start)
        rows, columns = np.nonzero(distances <= limit)
        later = columns > rows
        yield rows[later] + start, columns[later] + start
