"""Acceptable captions: those with at least half of the CIDEr-D of a human caption.

The CIDEr-D of human captions is that of each reference against the other references of its image,
on average over all references of the data set. It is one number for the data set: that of a single
image is the mean of a few values and would often be 0. Document frequencies are counted over all
references.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from captioner.errors import MetricError
from captioner.metrics._cider import CiderD, DocumentFrequency
from captioner.metrics._pairs import Candidates, References, pair_texts

HUMAN_SHARE = 0.5
"""Share of the CIDEr-D of human captions that an acceptable caption has."""


def acceptable_captions(candidates: Candidates, references: References) -> dict[Hashable, bool]:
    """Return which of the candidates are acceptable, by image id.

    Raises:
        MetricError: The ids differ, or no image has two references.
    """
    pairs = pair_texts(candidates, references)
    texts = {
        image: [" ".join(tokens) for tokens in rows] for image, rows in pairs.references.items()
    }
    df = DocumentFrequency.from_references(texts, tokenized=True)
    scores = CiderD(texts, df=df, tokenized=True).score(pairs.candidates, list(texts))
    threshold = HUMAN_SHARE * _human_cider_d(texts, df)
    return {image: bool(score >= threshold) for image, score in zip(texts, scores, strict=True)}


def _human_cider_d(texts: dict[Hashable, list[str]], df: DocumentFrequency) -> float:
    """Return the mean CIDEr-D of a tokenized reference against the others of its image."""
    values: list[np.ndarray] = []
    for place in range(max(map(len, texts.values()))):
        held_out = {image: rows for image, rows in texts.items() if len(rows) > max(place, 1)}
        if not held_out:
            break
        others = {image: rows[:place] + rows[place + 1 :] for image, rows in held_out.items()}
        scorer = CiderD(others, df=df, tokenized=True)
        captions = [rows[place].split() for rows in held_out.values()]
        values.append(scorer.score(captions, list(held_out)))
    if not values:
        raise MetricError(
            "found one reference for each image, expected at least 2: the CIDEr-D of human captions"
            " is that of a reference against the others"
        )
    return float(np.concatenate(values).mean())
