"""ROUGE-L of image captions for `evaluate.load("captioner/metrics/rouge_l")`.

The `captioner` package must be importable: run from the repository root, or install it. (The
loader reads the import lines below one by one and fetches nothing.)
Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
"""

import datasets
import evaluate

from captioner.metrics import rouge_l

_CITATION = """\
@inproceedings{lin2004rouge,
  title = {{ROUGE}: A Package for Automatic Evaluation of Summaries},
  author = {Lin, Chin-Yew}, booktitle = {Text Summarization Branches Out}, year = {2004}}
"""
_DESCRIPTION = """\
ROUGE-L, beta 1.2, the best precision and recall over an image's references, the mean over images,
Penn Treebank tokens; the numbers of pycocoevalcap, without Java.
"""
_USAGE = """\
Args:
    predictions: one caption per image.
    references: for each image, its list of reference captions.
    tokenized: whether the texts are tokens joined by blanks already (False).
Returns:
    "ROUGE-L": a fraction.
"""


class RougeL(evaluate.Metric):
    """Mean ROUGE-L; raises captioner.errors.MetricError for an image without references."""

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
        self, predictions: list[str], references: list[list[str]], *, tokenized: bool = False
    ) -> dict[str, float]:
        candidates, texts = dict(enumerate(predictions)), dict(enumerate(references))
        return {"ROUGE-L": rouge_l(candidates, texts, tokenized=tokenized).corpus}
