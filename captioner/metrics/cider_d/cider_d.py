"""CIDEr-D of image captions for `evaluate.load("captioner/metrics/cider_d")`.

Source: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015).
Range: 0 to 10. The value is averaged over images, with n = 1..4, sigma 6 and Penn Treebank tokens.
Without `df`, it equals that of pycocoevalcap 1.2. Java is not needed.
"""

import evaluate

from captioner.metrics import DocumentFrequency, cider_d
from captioner.metrics._evaluate_module import CAPTION_ARGS, metric_info, number_texts

_CITATION = """\
@inproceedings{vedantam2015cider,
  title = {{CIDEr}: Consensus-based Image Description Evaluation},
  author = {Vedantam, Ramakrishna and Zitnick, C. Lawrence and Parikh, Devi},
  booktitle = {CVPR}, year = {2015}}
"""
_USAGE = f"""\
{CAPTION_ARGS}    df: a file written by `captioner.metrics.DocumentFrequency.save`; without it,
        document frequencies of n-grams are counted over the references.
Returns:
    "CIDEr-D": between 0 and 10.
"""


class CiderDMetric(evaluate.Metric):
    """Mean CIDEr-D; raises captioner.errors.MetricError for an image without references."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(description=__doc__, citation=_CITATION, usage=_USAGE)

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        *,
        df: str | None = None,
        tokenized: bool = False,
    ) -> dict[str, float]:
        frequencies = DocumentFrequency.load(df) if df else None
        texts = number_texts(predictions, references)
        return {"CIDEr-D": cider_d(*texts, df=frequencies, tokenized=tokenized).corpus}
