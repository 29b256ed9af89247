"""BLEU-1 to BLEU-4 of image captions for `evaluate.load("captioner/metrics/bleu")`.

Source: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002).
Range: 0 to 1. The values are of the whole corpus, with Penn Treebank tokens and the closest
reference length, and equal those of pycocoevalcap 1.2. Java is not needed.
"""

import evaluate

from captioner.metrics import bleu
from captioner.metrics._evaluate_module import CAPTION_ARGS, metric_info, number_texts

_CITATION = """\
@inproceedings{papineni2002bleu,
  title = {{BLEU}: a Method for Automatic Evaluation of Machine Translation},
  author = {Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing},
  booktitle = {ACL}, year = {2002}}
"""
_USAGE = f"""\
{CAPTION_ARGS}Returns:
    "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4": fractions.
"""


class Bleu(evaluate.Metric):
    """Corpus BLEU; raises captioner.errors.MetricError for an image without references."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(description=__doc__, citation=_CITATION, usage=_USAGE)

    def _compute(
        self, predictions: list[str], references: list[list[str]], *, tokenized: bool = False
    ) -> dict[str, float]:
        score = bleu(*number_texts(predictions, references), tokenized=tokenized)
        return {f"BLEU-{n}": float(value) for n, value in enumerate(score.corpus, start=1)}
