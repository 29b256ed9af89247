"""`train.py` with a graph of stages: branches, averages, image sizes and the finish."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from blocked import run_without
from drawn_images import make_flickr
from question_runs import ASKING, make_both, metrics_of
from runs import best_of, run, sources, stop_after, words_for
from safetensors.torch import load_file

from captioner.build import load_checkpoint
from captioner.checkpoint.graph_files import CAPTION, graph_path
from captioner.config import load_config
from captioner.training import averaging, features, finish, html_report, loop, validation

pytestmark = pytest.mark.usefixtures("fresh_accelerate")

GRAPH = (
    "train.stages=[{name: base, epochs: 1, lr: 3e-3},"
    " {name: a, epochs: 3, lr: 3e-3, encoder_lr: 1e-3, snapshots: 2},"
    " {name: b, start: base, epochs: 2, lr: 3e-3, snapshots: 2, size: 96, jitter: 0},"
    " {name: soup, average: [a, b], epochs: 0, size: 64},"
    " {name: last, epochs: 1, lr: 1e-4, cached_views: 2}]"
)
SMALL = ["train.ema=0.9", "train.save_dtype=float16", "train.patience=9"]


def files_of(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a checkpoint or of all checkpoints of a run."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


@pytest.fixture
def weight_scores(monkeypatch):
    """Score models by a hash of their weights, since models this small have a CIDEr-D of 0."""
    original = validation.validate

    def validate(model, *args):
        result = original(model, *args)
        norm = sum(p.detach().double().abs().sum().item() for p in model.parameters())
        result.scores["score"] = 0.01 + norm * 1000 % 1
        return result

    for module in (loop, averaging, finish):
        monkeypatch.setattr(module, "validate", validate)


@pytest.mark.slow
@pytest.mark.usefixtures("weight_scores")
def test_run_stopped_at_every_point_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "run"
    words = [GRAPH, *SMALL]
    assert run(data, output, *words) == 0
    whole = output.rename(tmp_path / "whole")
    shutil.rmtree(tmp_path / "cache")

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    add = averaging.Evaluations.add

    def add_and_interrupt(*args, **kwargs):
        add(*args, **kwargs)
        raise KeyboardInterrupt

    stops = [
        *(lambda patch: stop_after(1, patch) for _ in range(6)),  # after each epoch before the soup
        lambda patch: patch.setattr(averaging.Evaluations, "add", add_and_interrupt),
        lambda patch: patch.setattr(averaging.Evaluations, "add", add_and_interrupt),
        lambda patch: patch.setattr(averaging, "save_result", interrupt),
        lambda patch: stop_after(1, patch),  # after the soup
        lambda patch: patch.setattr(features, "_note", interrupt),
        lambda patch: stop_after(1, patch),  # after the last epoch
        lambda patch: patch.setattr(finish, "set_size", interrupt),
        lambda patch: patch.setattr(html_report, "write_report", interrupt),
    ]
    for number, stop in enumerate(stops):
        with monkeypatch.context() as patch:
            stop(patch)
            assert run(data, output, *words, resume=number > 0) == 130, number
        torch.manual_seed(number)
    assert run(data, output, *words, resume=True) == 0
    assert files_of(output / "best") == files_of(whole / "best")
    assert files_of(output / "stages") == files_of(whole / "stages")
    # A complete run is not run again.
    before = (output / "report.html").stat().st_mtime_ns
    assert run(data, output, *words, resume=True) == 0
    assert (output / "report.html").stat().st_mtime_ns == before


@pytest.mark.usefixtures("weight_scores")
def test_stages_start_from_their_branch_and_the_average_is_selected(tmp_path, capsys):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "run"
    assert run(data, output, GRAPH, *SMALL) == 0
    log = capsys.readouterr().err
    assert re.findall(r"(stage \w+ epoch \d) \(", log) == [
        *("stage base epoch 0", "stage a epoch 0", "stage a epoch 1", "stage a epoch 2"),
        *("stage b epoch 0", "stage b epoch 1", "stage last epoch 0"),
    ]
    stages = output / "stages"
    assert sorted(p.name for p in stages.iterdir()) == ["a", "b", "base", "last", "soup"]
    assert [len(list((stages / name).glob("0*"))) for name in ("base", "a", "b")] == [1, 2, 2]
    record = json.loads((stages / "soup" / "average" / "metrics.json").read_text())
    chosen = record["average"]
    # The result of a or b may be that of base.
    assert set(chosen) <= {f"stages/{p.parent.name}/{p.name}" for p in stages.glob("[ab]*/0*")}
    scores = json.loads((stages / "soup" / "evaluations.json").read_text())["scores"]
    assert record["val"]["score"] >= max(scores.values())
    # The average is that of the chosen checkpoints, whose other weights have equal shapes.
    average = load_file(stages / "soup" / "average" / "model.safetensors")
    parts = [load_file(output / name / "model.safetensors") for name in chosen]
    for key, value in average.items():
        if key != "memory_encoder.positions":
            mean = torch.stack([part[key] for part in parts]).mean(0)
            torch.testing.assert_close(value, mean)
    # The branch b did not start from a, whose backbone is trained.
    backbones = [
        {k: v for k, v in load_file(next((stages / name).glob("0*")) / "model.safetensors").items()
         if k.startswith("backbone.")}
        for name in ("base", "a", "b")
    ]  # fmt: skip
    base, a, b = backbones
    assert all(torch.equal(base[k], b[k]) for k in base)
    assert any(not torch.equal(base[k], a[k]) for k in base)
    assert best_of(output)["decoder.embed_tokens.weight"].dtype == torch.float16
    html = (output / "report.html").read_text()
    assert "<tr><td>b<td>2<td>" in html


def test_size_of_a_stage_is_that_of_its_checkpoints(tmp_path, capsys):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "run"
    graph = "train.stages=[{epochs: 1}, {epochs: 1, size: 96}, {epochs: 1, cached_views: 1}]"
    assert run(data, output, graph, "image.size=64", "decoding.beam_size=1") == 0
    stages = output / "stages"
    sizes = [load_config(stages / f"{n}/0000/config.yaml").image.size for n in range(3)]
    assert sizes == [64, 96, 96]
    model, _, config = load_checkpoint(output / "best")
    assert config.image.size == 96
    assert len(model.memory_encoder.positions) == 9
    # The configuration of the run does not change, so that the run can be resumed.
    assert run(data, output, graph, "image.size=64", "decoding.beam_size=1", resume=True) == 0


def test_frozen_stages_share_cached_features(tmp_path, monkeypatch):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "run"
    stage = "epochs: 1, lr: 1e-3, cached_views: 2"
    graph = f"{{name: base, {stage}}}, {{{stage}}}, {{start: base, {stage}}}"
    words = [f"train.stages=[{graph}]", "train.save_dtype=float16"]
    assert run(data, output, *words) == 0
    # Of the training images and of the validation images, in spite of weights in half precision.
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_size_that_the_model_cannot_have_is_an_error_before_training(tmp_path, capsys):
    data = make_flickr(tmp_path / "data")
    args = "args: {img_size: 64, depth: 1}"
    backbone = f"model.backbones=[{{name: vit_tiny_patch16_224, weights: none, {args}}}]"
    graph = "train.stages=[{epochs: 1}, {epochs: 1, size: 96}]"
    assert run(data, tmp_path / "run", backbone, graph) == 1
    message = capsys.readouterr().err
    assert "96 pixels" in message.splitlines()[-1]
    assert "stage 0 epoch" not in message


@pytest.mark.slow
def test_stage_validates_and_ranks_what_it_trains(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    two = sources({"root": str(captions)}, {"root": str(questions), "rank": False})
    graph = (
        "train.stages=[{epochs: 1, weights: [1, 0]}, {epochs: 1},"
        " {epochs: 1, weights: [0, 1]}, {epochs: 1, parts: question}]"
    )
    assert run(None, tmp_path / "run", two, ASKING, graph, "train.export=float32") == 0
    log = capsys.readouterr().err
    lines = [line for line in log.splitlines() if re.match(r"stage \d epoch 0 \(", line)]
    validated = [("CIDEr-D" in line, "exact match" in line) for line in lines]
    assert validated == [(True, False), (True, True), (False, True), (False, True)]
    trained = [("captions loss" in line, "questions loss" in line) for line in lines]
    assert trained == validated
    scores = metrics_of(tmp_path / "run")
    assert scores["score"] == scores["questions exact match"]
    assert "captions CIDEr-D" in scores  # although the last stage does not train captions
    best = tmp_path / "run" / "best"
    assert json.loads((best / "metrics.json").read_text())["ranked"] == ["questions"]
    assert graph_path(best, CAPTION).is_file()


@pytest.mark.slow
def test_missing_packages_for_the_graphs_are_an_error_before_training(tmp_path):
    words = words_for(make_flickr(tmp_path / "data"), tmp_path / "run", "train.export=int8")
    code = "import sys; from captioner.cli import train; sys.exit(train.main(sys.argv[1:]))"
    done = run_without(code, *words, blocked=["onnx"])
    assert done.returncode == 1
    assert "train.export=int8 needs onnx" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
