"""`train.py` starting from a checkpoint or a model soup."""

from __future__ import annotations

import json

import pytest
import torch
from drawn_images import make_flickr
from runs import (
    run,
)

from captioner.build import load_checkpoint
from captioner.cli import train

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def test_fine_tuning_starts_from_a_checkpoint(tmp_path):
    data = make_flickr(tmp_path / "data")
    once = "train.stages=[{epochs: 1, encoder_lr: 1e-4}]"
    assert run(data, tmp_path / "first", once) == 0
    start = tmp_path / "first" / "best"
    other = make_flickr(tmp_path / "other", train=(4, 5))
    command = [
        f"data.root={other}",
        "data.val_splits=[train]",
        f"train.output={tmp_path / 'second'}",
        f"train.start={start}",
        "train.tracker=none",
        "train.precision=no",
        "decoding.max_length=16",
        "train.stages=[{epochs: 1, lr: 1e-9, warmup: 0}]",
    ]
    assert train.main(command) == 0
    # The run has its model, pixels and tokenizer, which its own configuration does not name.
    before, tokenizer, theirs = load_checkpoint(start)
    after, same_tokenizer, config = load_checkpoint(tmp_path / "second" / "best")
    assert same_tokenizer.model == tokenizer.model
    assert config.model == theirs.model
    assert (config.image.size, config.image.mean) == (theirs.image.size, theirs.image.mean)
    weights = after.state_dict()
    for key, value in before.state_dict().items():
        torch.testing.assert_close(weights[key], value, atol=1e-6, rtol=0)


def test_fine_tuning_with_another_model_section_is_an_error(tmp_path, capsys):
    data = make_flickr(tmp_path / "data")
    assert run(data, tmp_path / "first", "train.stages=[{epochs: 1}]") == 0
    start = f"train.start={tmp_path / 'first' / 'best'}"
    assert run(data, tmp_path / "second", start, "model.width=64") == 1
    assert "model" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_model_soup_is_the_mean_of_its_checkpoints(tmp_path):
    data = make_flickr(tmp_path / "data")
    stage = "train.stages=[{epochs: 1, encoder_lr: 1e-3}]"
    parts = [tmp_path / "first" / "best"]
    assert run(data, tmp_path / "first", stage) == 0
    for seed in (1, 2):
        words = [f"train.start={parts[0]}", f"train.seed={seed}", stage]
        assert run(data, tmp_path / str(seed), *words) == 0
        parts.append(tmp_path / str(seed) / "best")
    soup = f"train.soup=[{parts[1]}, {parts[2]}, {parts[2]}]"
    words = [f"train.start={parts[0]}", soup, "train.validate_start=true"]
    assert run(data, tmp_path / "soup", *words, "train.stages=[{epochs: 0}]") == 0
    result, *each = (
        load_checkpoint(p)[0].state_dict() for p in (tmp_path / "soup" / "best", *parts)
    )
    for key, value in result.items():
        if value.is_floating_point():
            mean = (each[0][key] + each[1][key] + 2 * each[2][key]) / 4
            torch.testing.assert_close(value, mean)
    record = json.loads((tmp_path / "soup" / "best" / "metrics.json").read_text())
    assert record["epoch"] == -1
    assert (tmp_path / "soup" / "report.html").exists()


def test_fine_tuning_at_another_size_resizes_the_positions(tmp_path):
    data = make_flickr(tmp_path / "data")
    stage = "train.stages=[{epochs: 1}]"
    assert run(data, tmp_path / "first", stage) == 0
    start = tmp_path / "first" / "best"
    words = [f"train.start={start}", "image.size=96", "train.validate_start=true"]
    assert run(data, tmp_path / "second", *words, "train.stages=[{epochs: 0}]") == 0
    (before, _, _), (after, _, config) = (
        load_checkpoint(p) for p in (start, tmp_path / "second" / "best")
    )
    assert config.image.size == 96
    before.memory_encoder.resize(len(after.memory_encoder.positions))
    assert len(after.memory_encoder.positions) == 9
    for key, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[key], value)


def test_backbone_of_fixed_size_cannot_be_fine_tuned_at_another(tmp_path, capsys):
    data = make_flickr(tmp_path / "data")
    args = "args: {img_size: 64, depth: 1}"
    backbone = f"model.backbones=[{{name: vit_tiny_patch16_224, weights: none, {args}}}]"
    assert run(data, tmp_path / "first", backbone, "train.stages=[{epochs: 1}]") == 0
    start = f"train.start={tmp_path / 'first' / 'best'}"
    assert run(data, tmp_path / "second", start, backbone, "image.size=96") == 1
    assert "image.size" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_start_is_kept_if_no_epoch_is_better(tmp_path):
    data = make_flickr(tmp_path / "data")
    words = ["train.stages=[{epochs: 40, lr: 3e-3}]", "train.eval_every=40"]
    assert run(data, tmp_path / "first", *words) == 0
    start = tmp_path / "first" / "best"
    spoil = "train.stages=[{epochs: 2, lr: 10, warmup: 0}]"
    words = [f"train.start={start}", "train.validate_start=true", spoil]
    assert run(data, tmp_path / "second", *words) == 0
    before, after = (
        load_checkpoint(p)[0].state_dict() for p in (start, tmp_path / "second" / "best")
    )
    for key, value in before.items():
        torch.testing.assert_close(after[key], value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", ["tokenizer", "pixels", "model", "heads", "no start", "no validation"]
)
def test_model_soup_of_different_models_is_an_error(tmp_path, capsys, wrong):
    data = make_flickr(tmp_path / "data")
    stage = "train.stages=[{epochs: 1}]"
    assert run(data, tmp_path / "first", stage) == 0
    start, other = (tmp_path / name / "best" for name in ("first", "other"))
    different = {"tokenizer": "tokenizer.kind=bpe", "pixels": "image.mean=[0.4, 0.5, 0.5]"}
    different |= {"model": "model.ffn=32", "heads": "model.heads=1"}
    if wrong in different:
        assert run(data, tmp_path / "other", stage, different[wrong]) == 0
    words = [f"train.start={start}", f"train.soup=[{other}]"]
    if wrong == "no start":
        words = words[1:]
    if wrong == "no validation":
        words, stage = words[:1], "train.stages=[{epochs: 0}]"
    assert run(data, tmp_path / "soup", *words, stage) == 1
    named = {"no validation": "validate_start", "model": "fc1", "heads": "model.heads"}
    assert named.get(wrong, "train.soup") in capsys.readouterr().err.splitlines()[-1]
