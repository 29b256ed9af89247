"""Whatever stops a run, the one that goes on ends bit for bit where an unstopped one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import make_flickr
from runs import (
    SELF_CRITICAL,
    assert_equal,
    best_of,
    last_of,
    run,
    state_of,
    stop_at,
    words_for,
)
from torch import nn

import train
from captioner.training import durable

ONCE = "train.stages=[{epochs: 1, lr: 1e-3}]"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 0}


@pytest.fixture
def data(tmp_path) -> Path:
    return make_flickr(tmp_path / "data")


@pytest.fixture
def whole(data, tmp_path):
    """Runs a command to its end; gives its folder, moved away, and where it was."""

    def running(*words: str) -> tuple[Path, Path]:
        output = tmp_path / "run"
        assert run(data, output, *words) == 0
        return output.rename(tmp_path / "whole"), output

    return running


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_signal_stops_between_two_steps(data, whole, monkeypatch, capsys, number, step):
    words = [SELF_CRITICAL, "train.ema=0.9", "data.captions_per_image=1"]
    unstopped, output = whole(*words)
    with monkeypatch.context() as patch:
        stop_at(step, number, patch)
        assert run(data, output, *words) == STATUS[number]
    assert f"{signal.Signals(number).name}: the state is saved" in capsys.readouterr().err
    torch.manual_seed(99)
    # Another number of workers is no other run.
    assert run(data, output, *words, "data.workers=1", resume=True) == 0
    assert_equal(state_of(output), state_of(unstopped))
    assert_equal(best_of(output), best_of(unstopped))
    found = (output / "best" / "metrics.json", unstopped / "best" / "metrics.json")
    assert found[0].read_text() == found[1].read_text()


def test_a_stop_within_accumulated_batches_waits_for_their_step(data, whole, monkeypatch):
    words = [ONCE, "train.batch_size=1", "train.accumulate=2"]
    unstopped, output = whole(*words)
    with monkeypatch.context() as patch:
        stop_at(1, signal.SIGTERM, patch)
        assert run(data, output, *words) == 143
    assert last_of(output).name.endswith("2")
    assert run(data, output, *words, resume=True) == 0
    assert_equal(state_of(output), state_of(unstopped))


def test_the_log_of_a_resumed_epoch_is_that_of_the_whole(data, whole, monkeypatch, capsys):
    _, output = whole(ONCE)
    told = [line for line in capsys.readouterr().err.splitlines() if "epoch 0 (" in line]
    with monkeypatch.context() as patch:
        stop_at(1, signal.SIGTERM, patch)
        assert run(data, output, ONCE) == 143
    assert run(data, output, ONCE, resume=True) == 0
    again = [line for line in capsys.readouterr().err.splitlines() if "epoch 0 (" in line]
    loss = [line.split("loss ")[1].split()[0] for line in (*told, *again)]
    assert loss == [loss[0]] * 2


def test_a_second_signal_interrupts_at_once(data, tmp_path, monkeypatch, capsys):
    stop_at(1, signal.SIGINT, monkeypatch)
    stop_at(1, signal.SIGINT, monkeypatch)
    assert run(data, tmp_path / "run", ONCE) == 130
    assert "goes on from the last state" in capsys.readouterr().err


def test_states_between_epochs_are_those_asked_for(data, tmp_path):
    words = ["train.stages=[{epochs: 2}]", "train.save_every=1", "train.keep=99"]
    assert run(data, tmp_path / "run", *words) == 0
    names = sorted(path.name for path in (tmp_path / "run" / "states").iterdir())
    steps = [name.split("-")[1:] for name in names]
    batches = max(int(batch) for _, batch in steps)
    expected = [(e, b) for e in (0, 1) for b in range(1, batches + 1)] + [(1, 0), (2, 0)]
    assert steps == [[f"{e:04}", f"{b:07}"] for e, b in sorted(expected)]


def test_a_torn_state_is_told_and_the_one_before_resumed(data, whole, monkeypatch, capsys):
    words = [ONCE, "train.save_every=1"]
    unstopped, output = whole(*words)
    with monkeypatch.context() as patch:
        stop_at(2, signal.SIGTERM, patch)
        assert run(data, output, *words) == 143
    torn = last_of(output) / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[:-100])
    assert run(data, output, *words, resume=True) == 0
    assert f"{torn.parent}: state.safetensors is not as it was written" in capsys.readouterr().err
    assert_equal(state_of(output), state_of(unstopped))


def test_a_full_disk_costs_no_more_than_the_states_that_it_has_no_room_for(
    data, whole, monkeypatch, capsys
):
    words = [ONCE, "train.save_every=1"]
    unstopped, output = whole(*words)
    seal, sealed = durable._seal, []

    def full(folder: Path) -> None:
        sealed.append(folder)
        if len(sealed) == 2:
            raise OSError(28, "No space left on device")
        seal(folder)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "_seal", full)
        stop_at(2, signal.SIGTERM, patch)
        assert run(data, output, *words) == 143
    assert "cannot be written: No space left" in capsys.readouterr().err
    assert last_of(output).name.endswith("1")
    assert run(data, output, *words, resume=True) == 0
    assert_equal(state_of(output), state_of(unstopped))


def test_steps_without_a_finite_gradient_are_left_out(data, tmp_path, monkeypatch, capsys):
    clip, norms = nn.utils.clip_grad_norm_, []

    def spoil(parameters, *args, **kwargs):
        parameters = list(parameters)
        norms.append(1)
        if len(norms) == 2:
            next(p.grad for p in parameters if p.grad is not None).fill_(float("nan"))
        return clip(parameters, *args, **kwargs)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", spoil)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoil)
    assert run(data, tmp_path / "run", ONCE) == 0
    assert "step 1: the gradient is not finite; left out" in capsys.readouterr().err
    assert all(x.isfinite().all() for x in state_of(tmp_path / "run").values())


def test_a_run_that_diverges_stops_with_the_last_good_state(data, tmp_path, monkeypatch, capsys):
    words = ["train.stages=[{epochs: 9, lr: 1e-3}]", "train.bad_steps=3", "train.save_every=1"]

    def spoil(parameters, *args, **kwargs):
        return torch.tensor(float("inf"))

    with monkeypatch.context() as patch:
        stop_at(2, signal.SIGTERM, patch)
        assert run(data, tmp_path / "run", *words) == 143
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoil)
    good = {k: v for k, v in state_of(tmp_path / "run").items() if k.startswith("model.")}
    assert run(data, tmp_path / "run", *words, resume=True) == 1
    assert "3 steps in a row" in capsys.readouterr().err.splitlines()[-1]
    found = {k: v for k, v in state_of(tmp_path / "run").items() if k.startswith("model.")}
    assert_equal(found, good)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_and_resumed_each_time(data, tmp_path):
    """Every step is followed by a save, so that many of the kills fall into one."""
    output = tmp_path / "run"
    words = [
        "train.stages=[{epochs: 30, lr: 1e-3, cached_views: 2}, {epochs: 30, lr: 1e-3}]",
        *("train.save_every=1", "train.ema=0.9", "train.eval_every=5", "train.patience=99"),
        "train.threads=1",
    ]
    command = [sys.executable, str(train.__file__), *words_for(data, output, *words)]

    def start(*more: str) -> subprocess.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *more], **quiet, env=os.environ, cwd=tmp_path)

    def newest() -> str:
        return max((path.name for path in (output / "states").glob("[0-9]*")), default="")

    rng = random.Random(0)
    for kills in range(20):
        state = newest()
        process = start(*["--resume"] * bool(state))
        # After so many saves, and then at a moment that may lie within the next one.
        for _ in range(rng.randint(1, 4)):
            while process.poll() is None and newest() == state:
                time.sleep(0.002)
            state = newest()
        time.sleep(rng.uniform(0, 0.03))
        ended = process.poll() is not None
        process.kill()
        error = process.communicate()[1]
        assert not ended, f"over after {kills} kills: {error}"
    process = start("--resume")
    assert process.communicate()[1] is not None
    assert process.returncode == 0
    stopped = output.rename(tmp_path / "stopped")
    process = start()
    process.communicate()
    assert process.returncode == 0
    assert_equal(state_of(stopped), state_of(output))
    assert_equal(best_of(stopped), best_of(output))
