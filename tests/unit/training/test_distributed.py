"""Launcher settings on one process; test_train_ranks.py tests two processes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from torch import nn

from captioner.config import TrainConfig
from captioner.errors import ConfigError
from captioner.files import replace_folder
from captioner.training import distributed, run_state
from captioner.training.ema import MovingAverage
from captioner.training.loss import Loss

CONFIGS = Path(__file__).parents[3] / "configs" / "accelerate"
YAMLS = sorted(CONFIGS.iterdir())


# The launcher configurations


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_accelerate_accepts_every_launcher_file_and_each_opens_with_its_command(path):
    result = load_config_from_file(str(path))
    assert result.num_processes % result.num_machines == 0
    opening = path.read_text(encoding="utf-8").split("\ndistributed_type")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    (command,) = re.findall(r"accelerate launch ((?:[^\\\n]|\\\n#)+)", opening)
    words = command.replace("\\\n#", " ").split()
    args = launch_command_parser().parse_args(words)
    assert (args.config_file, args.training_script) == (
        f"configs/accelerate/{path.name}",
        "train.py",
    )
    # Batch size and accumulation belong to the configuration of train.py.
    assert result.mixed_precision is None
    assert not {"gradient_accumulation_steps", "gradient_clipping"} & set(result.deepspeed_config)


def test_launcher_files_request_supported_settings():
    kinds = {path.stem: load_config_from_file(str(path)) for path in YAMLS}
    assert kinds["fsdp"].fsdp_config["fsdp_version"] == 2
    assert kinds["deepspeed"].deepspeed_config == {"zero_stage": 2}
    assert kinds["nodes"].num_machines == 2
    assert kinds["one_gpu"].distributed_type == DistributedType.NO


# The start


@pytest.mark.parametrize(
    ("world", "environ"),
    [
        (1, {}),
        (1, {"MASTER_ADDR": "here"}),  # set by the cluster
        (1, {"ACCELERATE_MIXED_PRECISION": "no"}),
        (2, {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "here"}),
        (1, {"WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "here"}),
    ],
)
def test_check_world_accepts_as_many_processes_as_requested(world, environ):
    distributed.check_world(world, environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
    ],
)
def test_fewer_processes_than_requested_are_an_error_that_names_torchrun(environ):
    with pytest.raises(ConfigError, match="torchrun --standalone --nproc_per_node"):
        distributed.check_world(1, environ)


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        ("FSDP", TrainConfig(precision="no", tracker="none"), "FSDP"),
        ("DEEPSPEED", TrainConfig(precision="fp16", tracker="none"), "DeepSpeed"),
    ],
)
def test_unsupported_launcher_settings_are_errors(monkeypatch, kind, settings, named):
    """On a CPU, Accelerate without this check would silently train without FSDP."""
    if torch.accelerator.is_available():
        pytest.skip("there, it can be")
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(ConfigError, match=named):
        distributed.start(settings, unused=False)


# States of sharded models


def small() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 2)).to(memory_format=torch.channels_last)
    model[1].bias.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(trained, lr=0.1, fused=True)


def advance(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.arange(72.0).view(1, 2, 6, 6) / 72
    model(x).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_optimizer_state_is_saved_by_name_and_restored():
    model, optimizer = small()
    assert dict(distributed.optimizer_state(model, optimizer)) == {}
    advance(model, optimizer)
    state = {k: v.clone() for k, v in distributed.optimizer_state(model, optimizer)}
    assert {k.rpartition(".")[0] for k in state} == {"0.weight", "0.bias", "1.weight"}
    other, another = small()
    other.load_state_dict(model.state_dict())
    distributed.load_optimizer_state(other, another, {k: v.contiguous() for k, v in state.items()})
    for _ in range(3):
        advance(model, optimizer)
        advance(other, another)
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    moment = another.state[other[0].weight]["exp_avg"]
    assert moment.stride() == other[0].weight.stride()  # channels last


def test_place_like_does_not_change_the_values_of_an_average():
    model, _ = small()
    average = MovingAverage(model, 0.5)
    with torch.no_grad():
        model[1].weight.add_(1)
    before = {k: v.clone() for k, v in average.state.items()}
    average.place_like(model)
    assert all(torch.equal(average.state[k], v) for k, v in before.items())
    nothing = MovingAverage(model, 0.0)
    nothing.place_like(model)
    assert nothing.state == {}


def test_prepared_model_on_one_process_is_the_model():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    model, optimizer = small()
    prepared = distributed.Prepared(Accelerator(cpu=True), model, optimizer)
    with prepared.full_model() as plain:
        assert plain is prepared.model is model
    assert prepared.end() is model
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_any_rank_is_true_on_all_ranks_if_true_on_one():
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    assert distributed.any_rank(accelerator, True)
    assert not distributed.any_rank(accelerator, False)


# Restarts


def test_only_a_state_of_the_same_launch_is_resumed_after_a_restart(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    assert not run_state.is_of_this_launch(tmp_path)
    for number, launch in enumerate(("other", "this")):
        with replace_folder(tmp_path / f"00-{number:04}-0000000", 0) as folder:
            (folder / "progress.json").write_text(json.dumps({"launch": launch}))
        assert run_state.is_of_this_launch(tmp_path) == (launch == "this")


def test_restart_is_detected_by_its_number(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert not distributed.restarted()
    for count in ("0", "2"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
        assert distributed.restarted() == (count != "0")


# A rank without a readable image


def test_zeroed_loss_has_zero_gradients():
    weight = torch.ones(3, requires_grad=True)
    loss = Loss(weight.sum(), torch.tensor(3), 2).zeroed()
    loss.total.backward()
    assert (loss.tokens.item(), loss.texts) == (0, 0)
    assert torch.equal(weight.grad, torch.zeros(3))
