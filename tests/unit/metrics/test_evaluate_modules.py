"""Each metric loads through Hugging Face evaluate from its directory, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.metrics import DocumentFrequency, score_answers, score_captions, score_classes

ROOT = Path(__file__).parents[3]
PREDICTIONS = ["A dog runs fast on grass.", "two men", ""]
REFERENCES = [["a dog runs on the grass", "the dog's there"], ["two men sit"], ["a cat"]]
CAPTIONS = (PREDICTIONS, REFERENCES)
CLASSES = (["a", "b", "b", "c"], ["a", "a", "b", "b"])
ANSWERS = (["Yes.", "2", "dog"], [["yes"] * 7 + ["no"] * 3, ["two"] * 10, ["a cat"]])
PROGRAM = """
import json, sys
import evaluate
for jobs, predictions, references in json.loads(sys.argv[1]):
    found = []
    for path, options in jobs:
        metric = evaluate.load(path)
        assert metric.description and metric.citation and metric.inputs_description
        found.append(metric.compute(predictions=predictions, references=references, **options))
    try:
        metric.compute(predictions=["a"], references=[[]])
    except Exception as error:
        found.append([type(error).__name__, str(error)])
    print(json.dumps(found))
"""
DF = DocumentFrequency(1000, {"a": 900, "dog": 30})


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> list[list]:
    """The results for captions, for answers and for classes, each followed by an error.

    They come from one process, in the repository root, with empty Hugging Face caches.
    """
    pytest.importorskip("evaluate", reason="evaluate is not installed")
    folder = tmp_path_factory.mktemp("evaluate")
    DF.save(folder / "df.json.gz")
    relative = [f"captioner/metrics/{name}" for name in ("bleu", "rouge_l", "cider_d")]
    captions = [(path, {}) for path in [*relative, *(str(ROOT / path) for path in relative)]]
    captions.append((relative[2], {"df": str(folder / "df.json.gz")}))
    path = "captioner/metrics/vqa_accuracy"
    answers = [(path, {}), (str(ROOT / path), {}), (path, {"strict_official": False})]

    path = "captioner/metrics/classification"
    classes = [(path, {}), (str(ROOT / path), {"classes": ["a", "d"], "zero_division": 1.0})]
    jobs = [[captions, *CAPTIONS], [answers, *ANSWERS], [classes, *CLASSES]]

    environment = dict(os.environ, HF_HUB_OFFLINE="1", HF_EVALUATE_OFFLINE="1")
    environment |= {"HF_HOME": str(folder), "HF_MODULES_CACHE": str(folder / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(jobs)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_caption_metrics_load_and_equal_the_package(computed: list[list]) -> None:
    *results, rare, error = computed[0]

    texts = dict(enumerate(PREDICTIONS)), dict(enumerate(REFERENCES))
    wanted = score_captions(*texts)
    for loaded in (results[:3], results[3:]):
        merged = loaded[0] | loaded[1] | loaded[2]
        assert merged == pytest.approx(wanted, abs=1e-12)
        assert list(merged) == list(wanted)
    assert rare["CIDEr-D"] == pytest.approx(score_captions(*texts, df=DF)["CIDEr-D"], abs=1e-12)
    assert rare["CIDEr-D"] != pytest.approx(wanted["CIDEr-D"])
    assert error[0] == "MetricError"
    assert "image 0" in error[1]


@pytest.mark.slow
def test_answer_metric_loads_and_equals_the_package(computed: list[list]) -> None:
    official, again, always, error = computed[1]

    names = ("accuracy", "exact_match", "macro_f1")
    texts = [dict(enumerate(column)) for column in ANSWERS]
    assert official == again
    for loaded, strict in ((official, True), (always, False)):
        wanted = score_answers(*texts, strict_official=strict)
        assert loaded == {name: getattr(wanted, name) for name in names}
    assert official["accuracy"] == pytest.approx(1 / 3)
    assert always["accuracy"] == pytest.approx(2 / 3)
    assert error[0] == "MetricError"


@pytest.mark.slow
def test_classification_metric_loads_and_equals_the_package(computed: list[list]) -> None:
    every, chosen, _ = computed[2]

    options = ({}, {"classes": ["a", "d"], "zero_division": 1.0})
    for loaded, some in zip((every, chosen), options, strict=True):
        scores = score_classes(*CLASSES, **some)
        assert loaded.pop("accuracy") == scores.accuracy == 0.5
        means = {"macro": scores.macro, "weighted": scores.weighted}
        assert loaded == {
            f"{mean}_{name}": getattr(score, name)
            for mean, score in means.items()
            for name in ("precision", "recall", "f1")
        }
    assert every != chosen


def test_scoring_imports_no_torch() -> None:
    program = "import sys, captioner.metrics; print(sorted({'torch', 'evaluate'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
