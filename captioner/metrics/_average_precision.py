"""Mean average precision of tags: the area under the precision-recall curve, averaged over tags.

The area is a sum without interpolation, as in scikit-learn's `average_precision_score`. Images with
equal scores share one threshold, so the result does not depend on their order.

Shapes: N images, G tags.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def mean_average_precision(scores: ArrayLike, present: ArrayLike) -> float:
    """Return the mean average precision, 0 to 1, of the tags that are present in some image.

    Args:
        scores: Scores (N, G); a higher score means that the tag is more likely.
        present: Whether each tag is in each image (N, G).

    Returns:
        The mean over the tags, or 0 if none is present in any image.
    """
    scores, present = np.asarray(scores, float), np.asarray(present, bool)
    occurs = present.any(0)
    scores, present = scores[:, occurs], present[:, occurs]
    if not scores.size:
        return 0.0
    order = np.argsort(-scores, 0, kind="stable")
    scores, present = (np.take_along_axis(x, order, 0) for x in (scores, present))
    ranks = np.arange(1, len(scores) + 1)[:, None]
    # The rank of the last image with the same score.
    is_last = np.ones(scores.shape, bool)
    is_last[:-1] = scores[1:] != scores[:-1]
    lasts = np.where(is_last, ranks, len(scores))[::-1]
    lasts = np.minimum.accumulate(lasts)[::-1]
    precision = np.take_along_axis(present.cumsum(0), lasts - 1, 0) / lasts
    return float(((precision * present).sum(0) / present.sum(0)).mean())
