"""The cost estimate of a stage: its trial step and its description."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from drawn_images import make_flickr
from runs import TINY, sources

from captioner.cli import train
from captioner.config import load_config
from captioner.data.sampler import EpochBatches
from captioner.data.splits import read_splits
from captioner.training import setup
from captioner.training.cost_estimate import CostEstimate, estimate_cost, format_duration, peak_of
from captioner.training.distributed import Prepared
from captioner.training.loss import Objective
from captioner.training.optimizer import build_optimizer
from captioner.training.stage import start_stage


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_flickr(tmp_path_factory.mktemp("flickr"))


def planned(data, *words: str, batch: int = 2):
    """Return the model before and after the trial, and the estimate."""
    torch.manual_seed(0)
    where = [f"data.root={data}", "data.val_splits=[train]"] if data else []
    config = load_config(None, [*TINY, *where, *words])
    tasks, rows, val, _ = read_splits(config)
    model, tokenizer, config = setup.build_start(config, rows)
    train_set, val_set = setup.build_datasets(config, tasks, rows, val, tokenizer)
    stage = config.train.stages[0]
    start_stage(stage, config, model, train_set, val_set)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = [train_set.select_images(number) for number in range(len(tasks))]
    batches = EpochBatches(images, batch)
    objective = Objective(stage, smoothing=0.1, max_length=8)
    accelerator = Accelerator(cpu=True)
    prepared = Prepared(accelerator, model, build_optimizer(model, config.train, stage))
    result = estimate_cost(objective, prepared, train_set, batches, accelerator)
    return before, model, batches, result


def test_trial_step_changes_no_weight_and_leaves_no_gradient(data):
    before, model, batches, plan = planned(data, "train.stages=[{encoder_lr: 1e-3}]")
    after = model.state_dict()
    assert [k for k in before if not torch.equal(before[k], after[k])] == []
    assert all(p.grad is None for p in model.parameters())
    assert plan.steps == len(batches)
    assert plan.seconds > 0
    assert 0 < plan.memory < plan.room


def test_frozen_backbone_costs_fewer_flops(data):
    frozen, free = (
        planned(data, f"train.stages=[{{encoder_lr: {rate}}}]")[-1].flops for rate in (0, 1e-3)
    )
    assert 0 < frozen < free


def test_description_has_time_and_memory_of_the_remaining_epochs():
    plan = CostEstimate(steps=100, seconds=50.0, flops=1e12, memory=int(3e9), room=int(24e9))
    line = plan.describe(epochs=12, batch_size=32)
    assert "100 steps an epoch, 0.50 s each: about 10 min 0 s for 12 epoch(s)" in line
    assert "3.0 of 24 GB at 32 images" in line
    full = CostEstimate(steps=100, seconds=50.0, flops=1e12, memory=int(23e9), room=int(24e9))
    assert "train.accumulate" in full.describe(1, 32)
    assert plan.measure_speed(25.0, torch.device("cpu")) == {"TFLOP/s": pytest.approx(0.04)}


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("Tesla T4", 65),
        ("NVIDIA GeForce RTX 4090", 165),
        ("Quadro P400", None),
        ("", None),
    ],
)
def test_peak_is_found_by_the_drivers_name_of_a_gpu(name, peak):
    assert peak_of(name) == peak


def test_format_duration():
    assert [format_duration(s) for s in (12.4, 75, 7300)] == ["12 s", "1 min 15 s", "2 h 1 min"]


def test_run_logs_the_cost_of_each_stage(data, tmp_path, capsys):
    words = [*TINY, f"data.root={data}", "data.val_splits=[train]", f"train.output={tmp_path}"]
    words += ["train.stages=[{epochs: 1, lr: 1e-3}, {epochs: 1, lr: 1e-4, objective: scst}]"]
    assert train.main([*words, "data.limit=4", f"train.cache={tmp_path}"]) == 0
    result = capsys.readouterr().err
    assert "stage 0: 2 steps an epoch" in result
    assert "stage 1: 2 steps an epoch" in result
    assert "TFLOP/s" in result


def test_every_source_gets_a_trial_step(data):
    alone = planned(data)[-1]
    both = planned(None, sources({"root": str(data)}, {"root": str(data)}))
    assert both[-1].steps == 2 * alone.steps
    # The same work twice; only the first captions differ.
    assert both[-1].flops == pytest.approx(2 * alone.flops, rel=0.1)
