"""VQA accuracy, exact match and macro-F1 for `evaluate.load("captioner/metrics/vqa_accuracy")`.

The `captioner` package must be importable: run from the repository root, or install it. (The
loader reads the import lines below one by one and fetches nothing.)
Source: Antol et al., "VQA: Visual Question Answering" (ICCV 2015), and its official evaluator.
"""

import datasets
import evaluate

from captioner.metrics import score_answers

_CITATION = """\
@inproceedings{antol2015vqa,
  title = {{VQA}: Visual Question Answering},
  author = {Antol, Stanislaw and Agrawal, Aishwarya and Lu, Jiasen and Mitchell, Margaret and
    Batra, Dhruv and Zitnick, C. Lawrence and Parikh, Devi},
  booktitle = {ICCV}, year = {2015}}
"""
_DESCRIPTION = """\
The official VQA accuracy, exact match after its normalisation, and macro-F1 over the most frequent
answers.
"""
_USAGE = """\
Args:
    predictions: one answer per question.
    references: for each question, its list of people's answers (VQA has ten).
    strict_official: whether to normalise only where the answers differ, as the official evaluator
        does (True). A question with one answer then has accuracy 0: set it to False for such data.
Returns:
    "accuracy", "exact_match", "macro_f1": fractions, not rounded.
"""


class VqaAccuracy(evaluate.Metric):
    """Corpus scores; raises captioner.errors.MetricError for a question without answers."""

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
        strict_official: bool = True,
    ) -> dict[str, float]:
        candidates, answers = dict(enumerate(predictions)), dict(enumerate(references))
        scores = score_answers(candidates, answers, strict_official=strict_official)
        return {
            "accuracy": scores.accuracy,
            "exact_match": scores.exact_match,
            "macro_f1": scores.macro_f1,
        }
