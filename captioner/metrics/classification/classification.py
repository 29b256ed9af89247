"""Accuracy, precision, recall and F1 for `evaluate.load("captioner/metrics/classification")`.

Source: the definitions of scikit-learn, whose values these equal. Range: 0 to 1 each. Classes are
strings, which are compared without normalization.
"""

import datasets
import evaluate

from captioner.metrics import score_classes

_CITATION = """\
@article{pedregosa2011scikit,
  title = {Scikit-learn: Machine Learning in {P}ython},
  author = {Pedregosa, Fabian and others},
  journal = {Journal of Machine Learning Research}, volume = {12}, year = {2011}}
"""
_USAGE = """\
Args:
    predictions: the predicted class of each example.
    references: its correct class.
    classes: the classes to average over (default: all that occur).
    zero_division: the score of a division by zero (default: 0).
Returns:
    "accuracy", and "precision", "recall" and "f1" with the prefixes "macro_" and "weighted_":
    fractions.
"""


class Classification(evaluate.Metric):
    """Corpus scores; raises captioner.errors.MetricError if there are no examples."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation=_CITATION,
            inputs_description=_USAGE,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        *,
        classes: list[str] | None = None,
        zero_division: float = 0.0,
    ) -> dict[str, float]:
        scores = score_classes(
            predictions, references, classes=classes, zero_division=zero_division
        )
        means = {
            f"{mean}_{name}": getattr(getattr(scores, mean), name)
            for mean in ("macro", "weighted")
            for name in ("precision", "recall", "f1")
        }
        return {"accuracy": scores.accuracy} | means
