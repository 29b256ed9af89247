"""Make presence questions about tagged images: which tags are present, and which are absent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from captioner.data.caption_questions.lexicon import list_compatible
from captioner.data.caption_questions.presence import PresenceStatistics, pair_images
from captioner.data.caption_questions.scene_pairs import Pair

PAIRS_PER_IMAGE = 2
"""Average number of pairs of a "yes" and a "no" per image; rare tags come first."""


def make_tag_pairs(
    tags: Sequence[Sequence[str]], splits: Sequence[str], ids: Sequence[str], *, seed: int
) -> list[list[Pair]]:
    """Return the presence questions of each image; `tags`, `splits` and `ids` are those of each.

    A tag of the data set that an image does not have is absent, unless the image has a tag for the
    same thing, such as "dog" for "animal".
    """
    budgets = {split: PAIRS_PER_IMAGE * count for split, count in Counter(splits).items()}
    return pair_images(_count_tags(tags), splits, ids, seed=seed, budgets=budgets)


def _count_tags(tags: Sequence[Sequence[str]]) -> PresenceStatistics:
    """Return which tags are present in each image, and which are absent."""
    names = sorted({tag for own in tags for tag in own})
    same = list_compatible(names)
    return PresenceStatistics(
        names,
        mentioned=[list(own) for own in tags],
        present=[set(own) for own in tags],
        absent=[set(names).difference(*(same[tag] for tag in own)) for own in tags],
    )
