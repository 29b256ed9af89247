"""CIDEr-D of image captions for `evaluate.load("captioner/metrics/cider_d")`.

The `captioner` package must be importable: run from the repository root, or install it. (The
loader reads the import lines below one by one and fetches nothing.)
Source: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015).
"""

import datasets
import evaluate

from captioner.metrics import DocumentFrequency, cider_d

_CITATION = """\
@inproceedings{vedantam2015cider,
  title = {{CIDEr}: Consensus-based Image Description Evaluation},
  author = {Vedantam, Ramakrishna and Zitnick, C. Lawrence and Parikh, Devi},
  booktitle = {CVPR}, year = {2015}}
"""
_DESCRIPTION = """\
CIDEr-D, n = 1..4, sigma 6, the mean over images, Penn Treebank tokens; the numbers of
pycocoevalcap, without Java.
"""
_USAGE = """\
Args:
    predictions: one caption per image.
    references: for each image, its list of reference captions.
    df: a file of `captioner.metrics.DocumentFrequency.save`; without it the references are the
        corpus that says which n-grams are rare.
    tokenized: whether the texts are tokens joined by blanks already (False).
Returns:
    "CIDEr-D": between 0 and 10.
"""


class CiderDMetric(evaluate.Metric):
    """Mean CIDEr-D; raises captioner.errors.MetricError for an image without references."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = {"predictions": text, "references": datasets.Sequence(text)}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_USAGE,
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        *,
        df: str | None = None,
        tokenized: bool = False,
    ) -> dict[str, float]:
        candidates, texts = dict(enumerate(predictions)), dict(enumerate(references))
        frequencies = DocumentFrequency.load(df) if df else None
        return {"CIDEr-D": cider_d(candidates, texts, df=frequencies, tokenized=tokenized).corpus}
