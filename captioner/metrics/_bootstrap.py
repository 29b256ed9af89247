"""Bootstrap confidence intervals of caption scores, and paired comparisons of two systems.

Images are drawn with replacement, as many as there are, and the corpus score of each draw is
computed from the statistics of its images. Two systems are compared on the same draws (Koehn,
"Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004, section 3). The
document frequencies of CIDEr-D stay those of the whole set. In a comparison, BLEU without matches
is exactly 0, and draws whose scores differ by less than `TIE` are ties.

Shapes: I images, R draws, O orders of n-grams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from captioner.metrics._bleu import bleu_from_statistics

DRAWS = 10_000
TIE = 1e-9
"""Differences of scores below this are rounding."""
_CHUNK_SIZE = 2**22  # counts that are held in memory at a time


class Interval(NamedTuple):
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


class Difference(NamedTuple):
    """Score of a second system minus that of a first, with 95 % interval and two-sided p value."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class CaptionStatistics:
    """The statistics of each image from which the scores of a set of captions are computed."""

    bleu: np.ndarray
    """(I, 2 + 2 * O) counts of `bleu_statistics`."""
    means: Mapping[str, np.ndarray]
    """(I,) scores of the images, for each metric that is a mean over images."""

    def scores(self, counts: np.ndarray, *, smooth: bool = True) -> dict[str, np.ndarray]:
        """Return each metric (R,) for draws that contain image i `counts[r, i]` times.

        `smooth` is that of `bleu_from_statistics`.
        """
        counts = counts.astype(np.float64)
        bleu = bleu_from_statistics(counts @ self.bleu, smooth=smooth)  # (R, O)
        scores = {f"BLEU-{n + 1}": bleu[:, n] for n in range(bleu.shape[1])}
        images = counts.sum(1)
        return scores | {name: counts @ values / images for name, values in self.means.items()}

    def corpus(self, *, smooth: bool = True) -> dict[str, float]:
        """Return each metric over all images, each counted once."""
        whole = self.scores(np.ones((1, len(self.bleu))), smooth=smooth)
        return {name: float(value[0]) for name, value in whole.items()}

    def intervals(self, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
        """Return each metric with its 95 % interval."""
        drawn = _concatenate(self.scores(c) for c in _draw_counts(len(self.bleu), draws, seed))
        return {name: Interval(v, *_interval(drawn[name])) for name, v in self.corpus().items()}

    def compare(
        self, other: CaptionStatistics, *, draws: int = DRAWS, seed: int = 0
    ) -> dict[str, Difference]:
        """Return how much better `other` is, for the same images in the same order."""
        drawn = _concatenate(
            _subtract(other.scores(counts, smooth=False), self.scores(counts, smooth=False))
            for counts in _draw_counts(len(self.bleu), draws, seed)
        )
        ours, theirs = self.corpus(smooth=False), other.corpus(smooth=False)
        differences = {}
        for name, values in drawn.items():
            # Add one to both counts, so that a finite number of draws never gives p = 0.
            p = 2 * (1 + min((values <= 0).sum(), (values >= 0).sum())) / (1 + len(values))
            low, high = _interval(values)
            difference = _drop_rounding(theirs[name] - ours[name])
            differences[name] = Difference(float(difference), low, high, min(1.0, float(p)))
        return differences


def _draw_counts(images: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each draw contains each image, (R, I), for a part of the draws at a time."""
    generator, size = np.random.default_rng(seed), max(1, _CHUNK_SIZE // images)
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        yield generator.multinomial(images, np.full(images, 1 / images), size=rows)


def _subtract(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _drop_rounding(a[name] - b[name]) for name in a}


def _drop_rounding(differences: np.ndarray | float) -> np.ndarray:
    """Return differences with 0 in place of those below `TIE`."""
    return np.where(np.abs(differences) < TIE, 0.0, differences)


def _concatenate(chunks: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    parts = list(chunks)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 % and the 97.5 % quantile."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
