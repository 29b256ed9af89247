"""The results of stages that are not validated, interrupted, or no better than their start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from drawn_images import make_flickr
from question_runs import ASKING, caption, make_both, metrics_of
from runs import best_of, run, sources
from safetensors.torch import load_file

from captioner.training import averaging, html_report, loop, validation

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def log_of(output: Path) -> list[tuple[str, int]]:
    return [(row["name"], row["epoch"]) for row in html_report.load_rows(output / html_report.LOG)]


def test_unvalidated_stages_train_all_epochs_and_are_averaged(tmp_path, capsys):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "run"
    unvalidated = sources({"root": str(data), "eval_images": 0})
    stages = (
        "train.stages=[{name: a, epochs: 3, lr: 1e-3, snapshots: 2},"
        " {name: soup, average: [a], epochs: 0}]"
    )
    assert run(None, output, unvalidated, stages, "train.patience=1") == 0
    assert "data: stage a: none of the data sets that rank" in capsys.readouterr().err
    assert log_of(output) == [("a", 0), ("a", 1), ("a", 2), ("soup", -1)]
    assert metrics_of(output) == {}
    assert "<tr><td>a<td>3<td>none" in (output / "report.html").read_text()
    key = "decoder.embed_tokens.weight"
    parts = [load_file(p / "model.safetensors")[key] for p in (output / "stages/a").glob("0*")]
    assert len(parts) == 2
    torch.testing.assert_close(best_of(output)[key], torch.stack(parts).mean(0))


def test_run_whose_result_is_an_earlier_stage_scores_that_result(tmp_path, monkeypatch):
    captions, questions = make_both(tmp_path)
    output = tmp_path / "run"
    of_stage = {"base": 0.5, "branch": 0.6, "last": 0.4}
    original = validation.validate

    def validate(model, run, stage):
        result = original(model, run, stage)
        result.scores["score"] = of_stage[stage.name]
        result.captions = [row | {"caption": stage.name} for row in result.captions]
        return result

    monkeypatch.setattr(loop, "validate", validate)
    two = sources({"root": str(captions)}, {"root": str(questions), "rank": False})
    stages = (
        "train.stages=[{name: base, epochs: 1, lr: 1e-3, weights: [1, 0]},"
        " {name: branch, epochs: 1, lr: 1e-2, weights: [1, 0]},"
        " {name: last, start: base, epochs: 1, lr: 1e-2}]"
    )
    assert run(None, output, two, ASKING, stages, "train.export=none") == 0
    assert json.loads((output / "best" / "metrics.json").read_text())["stage"] == "base"
    scores = metrics_of(output)
    assert scores["score"] == 0.5
    assert "questions exact match" in scores
    rows = html_report.load_rows(output / html_report.CAPTIONS)
    assert [row["caption"] for row in rows] == caption(
        output / "best", [Path(row["image"]) for row in rows]
    )


@pytest.mark.slow
def test_stop_after_an_average_leaves_one_row_in_the_log(tmp_path, monkeypatch):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "run"
    words = ["train.stages=[{name: a, epochs: 2, snapshots: 2}, {average: [a], epochs: 1}]"]

    def interrupt(*args):
        raise KeyboardInterrupt

    save_result = averaging.save_result

    def save_and_prepare_to_stop(*args, **kwargs):
        save_result(*args, **kwargs)
        monkeypatch.setattr(loop, "run_stage", interrupt)

    with monkeypatch.context() as patch:
        patch.setattr(averaging, "save_result", save_and_prepare_to_stop)
        assert run(data, output, *words) == 130
    monkeypatch.undo()
    assert log_of(output)[-1] == ("1", -1)
    assert run(data, output, *words, resume=True) == 0
    assert log_of(output) == [("a", 0), ("a", 1), ("1", -1), ("1", 0)]
