"""Training on two ranks equals training on one, with DDP, FSDP and DeepSpeed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from drawn_images import make_flickr
from runs import assert_equal, best_of, launch, run_in_processes, state_of, words_for

from captioner.cli import train
from captioner.training.html_report import CAPTIONS, LOG, load_rows

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]

ZERO = pytest.mark.skipif(not find_spec("deepspeed"), reason="DeepSpeed is not installed")
KINDS = ["ddp", "fsdp", pytest.param("deepspeed", marks=ZERO)]
STAGES = (
    "train.stages=[{epochs: 2, lr: 1e-3, cached_views: 2},"
    " {epochs: 2, lr: 1e-3, encoder_lr: 1e-4}, {epochs: 1, lr: 1e-4, objective: scst, samples: 2}]"
)
WORDS = [STAGES, "model.dropout=0", "train.ema=0.9", "train.save_every=1", "train.patience=99"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Write six images, one of them damaged: once per epoch, one of two ranks has no image.

    Five of them are for validation, an odd number for two ranks.
    """
    folder = tmp_path_factory.mktemp("ranks")
    make_flickr(folder / "data", train=range(6), bad=(2,))
    return folder


def words_in(folder: Path, kind: str, *more: str) -> list[str]:
    output = folder / kind / "run"
    output.parent.mkdir(exist_ok=True)
    return words_for(folder / "data", output, *WORDS, "train.eval_images=5", *more)


@pytest.fixture(scope="module")
def whole(folder, forks):
    """Return a function from a kind of distribution to the folder of an undisturbed run."""

    def run(kind: str) -> Path:
        output = folder / kind / "whole"
        if not output.exists():
            words = words_in(folder, kind, "train.batch_size=1")
            if kind == "ddp":  # torchrun starts the runs below, whose weights are compared
                statuses, error = forks.train(words, ranks=2)
                assert statuses == [0, 0], error
            else:
                result = run_in_processes(words, folder=folder, kind=kind)
                error = result.stderr
                assert result.returncode == 0, error
            assert error.count("2 process(es)") == 1
            (folder / kind / "run").rename(output)
        return output

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_two_ranks_equal_those_of_one(folder, whole, kind):
    """A batch of two on one rank equals one of one on two ranks; a damaged image has no effect."""
    alone = folder / "one" / "run"
    if not alone.exists():
        assert train.main(words_in(folder, "one", "train.batch_size=2")) == 0
    ours, expected = (load_rows(path / LOG) for path in (whole(kind), alone))
    assert [(row["stage"], row["epoch"]) for row in ours] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
    ]
    # Shards cannot be channels last, so convolutions round differently, and the first steps of
    # AdamW are as long for a small gradient as for a large one. A single rank differs by as much
    # from itself with contiguous convolutions.
    free = 1e-5 if kind == "ddp" else 1e-3
    for row, other in zip(ours[:4], expected, strict=False):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5 if row["stage"] == 0 else free)
    (one, state) = (state_of(path) for path in (alone, whole(kind)))
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in one.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_is_validated_once(whole, kind):
    images = [Path(row["image"]).name for row in load_rows(whole(kind) / CAPTIONS)]
    assert images == ["0.png", "1.png", "3.png", "4.png"]  # the third of the five is damaged


@pytest.mark.parametrize("kind", KINDS)
def test_killed_rank_is_restarted_and_the_result_is_the_same(folder, whole, kind):
    """torchrun restarts both ranks; they resume from the last state without `--resume`."""
    output = folder / kind / "run"
    expected = whole(kind)
    words = words_in(folder, kind, "train.batch_size=1")
    with launch(words, folder=folder, kind=kind, restarts=1) as process:
        # Within the first epoch of the second stage.
        while process.poll() is None and not list((output / "states").glob("01-0000-0000001")):
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1]
        ranks = psutil.Process(process.pid).children()
        (second,) = [rank for rank in ranks if rank.environ().get("RANK") == "1"]
        second.send_signal(signal.SIGKILL)
        error = process.communicate(timeout=600)[1]
    assert process.returncode == 0, error
    assert "resuming after epoch 0 of stage 1" in error
    logs = [{(r["stage"], r["epoch"]): r for r in load_rows(p / LOG)} for p in (output, expected)]
    # The second rank had no readable image in the interrupted epoch.
    assert logs[0][1, 0]["loss"] == pytest.approx(logs[1][1, 0]["loss"], abs=1e-6)
    assert_equal(state_of(output), state_of(expected))
    assert_equal(best_of(output), best_of(expected))


def test_two_nodes_are_two_ranks(folder, whole):
    """Two torchrun agents connect in the same way as on two machines."""
    output = folder / "nodes" / "run"
    words = words_in(folder, "nodes", "train.batch_size=1")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    nodes = [
        "--nnodes=2",
        "--nproc_per_node=1",
        "--rdzv_backend=c10d",
        f"--rdzv_endpoint=localhost:{port}",
        f"--rdzv_id={port}",
    ]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *nodes,
        str(ROOT / "train.py"),
        *words,
    ]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    agents = [subprocess.Popen(command, cwd=folder, env=environ) for _ in range(2)]
    assert [agent.wait(timeout=600) for agent in agents] == [0, 0]
    assert_equal(state_of(output), state_of(whole("ddp")))


def test_restart_before_the_first_state_begins_again(folder, monkeypatch):
    """The files in the folder belong to an earlier run and are renamed, as at every start."""
    output = folder / "anew" / "run"
    words = words_in(folder, "anew", "train.stages=[{epochs: 1}]")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "an earlier one")
    assert train.main(words) == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this one")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train.main(words) == 0
    assert (output / "states.old").exists()


def test_processes_that_were_not_started_are_an_error(folder):
    """`accelerate launch` starts one process on a machine without several GPUs."""
    command = ["accelerate.commands.launch", "--num_processes=2", "--cpu", str(ROOT / "train.py")]
    result = subprocess.run(
        [sys.executable, "-m", *command, *words_in(folder, "lonely")],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode != 0
    assert "torchrun --standalone --nproc_per_node" in result.stderr
