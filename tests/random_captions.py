"""Random captions of words and punctuation that normalization and flipping change."""

from __future__ import annotations

import random


def random_captions(count: int) -> list[str]:
    rng = random.Random(1)
    pieces = [*"\"'.,;:!?()[]#&-", "left", "Right", "LEFT", "rightmost", "left-hand", "bright", "a"]
    pieces += ["'s", "n't", "to", "the", "side", "of", "ﬁ", "İ", "\u2028", "Σ", "leftover", "rIGHT"]
    return [
        "".join(rng.choice(pieces) + rng.choice(["", " "]) for _ in range(9)) for _ in range(count)
    ]
