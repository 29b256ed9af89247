"""BLEU-1 to BLEU-4 of image captions for `evaluate.load("captioner/metrics/bleu")`.

The `captioner` package must be importable: run from the repository root, or install it. (The
loader reads the import lines below one by one and fetches nothing.)
Source: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002).
"""

import datasets
import evaluate

from captioner.metrics import bleu

_CITATION = """\
@inproceedings{papineni2002bleu,
  title = {{BLEU}: a Method for Automatic Evaluation of Machine Translation},
  author = {Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing},
  booktitle = {ACL}, year = {2002}}
"""
_DESCRIPTION = """\
BLEU-1 to BLEU-4 over the corpus, Penn Treebank tokens, closest reference length; the numbers of
pycocoevalcap, without Java.
"""
_USAGE = """\
Args:
    predictions: one caption per image.
    references: for each image, its list of reference captions.
    tokenized: whether the texts are tokens joined by blanks already (False).
Returns:
    "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4": fractions.
"""


class Bleu(evaluate.Metric):
    """Corpus BLEU; raises captioner.errors.MetricError for an image without references."""

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
        score = bleu(candidates, texts, tokenized=tokenized)
        return {f"BLEU-{n}": float(value) for n, value in enumerate(score.corpus, start=1)}
