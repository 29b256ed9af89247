"""Metrics of captions and answers: strings to numbers, without Java and without torch.

- `score_captions`: BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D of a corpus; `score_images`: per image.
- `bleu`, `rouge_l`, `cider_d`: one metric each. `CiderD`: many scores against fixed references.
- `caption_statistics`: 95 % confidence intervals and the comparison of two systems.
- `score_answers`: VQA accuracy, exact match and macro-F1; `majority_answers`: the baseline.
- `acceptable_captions`: captions that reach half of the CIDEr-D of human captions.
- `expected_calibration_error`, `reliability`, `roc_auc`: the quality of confidences;
  `fit_temperature` and `fit_logistic` calibrate them.
- `mean_average_precision`: tags of images.
- `score_classes`, `confusion_table`: class labels; `named_label`: the label that a text names.

The values of captions equal those of pycocoevalcap 1.2. `evaluate.load("captioner/metrics/NAME")`
loads each metric, where NAME is `bleu`, `rouge_l`, `cider_d`, `vqa_accuracy` or
`classification`.

Sources: `_bleu` (Papineni et al. 2002), `_rouge` (Lin 2004), `_cider` (Vedantam et al. 2015),
`_vqa` (Antol et al. 2015), `_calibration` (Guo et al. 2017), `_bootstrap` (Koehn 2004).
Shapes: I images.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from captioner.metrics._acceptable import acceptable_captions
from captioner.metrics._average_precision import mean_average_precision
from captioner.metrics._bleu import MAX_ORDER, bleu_from_statistics, bleu_statistics
from captioner.metrics._bootstrap import CaptionStatistics, Difference, Interval
from captioner.metrics._calibration import (
    ReliabilityBin,
    expected_calibration_error,
    fit_logistic,
    fit_temperature,
    reliability,
    roc_auc,
)
from captioner.metrics._cider import CiderD, DocumentFrequency
from captioner.metrics._classification import (
    OTHER,
    ClassificationScores,
    ClassScore,
    ConfusionTable,
    confusion_table,
    join_words,
    named_label,
    score_classes,
)
from captioner.metrics._ngrams import ReferenceIndex
from captioner.metrics._pairs import Candidates, Pairs, References, pair_texts
from captioner.metrics._rouge import score_rouge_l
from captioner.metrics._vqa import (
    AnswerGroup,
    AnswerScores,
    answer_class,
    answer_type,
    exact_match,
    majority_answers,
    normalize_answer,
    question_type,
    score_answers,
    vqa_accuracy,
)
from captioner.metrics.ptb_tokenizer import tokenize

FEW_IMAGES = 25
"""With fewer images, CIDEr-D is unreliable: its idf weights are counted over the images."""

__all__ = [
    "FEW_IMAGES",
    "OTHER",
    "AnswerGroup",
    "AnswerScores",
    "BleuScore",
    "CaptionStatistics",
    "CiderD",
    "ClassScore",
    "ClassificationScores",
    "ConfusionTable",
    "Difference",
    "DocumentFrequency",
    "Interval",
    "ReliabilityBin",
    "Score",
    "acceptable_captions",
    "answer_class",
    "answer_type",
    "bleu",
    "bleu_from_statistics",
    "bleu_statistics",
    "caption_statistics",
    "cider_d",
    "confusion_table",
    "exact_match",
    "expected_calibration_error",
    "fit_logistic",
    "fit_temperature",
    "join_words",
    "majority_answers",
    "mean_average_precision",
    "named_label",
    "normalize_answer",
    "question_type",
    "reliability",
    "roc_auc",
    "rouge_l",
    "score_answers",
    "score_captions",
    "score_classes",
    "score_images",
    "tokenize",
    "vqa_accuracy",
]


class Score(NamedTuple):
    """The value of a metric for a corpus and for its images."""

    corpus: float
    images: np.ndarray
    """(I,) in the order of the references."""


class BleuScore(NamedTuple):
    """BLEU-1 to BLEU-4 for a corpus and for its images."""

    corpus: np.ndarray
    """(4,)"""
    images: np.ndarray
    """(I, 4) in the order of the references."""
    statistics: np.ndarray
    """(I, 10) counts; `bleu_from_statistics` of a sum of rows is the BLEU of these images."""


def bleu(candidates: Candidates, references: References, *, tokenized: bool = False) -> BleuScore:
    """Return BLEU-1 to BLEU-4 (Papineni et al. 2002), from 0 to 1.

    Args:
        candidates: One caption per image id.
        references: The reference captions per image id.
        tokenized: True if the texts are already tokens joined by spaces.

    Raises:
        MetricError: The ids differ, or an image has no references.
    """
    return _bleu(_MatchedPairs(pair_texts(candidates, references, tokenized=tokenized)))


def rouge_l(candidates: Candidates, references: References, *, tokenized: bool = False) -> Score:
    """Return ROUGE-L with beta = 1.2 (Lin 2004), from 0 to 1; the arguments are those of `bleu`."""
    return _rouge_l(pair_texts(candidates, references, tokenized=tokenized))


def cider_d(
    candidates: Candidates,
    references: References,
    *,
    df: DocumentFrequency | None = None,
    tokenized: bool = False,
) -> Score:
    """Return CIDEr-D (Vedantam et al. 2015), from 0 to 10; the arguments are those of `bleu`.

    The document frequencies `df` are counted over `references` by default; give those of a larger
    corpus if there are few images.
    """
    pairs = pair_texts(candidates, references, tokenized=tokenized)
    return _cider_d(_MatchedPairs(pairs, df=df), df)


def score_captions(
    candidates: Candidates,
    references: References,
    *,
    df: DocumentFrequency | None = None,
    tokenized: bool = False,
) -> dict[str, float]:
    """Return BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D of a corpus; see `cider_d` for the arguments."""
    scores = _score_all(candidates, references, df, tokenized)
    return {name: float(corpus) for name, (corpus, _) in scores.items()}


def score_images(
    candidates: Candidates,
    references: References,
    *,
    df: DocumentFrequency | None = None,
    tokenized: bool = False,
) -> dict[Hashable, dict[str, float]]:
    """Return the six values of `score_captions` for each image."""
    scores = _score_all(candidates, references, df, tokenized)
    columns = [images.tolist() for _, images in scores.values()]
    rows = zip(*columns, strict=True)
    return {
        image: dict(zip(scores, row, strict=True))
        for image, row in zip(references, rows, strict=True)
    }


def caption_statistics(
    candidates: Candidates, references: References, *, tokenized: bool = False
) -> CaptionStatistics:
    """Return the statistics for intervals and comparisons; the arguments are those of `bleu`."""
    pairs = pair_texts(candidates, references, tokenized=tokenized)
    matched = _MatchedPairs(pairs)
    means = {"ROUGE-L": _rouge_l(pairs).images, "CIDEr-D": _cider_d(matched, None).images}
    return CaptionStatistics(_bleu(matched).statistics, means)


class _MatchedPairs:
    """Pairs whose n-grams are counted and matched once, for both BLEU and CIDEr-D."""

    def __init__(self, pairs: Pairs, *, df: DocumentFrequency | None = None) -> None:
        extra = [gram.split() for gram in df.counts] if df else ()
        self.index = ReferenceIndex(pairs.references, max_order=MAX_ORDER, extra=extra)
        self.rows = np.arange(len(pairs.candidates))
        self.lengths = np.array([len(tokens) for tokens in pairs.candidates])
        self.matches = self.index.match(pairs.candidates, self.rows)


def _score_all(
    candidates: Candidates, references: References, df: DocumentFrequency | None, tokenized: bool
) -> dict[str, Score]:
    pairs = pair_texts(candidates, references, tokenized=tokenized)
    matched = _MatchedPairs(pairs, df=df)
    b = _bleu(matched)
    scores = {f"BLEU-{n + 1}": Score(b.corpus[n], b.images[:, n]) for n in range(MAX_ORDER)}
    return scores | {"ROUGE-L": _rouge_l(pairs), "CIDEr-D": _cider_d(matched, df)}


def _bleu(matched: _MatchedPairs) -> BleuScore:
    statistics = bleu_statistics(matched.index, matched.matches, matched.rows, matched.lengths)
    corpus = bleu_from_statistics(statistics.sum(axis=0))
    return BleuScore(corpus, bleu_from_statistics(statistics), statistics)


def _rouge_l(pairs: Pairs) -> Score:
    texts = zip(pairs.candidates, pairs.references.values(), strict=True)
    images = np.array([score_rouge_l(candidate, references) for candidate, references in texts])
    return Score(float(images.mean()), images)


def _cider_d(matched: _MatchedPairs, df: DocumentFrequency | None) -> Score:
    scorer = CiderD.from_index(matched.index, df=df)
    images = scorer.score_matches(matched.matches, matched.rows, matched.lengths)
    return Score(float(images.mean()), images)
