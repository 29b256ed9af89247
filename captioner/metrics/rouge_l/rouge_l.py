"""ROUGE-L of image captions for `evaluate.load("captioner/metrics/rouge_l")`.

Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
Range: 0 to 1. Beta is 1.2, and the tokens are those of the Penn Treebank. The best precision and
the best recall over the references of an image are combined, and the values averaged over images;
the result equals that of pycocoevalcap 1.2. Java is not needed.
"""

import evaluate

from captioner.metrics import rouge_l
from captioner.metrics._evaluate_module import CAPTION_ARGS, metric_info, number_texts

_CITATION = """\
@inproceedings{lin2004rouge,
  title = {{ROUGE}: A Package for Automatic Evaluation of Summaries},
  author = {Lin, Chin-Yew}, booktitle = {Text Summarization Branches Out}, year = {2004}}
"""
_USAGE = f"""\
{CAPTION_ARGS}Returns:
    "ROUGE-L": a fraction.
"""


class RougeL(evaluate.Metric):
    """Mean ROUGE-L; raises captioner.errors.MetricError for an image without references."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(description=__doc__, citation=_CITATION, usage=_USAGE)

    def _compute(
        self, predictions: list[str], references: list[list[str]], *, tokenized: bool = False
    ) -> dict[str, float]:
        score = rouge_l(*number_texts(predictions, references), tokenized=tokenized)
        return {"ROUGE-L": score.corpus}
