"""`train.py` with a teacher, and fine-tuning of a pruned checkpoint."""

from __future__ import annotations

import json

import pytest
from drawn_images import make_flickr
from runs import assert_resumed_is_whole, best_of, run, words_for

from captioner.build import load_checkpoint
from captioner.cli import export
from captioner.training import wide_depthwise
from captioner.training.html_report import LOG, load_rows

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]

STAGE = "train.stages=[{epochs: 2, lr: 1e-3, encoder_lr: 1e-4}]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a data set and a checkpoint that was trained on it."""
    from accelerate.state import AcceleratorState, GradientState

    folder = tmp_path_factory.mktemp("teacher")
    data = make_flickr(folder / "data")
    words = ["model.dropout=0", "train.stages=[{epochs: 8, lr: 3e-3}]"]
    assert run(data, folder / "first", *words) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return data, folder / "first" / "best"


def teacher_words(checkpoint, **settings) -> list[str]:
    settings = {"checkpoints": [str(checkpoint)]} | settings
    words = [f"train.start={checkpoint}", f"train.teacher={json.dumps(settings)}"]
    return [*words, "model.dropout=0"]  # of the checkpoint


def test_a_resumed_run_with_a_teacher_equals_a_whole_one(trained, tmp_path, monkeypatch):
    data, checkpoint = trained
    words = [*teacher_words(checkpoint, words=0.5, features=0.5, captions=2), STAGE]
    assert_resumed_is_whole(data, tmp_path / "run", words, 1, monkeypatch)
    assert len(list((tmp_path / "run").glob("teacher_captions.*.jsonl"))) == 1


def test_a_teacher_with_the_same_frozen_backbone_reads_cached_features(trained, tmp_path, capsys):
    data, checkpoint = trained
    words = teacher_words(checkpoint, words=1.0, features=1.0)
    stage = "train.stages=[{epochs: 1, lr: 1e-3, cached_views: 1}]"
    assert run(data, tmp_path / "frozen", *words, stage) == 0
    assert load_rows(tmp_path / "frozen" / LOG)[-1]["loss"] > 0
    other = "train.stages=[{epochs: 1, encoder_lr: 1e-2}, {epochs: 1, cached_views: 1}]"
    assert run(data, tmp_path / "trained", *words, other) == 1
    assert "train.stages.1: cached_views" in capsys.readouterr().err.splitlines()[-1]


def test_cached_features_serve_a_teacher_in_bfloat16(trained, tmp_path, monkeypatch):
    """The backbones of both run their wide depthwise convolutions in float32."""
    data, checkpoint = trained
    monkeypatch.setattr(wide_depthwise, "NARROW", 1)  # the backbone has 3 x 3 kernels only
    stage = "train.stages=[{epochs: 1, lr: 1e-3, cached_views: 1}]"
    words = [*teacher_words(checkpoint, words=1.0), stage, "train.precision=bf16"]
    assert run(data, tmp_path / "run", *words) == 0


def test_a_pruned_checkpoint_is_fine_tuned_with_its_original_as_the_teacher(trained, tmp_path):
    data, checkpoint = trained
    small = tmp_path / "small"
    flags = ["--prune", "0.9", "--output", str(small), "--images", "3"]
    assert export.main([str(checkpoint), *flags]) == 0  # on the data that it was trained on
    sizes = load_checkpoint(small)[2].model.sizes
    assert sizes
    words = teacher_words(checkpoint, words=0.5, features=1.0)
    assert run(data, tmp_path / "tuned", *words, f"train.start={small}", STAGE) == 0
    model, _, config = load_checkpoint(tmp_path / "tuned" / "best")
    assert config.model.sizes == sizes
    before = load_checkpoint(small)[0].state_dict()
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }


def test_two_ranks_with_a_teacher_have_the_losses_of_one(trained, tmp_path, forks):
    data, checkpoint = trained
    words = [*teacher_words(checkpoint, words=0.5, features=0.5, captions=2)]
    words += ["train.stages=[{epochs: 2, lr: 1e-3}]"]
    pair, alone = tmp_path / "pair" / "run", tmp_path / "alone" / "run"
    for folder in (pair, alone):
        folder.parent.mkdir()
    statuses, error = forks.train(words_for(data, pair, *words, "train.batch_size=1"), ranks=2)
    assert statuses == [0, 0], error
    assert run(data, alone, *words, "train.batch_size=2") == 0
    assert len(list(pair.glob("teacher_captions.*.jsonl"))) == 2
    for row, other in zip(load_rows(pair / LOG), load_rows(alone / LOG), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-4)
    one, other = best_of(pair), best_of(alone)
    assert one.keys() == other.keys()


def test_a_run_with_a_teacher_saves_no_weights_of_it(trained, tmp_path):
    data, checkpoint = trained
    words = teacher_words(checkpoint, words=0.0, features=1.0)
    stage = "train.stages=[{epochs: 1, lr: 1e-9, warmup: 0}]"
    assert run(data, tmp_path / "run", *words, stage) == 0
    shapes = [{k: v.shape for k, v in best_of(x).items()} for x in (tmp_path / "run",)]
    assert shapes[0] == {k: v.shape for k, v in best_of(checkpoint.parent).items()}
