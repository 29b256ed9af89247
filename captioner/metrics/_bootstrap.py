"""How far a score would move with other images: the bootstrap, for one system or for two.

Images are drawn with replacement, as many as there are, and the corpus is scored again from what
each of them contributed. Two systems are compared on the same draws (Koehn, Statistical
significance tests for machine translation evaluation, EMNLP 2004, section 3). The document
frequencies of CIDEr-D stay those of the whole set.

Shapes: I images, R draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from captioner.metrics._bleu import bleu_from_statistics

DRAWS = 10_000
_AT_ONCE = 2**22  # counts that are held at a time


class Interval(NamedTuple):
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


class Difference(NamedTuple):
    """What a second system has more than a first, its 95 % interval and two-sided p value."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class CaptionStatistics:
    """What each image contributes to the scores of a set of captions."""

    bleu: np.ndarray
    """(I, 2 + 2 * orders), as `bleu_statistics` counts."""
    means: Mapping[str, np.ndarray]
    """(I,) of each metric that is a mean over images."""

    def scores(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric (R,) where image i comes `counts[r, i]` times."""
        counts = counts.astype(np.float64)
        bleu = bleu_from_statistics(counts @ self.bleu)
        found = {f"BLEU-{n + 1}": bleu[:, n] for n in range(bleu.shape[1])}
        images = counts.sum(1)
        return found | {name: counts @ values / images for name, values in self.means.items()}

    def corpus(self) -> dict[str, float]:
        """Each metric, each image counted once."""
        whole = self.scores(np.ones((1, len(self.bleu))))
        return {name: float(value[0]) for name, value in whole.items()}

    def intervals(self, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
        """Each metric with its interval."""
        drawn = _gather(self.scores(c) for c in _counts(len(self.bleu), draws, seed))
        return {name: Interval(v, *_middle(drawn[name])) for name, v in self.corpus().items()}

    def compare(
        self, other: CaptionStatistics, *, draws: int = DRAWS, seed: int = 0
    ) -> dict[str, Difference]:
        """What `other` has more of each metric, for the same images in the same order."""

        def difference(counts: np.ndarray) -> dict[str, np.ndarray]:
            ours, theirs = self.scores(counts), other.scores(counts)
            return {name: theirs[name] - ours[name] for name in ours}

        ours, theirs = self.corpus(), other.corpus()
        drawn = _gather(difference(c) for c in _counts(len(self.bleu), draws, seed))
        found = {}
        for name, values in drawn.items():
            # No fewer than the draw that might have been the other way.
            p = 2 * (1 + min((values <= 0).sum(), (values >= 0).sum())) / (1 + len(values))
            by = theirs[name] - ours[name]
            found[name] = Difference(by, *_middle(values), min(1.0, float(p)))
        return found


def _counts(images: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each draw has each image, (R, I), a part of the draws at a time."""
    generator, size = np.random.default_rng(seed), max(1, _AT_ONCE // images)
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        yield generator.multinomial(images, np.full(images, 1 / images), size=rows)


def _gather(parts: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
