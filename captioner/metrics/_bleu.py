"""BLEU-1 to BLEU-4 over a corpus, with the closest reference length.

Source: Papineni, Roukos, Ward, Zhu, "BLEU: a Method for Automatic Evaluation of Machine
Translation" (ACL 2002), sections 2.1 (clipped precision) and 2.2 (brevity penalty). Range: 0 to 1.
The values equal those of pycocoevalcap 1.2, including its two small constants for empty counts.

Shapes: C candidates, R references of an image, O orders of n-grams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics._ngrams import Matches, ReferenceIndex

MAX_ORDER = 4
_TINY = 1e-15  # added to numerators
_SMALL = 1e-9  # added to denominators, so that none is zero


def bleu_statistics(
    index: ReferenceIndex, matches: Sequence[Matches], images: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """Return the counts of each candidate whose sums over a corpus give its BLEU.

    Args:
        index: The n-grams of the references.
        matches: The results of `index.match`, per order.
        images: (C,) position of each candidate's image in the index.
        lengths: (C,) words of each candidate.

    Returns:
        (C, 2 + 2 * O): candidate length, closest reference length (the shorter of two that are
        equally close), clipped matches per order, n-grams per order.
    """
    orders = np.arange(len(matches))
    correct = np.zeros((len(lengths), len(matches)), dtype=np.int64)  # (C, O)
    for order, match in enumerate(matches):
        most = np.zeros(len(match.entries.counts), dtype=np.int64)
        counts = index.entries[order].counts[match.reference_entry]
        np.maximum.at(most, match.candidate_entry, counts)
        clipped = np.minimum(most, match.entries.counts)
        correct[:, order] = np.bincount(
            match.entries.sentence, weights=clipped, minlength=len(lengths)
        )
    total = np.maximum(lengths[:, None] - orders, 0)  # (C, O)
    closest = _closest_lengths(index.lengths[images], lengths)
    return np.column_stack([lengths, closest, correct, total])


def bleu_from_statistics(statistics: np.ndarray, *, smooth: bool = True) -> np.ndarray:
    """Return BLEU-1 to BLEU-O from rows of `bleu_statistics`, or from their sum for a corpus.

    The last axis is reduced: (..., 2 + 2 * O) -> (..., O). Without matches of an order, the values
    of this and higher orders are those of the constants of pycocoevalcap: 1e-16 without common
    words, up to 1e-4 without common 4-grams. They are 0 without `smooth`.
    """
    statistics = np.asarray(statistics, dtype=np.float64)
    orders = (statistics.shape[-1] - 2) // 2
    correct, total = statistics[..., 2 : 2 + orders], statistics[..., 2 + orders :]
    precision = np.cumprod((correct + _TINY) / (total + _SMALL), axis=-1)
    geometric_mean = precision ** (1.0 / np.arange(1, orders + 1))
    ratio = (statistics[..., :1] + _TINY) / (statistics[..., 1:2] + _SMALL)
    scores: np.ndarray = geometric_mean * np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
    return scores if smooth else scores * (np.cumprod(correct, axis=-1) > 0)


def _closest_lengths(reference_lengths: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the closest reference length: (C, R), -1 where there is none, and (C,) -> (C,)."""
    absent = reference_lengths < 0
    distance = np.abs(reference_lengths - lengths[:, None]).astype(np.float64)
    # If two references are equally close, take the shorter one.
    distance += reference_lengths / (1.0 + reference_lengths.max(initial=0))
    distance[absent] = np.inf
    return reference_lengths[np.arange(len(lengths)), distance.argmin(axis=1)]
