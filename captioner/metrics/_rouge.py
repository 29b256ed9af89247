"""ROUGE-L of a caption against several references.

Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), section 3.1: the
F-measure of the longest common subsequence. Captioning takes the best precision and the best
recall over the references, and beta = 1.2 (Chen et al., "Microsoft COCO Captions", 2015). The
subsequence's length comes from a bit vector of the candidate's words, one addition for each word
of a reference (Hyyro, "Bit-parallel LCS-length computation revisited", 2004).
"""

from __future__ import annotations

from collections.abc import Sequence

BETA = 1.2


def rouge_l_of(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """ROUGE-L of one tokenised candidate. An empty text counts as one empty word."""
    candidate = candidate or [""]
    places: dict[str, int] = {}
    for i, word in enumerate(candidate):
        places[word] = places.get(word, 0) | (1 << i)
    everywhere = (1 << len(candidate)) - 1
    precision = recall = 0.0
    for reference in references:
        reference = reference or [""]
        free = everywhere
        for word in reference:
            if word in places:
                taken = free & places[word]
                free = (free + taken) | (free - taken)
        common = len(candidate) - (free & everywhere).bit_count()
        precision = max(precision, common / len(candidate))
        recall = max(recall, common / len(reference))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
