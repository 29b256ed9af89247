"""The tags that a model of tags predicts: those of enough training images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from captioner.data.columns import iterate_columns

if TYPE_CHECKING:
    from datasets import Dataset

MIN_TAG_IMAGES = 2
"""Training images that a tag needs; with fewer, it is not predicted."""


def frequent_tags(rows: Dataset) -> dict[int, list[str]]:
    """Return the tags of at least `MIN_TAG_IMAGES` images, for each source of tags."""
    counts: dict[int, Counter[str]] = {}
    for source, tags in iterate_columns(rows, "source", "tags"):
        if tags is not None:
            counts.setdefault(source, Counter()).update(tags)
    return {
        source: sorted(tag for tag, count in counter.items() if count >= MIN_TAG_IMAGES)
        for source, counter in counts.items()
    }
