"""Stages, steps and sources of `train.py` with questions."""

from __future__ import annotations

import json
import re

import pytest
import torch
from drawn_images import SHAPES, captions_of, make_questions
from question_runs import (
    ASKING,
    MIXED,
    ONCE,
    OVERFIT,
    ask,
    caption,
    make_both,
    metrics_of,
    picture,
)
from runs import (
    assert_resumed_is_whole,
    last_of,
    run,
    sources,
    state_of,
)
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]


def test_self_critical_stage_trains_questions_with_cross_entropy(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    two = sources({"root": str(captions)}, {"root": str(questions)})
    assert run(None, tmp_path / "run", two, ASKING, MIXED, "train.patience=9") == 0
    errors = capsys.readouterr().err
    lines = [x for x in errors.splitlines() if re.match(r"stage 1 epoch \d \(", x)]
    assert len(lines) == 2
    for line in lines:
        assert "captions reward" in line
        assert "questions loss" in line
        assert "captions loss" not in line


def test_self_critical_stage_requires_captions(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    stages = "train.stages=[{epochs: 1, objective: scst}]"
    status = run(data, tmp_path / "run", ASKING, stages)
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    # Trained with cross-entropy, or rejected with one line.
    assert status == 0 or lines[-1].startswith("train.py: ")


def test_every_part_for_questions_is_trained(tmp_path):
    data = make_questions(tmp_path / "data")
    words = [ASKING, "train.patience=9", "train.ema=0"]
    assert run(data, tmp_path / "one", *words, ONCE) == 0
    assert run(data, tmp_path / "two", *words, "train.stages=[{epochs: 2, lr: 1e-3}]") == 0
    one, two = (state_of(tmp_path / name) for name in ("one", "two"))
    names = [k for k in one if k.startswith(("model.question_encoder.", "model.fusion."))]
    assert names
    still = [k for k in names if torch.equal(one[k], two[k]) and not k.endswith("k_proj.bias")]
    assert still == []


def test_stage_may_set_the_weights_of_the_sources(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    stages = "train.stages=[{epochs: 1}, {epochs: 1, weights: [3, 0.5]}]"
    two = sources({"root": str(captions)}, {"root": str(questions)})
    assert run(None, tmp_path / "run", two, ASKING, stages) == 0
    # Four images per source, two per step: 2 + 2 steps, then 6 + 1.
    record = json.loads((last_of(tmp_path / "run") / "progress.json").read_text())
    assert record["progress"]["step"] == 4 + 7
    errors = capsys.readouterr().err
    assert "4 training images x 1, 3" in errors
    assert "4 training images x 1, 0.5" in errors


@pytest.mark.parametrize("own", [0, 1])
def test_question_stage_leaves_captions_unchanged(tmp_path, capsys, own):
    captions, questions = make_both(tmp_path)
    asking = f"model.question={{encoder_layers: 1, fusion_layers: 1, decoder_layers: {own}}}"
    stages = "train.stages=[{epochs: 1, lr: 1e-3}, {epochs: 2, lr: 1e-3, parts: question}]"
    words = [sources({"root": str(captions)}, {"root": str(questions)}), asking, "train.ema=0"]
    assert run(None, tmp_path / "run", *words, "train.eval_every=9", stages) == 0
    assert "4 training images x 1, 0" in capsys.readouterr().err
    # Two steps of questions in each epoch of the second stage.
    record = json.loads((last_of(tmp_path / "run") / "progress.json").read_text())
    assert record["progress"]["step"] == 4 + 2 * 2
    state = state_of(tmp_path / "run")
    assert run(None, tmp_path / "one", *words, "train.stages=[{epochs: 1, lr: 1e-3}]") == 0
    before = state_of(tmp_path / "one")
    changed = {k for k in before if k.startswith("model.") and not torch.equal(before[k], state[k])}
    parts = ("model.question_encoder.", "model.fusion.", "model.answerer.")
    assert changed
    assert all(k.startswith(parts) for k in changed)
    assert any(k.startswith("model.answerer.layers.") for k in changed) == bool(own)


@pytest.mark.parametrize("wrong", ["encoder_lr: 1e-3", "no parts"])
def test_question_stage_requires_parts_for_questions(tmp_path, capsys, wrong):
    captions, questions = make_both(tmp_path)
    without = wrong == "no parts"
    stage = "{epochs: 1, parts: question" + f", {wrong}" * (not without) + "}"
    words = [f"train.stages=[{stage}]"] + [ASKING] * (not without)
    assert run(captions if without else questions, tmp_path / "run", *words) == 1
    assert "parts=question" in capsys.readouterr().err.splitlines()[-1]


def test_answers_may_have_their_own_decoder(tmp_path):
    """The decoder of answers is trained and shares the token embedding, which is saved once."""
    captions, questions = make_both(tmp_path)
    status = run(
        None,
        tmp_path / "run",
        sources({"root": str(captions), "weight": 40}, {"root": str(questions), "weight": 40}),
        *OVERFIT,
        "model.question={encoder_layers: 1, fusion_layers: 1, decoder_layers: 1, decoder_ffn: 40}",
        "train.eval_every=4",
        "train.stages=[{epochs: 4, lr: 3e-3, encoder_lr: 1e-3, augment: false}]",
    )
    assert status == 0
    best = tmp_path / "run" / "best"
    pairs = [(picture(captions, i), "What shape is it?") for i in range(4)]
    assert ask(best, pairs) == [SHAPES[i][1] for i in range(4)]
    paths = [path for path, _ in pairs]
    assert caption(best, paths) == [captions_of(*SHAPES[i])[0] for i in range(4)]
    weights = load_file(best / "model.safetensors")
    assert [k for k in weights if k.endswith("embed_tokens.weight")] == [
        "decoder.embed_tokens.weight"
    ]
    assert weights["answerer.layers.0.fc1.weight"].shape == (40, 48)


def test_both_tasks_of_one_data_set_share_its_weight(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    with open(questions / "train.jsonl", "a", encoding="utf-8") as file:
        row = {"image": str(picture(captions, 0)), "caption": captions_of(*SHAPES[0])[0]}
        file.write(json.dumps(row) + "\n")
    stages = "train.stages=[{epochs: 1, weights: [0.5, 2]}]"
    two = sources({"root": str(questions)}, {"root": str(captions)})
    assert run(None, tmp_path / "run", two, ASKING, stages) == 0
    errors = capsys.readouterr().err
    lines = [line for line in errors.splitlines() if " training images x " in line]
    assert [line.rpartition(" x ")[2] for line in lines] == ["0.5", "0.5", "2"]


@pytest.mark.parametrize("epochs", [1, 3])
def test_resumed_run_with_two_sources_equals_the_uninterrupted_one(tmp_path, monkeypatch, epochs):
    captions, questions = make_both(tmp_path, train=range(5))
    some = {"root": str(questions), "weight": 1.5}
    words = [sources({"root": str(captions)}, some), ASKING, MIXED, "train.ema=0.9"]
    assert_resumed_is_whole(None, tmp_path / "run", words, epochs, monkeypatch)


def test_one_file_may_hold_captions_and_questions(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    with open(data / "train.jsonl", "a", encoding="utf-8") as file:
        for i in range(3):  # the fourth image has questions only
            row = {"image": f"pictures/{i}.png", "caption": captions_of(*SHAPES[i])[0]}
            file.write(json.dumps(row) + "\n")
    assert run(data, tmp_path / "run", ASKING, ONCE) == 0
    scores = metrics_of(tmp_path / "run")
    assert any(name.endswith("exact match") for name in scores)
    assert any(name.endswith("CIDEr-D") for name in scores)
