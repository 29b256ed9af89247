"""Shared part of the metrics that load through `evaluate.load("captioner/metrics/NAME")`.

Each of them is a file of its own, because `evaluate` copies that file before it imports it, and it
parses the import lines of the file, so that each import must be a single line. The `captioner`
package must be importable: run from the repository root, or install it.
"""

import datasets
import evaluate

CAPTION_ARGS = """\
Args:
    predictions: one caption per image.
    references: for each image, its list of reference captions.
    tokenized: whether the texts are tokens joined by spaces already (default: False).
"""


def metric_info(*, description: str, citation: str, usage: str) -> evaluate.MetricInfo:
    """Return the metadata of a metric on one text and several references per example."""
    text = datasets.Value("string")
    return evaluate.MetricInfo(
        description=description,
        citation=citation,
        inputs_description=usage,
        features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
    )


def number_texts(
    predictions: list[str], references: list[list[str]]
) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Return both lists as mappings whose ids are the positions in the lists."""
    return dict(enumerate(predictions)), dict(enumerate(references))
