"""Token ids that end a sequence: most models have one, chat models often several.

Each end is a continuation of its own, and a sequence is finished by any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from captioner.decoding.arrays import Array

Ends = int | Sequence[int]
"""One id, or several, of which the first is the usual one."""


def list_ends(eos: Ends) -> tuple[int, ...]:
    """Return the ids as a tuple without duplicates; raise ValueError if there is none."""
    ends = (eos,) if isinstance(eos, int) else tuple(dict.fromkeys(eos))
    if not ends:
        raise ValueError("eos: no ids; expected at least one token that ends a sequence")
    return ends


def is_end(tokens: Array, ends: Sequence[int]) -> Array:
    """Return a mask of the shape of the tokens that is True at ends."""
    return reduce(or_, (tokens == end for end in ends))


def until_end(tokens: Iterable[int], ends: Sequence[int]) -> list[int]:
    """Return the tokens up to the first end, which is included."""
    kept = []
    for token in tokens:
        kept.append(token)
        if token in ends:
            break
    return kept
