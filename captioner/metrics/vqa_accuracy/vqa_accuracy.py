"""VQA accuracy, exact match and macro-F1 for `evaluate.load("captioner/metrics/vqa_accuracy")`.

Source: Antol et al., "VQA: Visual Question Answering" (ICCV 2015), and its official evaluator.
Range: 0 to 1 each. The accuracy equals that of the official evaluator, before it rounds. Exact
match is measured after its normalization, and macro-F1 is taken over the most frequent answers.
"""

import evaluate

from captioner.metrics import score_answers
from captioner.metrics._evaluate_module import metric_info, number_texts

_CITATION = """\
@inproceedings{antol2015vqa,
  title = {{VQA}: Visual Question Answering},
  author = {Antol, Stanislaw and Agrawal, Aishwarya and Lu, Jiasen and Mitchell, Margaret and
    Batra, Dhruv and Zitnick, C. Lawrence and Parikh, Devi},
  booktitle = {ICCV}, year = {2015}}
"""
_USAGE = """\
Args:
    predictions: one answer per question.
    references: for each question, its list of human answers (VQA has ten).
    strict_official: whether to normalize only where the answers differ, as the official evaluator
        does (default: True). A question with one answer then has accuracy 0; set it to False for
        such data.
Returns:
    "accuracy", "exact_match", "macro_f1": fractions, not rounded.
"""


class VqaAccuracy(evaluate.Metric):
    """Corpus scores; raises captioner.errors.MetricError for a question without answers."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(description=__doc__, citation=_CITATION, usage=_USAGE)

    def _compute(
        self, predictions: list[str], references: list[list[str]], *, strict_official: bool = True
    ) -> dict[str, float]:
        texts = number_texts(predictions, references)
        scores = score_answers(*texts, strict_official=strict_official)
        return {name: getattr(scores, name) for name in ("accuracy", "exact_match", "macro_f1")}
