"""Find faults of single images, and copies within a split, across splits and in a held-out set."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence

from captioner.data.example import Example
from captioner.quality.copies import CopyGroups
from captioner.quality.findings import Finding
from captioner.quality.image_facts import ImageFacts
from captioner.sources import short_name

_RANKS = {"test": 0, "val": 1, "train": 3}
"""Order of the splits that keep an image; other splits are between val and train."""


def list_images(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Return the number of the first example of each split, by image and split.

    Recordings without an image are left out.
    """
    images: dict[str, dict[str, int]] = {}
    for i, example in enumerate(examples):
        if example.image != example.audio:
            images.setdefault(example.image, {}).setdefault(example.split, i)
    return images


def rank_split(split: str) -> tuple[int, str]:
    """Return a key that sorts splits by which of them keeps an image that several have."""
    return _RANKS.get(split, 2), split


def check_images(
    images: Mapping[str, Mapping[str, int]], facts: Mapping[str, ImageFacts]
) -> Iterator[Finding]:
    """Yield the faults of single images: unreadable, tiny and blank ones."""
    for path, splits in images.items():
        image = facts[path]
        if image.error and os.path.islink(path) and not os.path.exists(path):
            reason = f"is a link to {os.readlink(path)}, which does not exist"
            yield _make_finding("missing-image", reason, path, splits)
        elif image.error:
            yield _make_finding("unreadable-image", image.error, path, splits)
        elif image.tiny:
            size = f"has {image.size[0]} x {image.size[1]} pixels"
            yield _make_finding("tiny-image", size, path, splits)
        if image.blank:
            yield _make_finding("blank-image", "is of one color, or white noise", path, splits)


def check_copies(
    images: Mapping[str, Mapping[str, int]], held_out: Collection[str], groups: CopyGroups
) -> Iterator[Finding]:
    """Yield one finding for each image that is a copy of an image that is kept.

    An image of the held-out set comes first, then one of the test and of the validation split,
    then the first of the split.
    """
    paths = list(dict.fromkeys((*images, *held_out)))
    held = set(held_out)
    listed = {path: group for group in groups.list_groups(paths) for path in group}
    for path, splits in images.items():
        group = listed.get(path, [path])
        if other := _choose(path, [member for member in group if member in held], groups):
            yield _make_copy("held-out-leak", path, splits, other, groups)
            continue
        owners = {split: [p for p in group if split in images.get(p, ())] for split in
                  {split for p in group for split in images.get(p, ())}}  # fmt: skip
        first = min(owners, key=rank_split)
        lower = {split: number for split, number in splits.items() if split != first}
        if lower:
            other = _choose(path, owners[first], groups)
            for split, number in lower.items():
                yield _make_copy("split-leak", path, {split: number}, other, groups)
            continue
        earlier = owners[first][: owners[first].index(path)]
        if other := _choose(path, earlier, groups):
            kind = "duplicate-image" if _are_equal(path, other, groups) else "near-duplicate-image"
            yield _make_copy(kind, path, splits, other, groups)


def _are_equal(path: str, other: str, groups: CopyGroups) -> bool:
    equal = groups.equal
    return equal.get(path, path) == equal.get(other, other)


def _choose(path: str, others: Sequence[str], groups: CopyGroups) -> str:
    """Return the first of the images with equal bytes, or else the first image, or ""."""
    equal = (other for other in others if _are_equal(path, other, groups))
    return next(equal, others[0] if others else "")


def _make_copy(
    kind: str, path: str, splits: Mapping[str, int], other: str, groups: CopyGroups
) -> Finding:
    name = short_name(other)
    pair = frozenset(groups.equal.get(p, p) for p in (path, other))
    if path == other:
        text = "the same file is in both"
    elif _are_equal(path, other, groups):
        text = f"has the bytes of {name}"
    else:
        text = f"is {'a mirrored' if pair in groups.mirrored else 'an edited'} copy of {name}"
    return _make_finding(kind, text, path, splits, other=other)


def _make_finding(
    kind: str, explanation: str, path: str, splits: Mapping[str, int], *, other: str = ""
) -> Finding:
    split, entry = next(iter(splits.items()))
    return Finding(kind, explanation, split, image=path, other=other, entry=entry)
