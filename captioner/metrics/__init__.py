"""Metrics of captions and of answers: strings in, numbers out, without Java and without torch.

`score_captions` gives the numbers of a results table; `score_images` gives those of every image;
`bleu`, `rouge_l` and `cider_d` give one metric; `CiderD` scores often against fixed references;
`caption_statistics` gives 95 % intervals, and compares two systems.
The numbers are those of pycocoevalcap 1.2. `score_answers` gives the table of a set of questions,
by the official VQA accuracy; `majority_answers` is what to beat. `expected_calibration_error`
judges confidences, which `fit_temperature` mends. Each metric also loads through
`evaluate.load("captioner/metrics/NAME")`, NAME being `bleu`, `rouge_l`, `cider_d` or
`vqa_accuracy`. Sources: see `_bleu` (Papineni et al. 2002), `_rouge` (Lin 2004), `_cider`
(Vedantam et al. 2015), `_vqa` (Antol et al. 2015), `_calibration` (Guo et al. 2017).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from captioner.metrics._bleu import MAX_ORDER, bleu_from_statistics, bleu_statistics
from captioner.metrics._bootstrap import CaptionStatistics, Difference, Interval
from captioner.metrics._calibration import (
    ReliabilityBin,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from captioner.metrics._cider import CiderD, DocumentFrequency
from captioner.metrics._ngrams import ReferenceIndex
from captioner.metrics._pairs import Candidates, Pairs, References, pair
from captioner.metrics._rouge import rouge_l_of
from captioner.metrics._vqa import (
    AnswerGroup,
    AnswerScores,
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
"""Images below which CIDEr-D says little: its weights of words come from their number in images."""

__all__ = [
    "FEW_IMAGES",
    "AnswerGroup",
    "AnswerScores",
    "BleuScore",
    "CaptionStatistics",
    "CiderD",
    "Difference",
    "DocumentFrequency",
    "Interval",
    "ReliabilityBin",
    "Score",
    "answer_type",
    "bleu",
    "bleu_from_statistics",
    "bleu_statistics",
    "caption_statistics",
    "cider_d",
    "exact_match",
    "expected_calibration_error",
    "fit_temperature",
    "majority_answers",
    "normalize_answer",
    "question_type",
    "reliability",
    "rouge_l",
    "score_answers",
    "score_captions",
    "score_images",
    "tokenize",
    "vqa_accuracy",
]


class Score(NamedTuple):
    """A metric's value for the corpus and (I,) for its images, in the order of the references."""

    corpus: float
    images: np.ndarray


class BleuScore(NamedTuple):
    """BLEU-1..4: (4,) for the corpus, (I, 4) for its images, and what the corpus is summed from.

    `bleu_from_statistics(statistics[rows].sum(axis=0))` is the corpus BLEU of a resample.
    """

    corpus: np.ndarray
    images: np.ndarray
    statistics: np.ndarray


def bleu(candidates: Candidates, references: References, *, tokenized: bool = False) -> BleuScore:
    """BLEU-1 to BLEU-4 of one candidate per image (Papineni et al. 2002), as fractions.

    `tokenized` says that the texts are tokens joined by blanks. Raises MetricError if ids differ
    or an image has no references; so do the other metrics.
    """
    return _bleu(_Matched(pair(candidates, references, tokenized=tokenized)))


def rouge_l(candidates: Candidates, references: References, *, tokenized: bool = False) -> Score:
    """ROUGE-L with beta = 1.2 (Lin 2004), the mean over images, as a fraction."""
    return _rouge_l(pair(candidates, references, tokenized=tokenized))


def cider_d(
    candidates: Candidates,
    references: References,
    *,
    df: DocumentFrequency | None = None,
    tokenized: bool = False,
) -> Score:
    """CIDEr-D (Vedantam et al. 2015), the mean over images, between 0 and 10.

    Document frequencies come from `references`, or from `df` if it is given: a few images on
    their own say little about which words are rare.
    """
    return _cider_d(_Matched(pair(candidates, references, tokenized=tokenized), df=df), df)


def score_captions(
    candidates: Candidates,
    references: References,
    *,
    df: DocumentFrequency | None = None,
    tokenized: bool = False,
) -> dict[str, float]:
    """BLEU-1, BLEU-2, BLEU-3, BLEU-4, ROUGE-L and CIDEr-D of a corpus, in this order."""
    scores = _score(candidates, references, df, tokenized)
    return {name: float(corpus) for name, (corpus, _) in scores.items()}


def score_images(
    candidates: Candidates,
    references: References,
    *,
    df: DocumentFrequency | None = None,
    tokenized: bool = False,
) -> dict[Hashable, dict[str, float]]:
    """The same six numbers for every image, to list the best and the worst."""
    scores = _score(candidates, references, df, tokenized)
    columns = [images.tolist() for _, images in scores.values()]
    rows = zip(*columns, strict=True)
    return {
        image: dict(zip(scores, row, strict=True))
        for image, row in zip(references, rows, strict=True)
    }


def caption_statistics(
    candidates: Candidates, references: References, *, tokenized: bool = False
) -> CaptionStatistics:
    """What each image contributes, in the order of the references, for intervals."""
    pairs = pair(candidates, references, tokenized=tokenized)
    matched = _Matched(pairs)
    means = {"ROUGE-L": _rouge_l(pairs).images, "CIDEr-D": _cider_d(matched, None).images}
    return CaptionStatistics(_bleu(matched).statistics, means)


class _Matched:
    """Pairs whose n-grams were counted and matched once, for BLEU and CIDEr-D alike."""

    def __init__(self, pairs: Pairs, *, df: DocumentFrequency | None = None) -> None:
        extra = [gram.split() for gram in df.counts] if df else ()
        self.index = ReferenceIndex(pairs.references, max_order=MAX_ORDER, extra=extra)
        self.rows = np.arange(len(pairs.candidates))
        self.lengths = np.array([len(tokens) for tokens in pairs.candidates])
        self.matches = self.index.match(pairs.candidates, self.rows)


def _score(
    candidates: Candidates, references: References, df: DocumentFrequency | None, tokenized: bool
) -> dict[str, tuple[float, np.ndarray]]:
    pairs = pair(candidates, references, tokenized=tokenized)
    matched = _Matched(pairs, df=df)
    b = _bleu(matched)
    scores = {f"BLEU-{n + 1}": (b.corpus[n], b.images[:, n]) for n in range(MAX_ORDER)}
    return scores | {"ROUGE-L": _rouge_l(pairs), "CIDEr-D": _cider_d(matched, df)}


def _bleu(matched: _Matched) -> BleuScore:
    statistics = bleu_statistics(matched.index, matched.matches, matched.rows, matched.lengths)
    corpus = bleu_from_statistics(statistics.sum(axis=0))
    return BleuScore(corpus, bleu_from_statistics(statistics), statistics)


def _rouge_l(pairs: Pairs) -> Score:
    texts = zip(pairs.candidates, pairs.references.values(), strict=True)
    images = np.array([rouge_l_of(candidate, references) for candidate, references in texts])
    return Score(float(images.mean()), images)


def _cider_d(matched: _Matched, df: DocumentFrequency | None) -> Score:
    scorer = CiderD.from_index(matched.index, df=df)
    images = scorer.score_matches(matched.matches, matched.rows, matched.lengths)
    return Score(float(images.mean()), images)
