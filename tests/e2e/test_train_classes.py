"""`train.py` with a classifier of questions: exact answers, resuming, fine-tuning, calibration."""

from __future__ import annotations

import json
from itertools import cycle

import pytest
from drawn_images import SHAPES, make_questions, questions_of
from question_runs import OVERFIT, make_both, metrics_of
from runs import assert_resumed_is_whole, run, sources, words_for

import captioner
from captioner.build import load_checkpoint
from captioner.config import load_config
from captioner.training import preflight

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]

CLASSIFYING = "model.question={encoder_layers: 1, fusion_layers: 1, classes: 50}"


def test_answers_are_learned_exactly(tmp_path):
    data, output = make_questions(tmp_path / "data"), tmp_path / "run"
    stages = "train.stages=[{epochs: 4, lr: 4e-3, encoder_lr: 1e-3, augment: false}]"
    words = ("data.weight=40", "train.eval_every=4", "train.export=float32", stages)
    assert run(data, output, *OVERFIT, CLASSIFYING, *words) == 0
    scores = metrics_of(output)
    assert scores["exact match"] == scores["score"] == 1
    pairs = [
        (data / "pictures" / f"{i}.png", question, expected)
        for i in range(4)
        for question, expected in questions_of(*SHAPES[i])
    ]
    answers = {expected for *_, expected in pairs}
    assert set(json.loads((output / "best" / "answers.json").read_text())) == answers
    for backend in ("onnx", "torch"):
        model = captioner.load(output / "best", backend=backend)
        results = model.answer([(path, question) for path, question, _ in pairs])
        assert [result.text for result in results] == [expected for *_, expected in pairs]
        assert model.config.answers.temperature < 1  # all held-out answers are right
    (tables,) = json.loads((output / "best" / "metrics.json").read_text())["classes"].values()
    assert tables["all"]["accuracy"] == tables["all"]["macro"]["f1"] == 1
    assert "Classes of" in (output / "report.html").read_text()


def test_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    data = make_questions(tmp_path / "data")
    words = [CLASSIFYING, "train.ema=0.9", "train.stages=[{epochs: 3, lr: 1e-3}]"]
    assert_resumed_is_whole(data, tmp_path / "run", words, 2, monkeypatch)


def test_classifier_is_added_to_a_captioner_and_fine_tuned(tmp_path):
    captions, questions = make_both(tmp_path)
    assert run(captions, tmp_path / "first", "train.stages=[{epochs: 1, lr: 1e-3}]") == 0
    start = f"train.start={tmp_path / 'first' / 'best'}"
    stage = "train.stages=[{epochs: 1, lr: 1e-3, parts: question}]"
    both = sources({"root": str(captions)}, {"root": str(questions)})
    assert run(None, tmp_path / "second", both, start, CLASSIFYING, stage) == 0
    first, *_ = load_checkpoint(tmp_path / "first" / "best")
    second, _, config = load_checkpoint(tmp_path / "second" / "best")
    assert config.model.question.classes == 50
    weights = second.decoder.state_dict()
    assert all((weights[key] == value).all() for key, value in first.decoder.state_dict().items())
    # Fine-tuning keeps the answers of the checkpoint, even if the data has others.
    other = make_questions(tmp_path / "other", train=(4, 5))
    start = f"train.start={tmp_path / 'second' / 'best'}"
    stage = "train.stages=[{epochs: 1, lr: 1e-3}]"
    assert run(other, tmp_path / "third", start, CLASSIFYING, stage) == 0
    third, *_ = load_checkpoint(tmp_path / "third" / "best")
    assert third.answers == second.answers


@pytest.mark.parametrize("weights", [(1,), (1e-6, 1, 1e6)])
def test_preflight_overfits_classes(weights, tmp_path):
    data = make_questions(tmp_path / "data")
    lines = (data / "train.jsonl").read_text().splitlines()
    rows = [
        json.loads(line) | {"weight": w} for line, w in zip(lines, cycle(weights), strict=False)
    ]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(None, words_for(data, tmp_path / "run", *OVERFIT, CLASSIFYING))
    findings = list(preflight.preflight(config, tell=lambda line: None))
    assert [finding for finding in findings if not finding.fine] == []
