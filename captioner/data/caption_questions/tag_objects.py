"""Make object questions about tagged images: "what animal is there" for the tag "giraffe"."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from captioner.data.caption_questions.lexicon import is_a, load_lexicon
from captioner.data.caption_questions.scene_pairs import Pair

KINDS = ("animal", "vehicle", "food", "furniture", "bag", "device", "container", "board")
_AMBIGUOUS = ("mouse",)
"""Tags with several meanings, which are not asked about: in COCO, a mouse is a device."""
_TEMPLATES = (
    "what {} is in the picture",
    "what {} is there",
    "what kind of {} is this",
    "which {} can you see",
)


def make_object_pairs(
    tags: Sequence[Sequence[str]], ids: Sequence[str], *, seed: int
) -> list[list[Pair]]:
    """Return the object questions of each image; `tags` and `ids` are those of each.

    An image has a question about a kind of object if exactly one of its tags is of that kind. The
    answer is the tag.
    """
    return [list(_iterate_pairs(own, name, seed)) for own, name in zip(tags, ids, strict=True)]


def _iterate_pairs(tags: Sequence[str], name: str, seed: int) -> Iterator[Pair]:
    nouns = load_lexicon().nouns
    clear = (tag for tag in dict.fromkeys(tags) if tag in nouns and tag not in _AMBIGUOUS)
    known = {tag: nouns[tag][0] for tag in clear}
    for kind in KINDS:
        members = [tag for tag, noun in known.items() if is_a(noun, kind)]
        if len(members) == 1:
            template = random.Random(f"qa {seed} {name} {kind}").choice(_TEMPLATES)
            yield Pair("object", kind, template.format(kind), members[0])
