"""ROUGE-L of a caption against several references.

Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), section 3.1: the
F-measure of the longest common subsequence (LCS). As in COCO captioning (Chen et al., "Microsoft
COCO Captions", 2015), precision and recall are each the best over the references, and beta = 1.2.
Range: 0 to 1; equal to pycocoevalcap 1.2.

The length of the LCS is computed with a bit vector over the words of the candidate, with one
addition per word of a reference (Hyyro, "Bit-parallel LCS-length computation revisited", 2004).
"""

from __future__ import annotations

from collections.abc import Sequence

BETA = 1.2


def score_rouge_l(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the ROUGE-L of one tokenized candidate. An empty text counts as one empty word."""
    candidate = candidate or [""]
    positions: dict[str, int] = {}  # bit i is set where word i of the candidate is this word
    for i, word in enumerate(candidate):
        positions[word] = positions.get(word, 0) | (1 << i)
    all_bits = (1 << len(candidate)) - 1
    precision = recall = 0.0
    for reference in references:
        reference = reference or [""]
        unmatched = all_bits
        for word in reference:
            if word in positions:
                matched = unmatched & positions[word]
                unmatched = (unmatched + matched) | (unmatched - matched)
        lcs = len(candidate) - (unmatched & all_bits).bit_count()
        precision = max(precision, lcs / len(candidate))
        recall = max(recall, lcs / len(reference))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
