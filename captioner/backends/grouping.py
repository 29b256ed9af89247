"""Process items in groups that can be computed together, such as inputs with the same parts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from captioner.backends.base import Memory

Item = TypeVar("Item")
Output = TypeVar("Output")


def group_places(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the places of equal keys, in the order of the first of each group."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def group_by_layout(memories: Sequence[Memory]) -> list[list[int]]:
    """Return the places of memories that can be decoded together."""
    return group_places(memory.layout for memory in memories)


def map_groups(
    items: Sequence[Item],
    groups: Iterable[Sequence[int]],
    compute: Callable[[list[Item]], Iterable[Output]],
) -> list[Output]:
    """Return one output for each item, in order, computed group by group.

    Args:
        items: The items.
        groups: Places of the items that are computed together; each item is in one group.
        compute: Returns the outputs of the items of a group, in order.
    """
    outputs: dict[int, Output] = {}
    for places in groups:
        outputs |= zip(places, compute([items[place] for place in places]), strict=True)
    return [outputs[place] for place in range(len(items))]
