"""BLEU-1 to BLEU-4 over a corpus, with the closest reference length.

Source: Papineni, Roukos, Ward, Zhu, "BLEU: a Method for Automatic Evaluation of Machine
Translation" (ACL 2002), sections 2.1 (clipped precision) and 2.2 (brevity penalty). The two small
constants that keep an empty count finite are those of the COCO evaluation code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics._ngrams import Matches, ReferenceIndex

MAX_ORDER = 4
_TINY = 1e-15  # so that a precision of nothing is nothing
_SMALL = 1e-9  # so that no denominator is zero


def bleu_statistics(
    index: ReferenceIndex, matches: Sequence[Matches], images: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """What BLEU sums over a corpus, for each candidate.

    Args: `images` (C,) each candidate's image, `lengths` (C,) its length in words.
    Returns (C, 2 + 2 * orders): candidate length, closest reference length (the shorter of two
    that are equally close), clipped matches per order, n-grams per order.
    """
    orders = np.arange(len(matches))
    correct = np.zeros((len(lengths), len(matches)), dtype=np.int64)
    for order, match in enumerate(matches):
        most = np.zeros(len(match.entries.count), dtype=np.int64)
        counts = index.entries[order].count[match.reference_entry]
        np.maximum.at(most, match.candidate_entry, counts)
        clipped = np.minimum(most, match.entries.count)
        correct[:, order] = np.bincount(
            match.entries.sentence, weights=clipped, minlength=len(lengths)
        )
    total = np.maximum(lengths[:, None] - orders, 0)
    return np.column_stack([lengths, _closest(index.lengths[images], lengths), correct, total])


def bleu_from_statistics(statistics: np.ndarray) -> np.ndarray:
    """BLEU-1, BLEU-2, ... from rows of `bleu_statistics`, or from their sum for a corpus.

    Works on the last axis: (..., 2 + 2 * orders) -> (..., orders).
    """
    statistics = np.asarray(statistics, dtype=np.float64)
    orders = (statistics.shape[-1] - 2) // 2
    correct, total = statistics[..., 2 : 2 + orders], statistics[..., 2 + orders :]
    precision = np.cumprod((correct + _TINY) / (total + _SMALL), axis=-1)
    geometric = precision ** (1.0 / np.arange(1, orders + 1))
    ratio = (statistics[..., :1] + _TINY) / (statistics[..., 1:2] + _SMALL)
    return geometric * np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))


def _closest(reference_lengths: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    absent = reference_lengths < 0
    far = np.abs(reference_lengths - lengths[:, None]).astype(np.float64)
    far += reference_lengths / (1.0 + reference_lengths.max(initial=0))  # ties: the shorter
    far[absent] = np.inf
    return reference_lengths[np.arange(len(lengths)), far.argmin(axis=1)]
