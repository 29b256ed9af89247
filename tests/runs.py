"""Runs of `train.py` on drawn images, with a backbone of 99,000 parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from captioner.cli import train
from captioner.training import run_state
from captioner.training.ema import MovingAverage

TINY = [
    "image.size=64",
    "image.min_scale=0.9",
    "model.backbones=[{name: test_efficientnet, weights: none}]",
    "model.width=48",
    "model.heads=2",
    "model.ffn=96",
    "model.decoder_layers=1",
    "model.max_length=16",
    "model.dropout=0.1",
    "decoding.max_length=16",
    "decoding.beam_size=2",
    "tokenizer.vocab_size=320",
    "train.batch_size=2",
    "train.tracker=none",
    "train.precision=no",
]
TWO_STAGES = (
    "train.stages=[{epochs: 2, lr: 1e-3, cached_views: 2}, {epochs: 2, lr: 1e-3, encoder_lr: 1e-3}]"
)
GREEDY_BASELINE = (
    "train.stages=[{epochs: 1, lr: 1e-3},"
    " {epochs: 3, lr: 1e-4, objective: scst, samples: 2, baseline: greedy, bleu: 0.5}]"
)
SELF_CRITICAL = (
    "train.stages=[{epochs: 2, lr: 1e-3},"
    " {epochs: 2, lr: 1e-4, objective: scst, samples: 3, cached_views: 2}]"
)


def words_for(data: Path | None, output: Path, *words: str) -> list[str]:
    """Return the arguments of `train.py`; without `data`, `words` must name the data sets."""
    result = [*TINY, f"train.output={output}", f"train.cache={output.parent / 'cache'}"]
    if data is not None:
        result += [f"data.root={data}", "data.val_splits=[train]"]
    return [*result, *words]


def run(data: Path | None, output: Path, *words: str, resume: bool = False) -> int:
    """Run `train.py`; return its exit status."""
    return train.main([*words_for(data, output, *words), *["--resume"] * resume])


def sources(*some: dict[str, Any]) -> str:
    """Return the setting for several data sets, each validated on its training images."""
    return f"data.sources={json.dumps([{'val_splits': ['train']} | one for one in some])}"


def launch(
    words: list[str], *, folder: Path, kind: str = "ddp", restarts: int = 0
) -> subprocess.Popen[str]:
    """Start two processes with torchrun, or with `accelerate launch` and its configuration."""
    root = Path(__file__).resolve().parents[1]
    script = root / "train.py"
    if kind == "ddp":
        command = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    else:
        file = root / "configs" / "accelerate" / f"{kind}.yaml"
        command = ["accelerate.commands.launch", f"--config_file={file}", "--main_process_port=0"]
    if kind == "fsdp":
        script = Path(__file__).with_name("on_cpu.py")
    return subprocess.Popen(
        [sys.executable, "-m", *command, f"--max_restarts={restarts}", str(script), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )


def run_in_processes(
    words: list[str], *, folder: Path, kind: str = "ddp"
) -> subprocess.CompletedProcess[str]:
    """Run two processes to their end."""
    with launch(words, folder=folder, kind=kind) as process:
        try:
            out, err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def state_of(output: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the newest state."""
    return load_file(last_of(output) / "state.safetensors")


def last_of(output: Path) -> Path:
    """Return the folder of the newest state."""
    return max((output / "states").glob("[0-9]*"))


def best_of(output: Path) -> dict[str, torch.Tensor]:
    """Return the best weights."""
    return load_file(output / "best" / "model.safetensors")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Assert that tensors are equal bit for bit."""
    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


def stop_after(epochs: int, monkeypatch) -> None:
    """Interrupt the run after a number of saved epochs."""
    save, saved = run_state.save_state, []

    def save_and_stop(*args, **kwargs):
        save(*args, **kwargs)
        saved.append(1)
        if len(saved) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_state, "save_state", save_and_stop)


def stop_at(step: int, number: int, monkeypatch) -> None:
    """Send this process a signal at a step, counted from 1."""
    update, steps = MovingAverage.update, []

    def update_and_stop(*args):
        update(*args)
        steps.append(1)
        if len(steps) == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(MovingAverage, "update", update_and_stop)


def assert_resumed_is_whole(
    data: Path | None, output: Path, words: list[str], epochs: int, monkeypatch
) -> None:
    """Assert that a run that is stopped and resumed equals an uninterrupted one."""
    # The output folder is part of the configuration, so both runs must use the same one.
    assert run(data, output, *words) == 0
    whole = output.rename(output.with_name("whole"))
    with monkeypatch.context() as patch:
        stop_after(epochs, patch)
        assert run(data, output, *words) == 130
    torch.manual_seed(99)
    assert run(data, output, *words, resume=True) == 0
    assert_equal(state_of(output), state_of(whole))
    assert_equal(best_of(output), best_of(whole))
    for name in ("best/metrics.json", "best/config.yaml"):
        assert (output / name).read_text() == (whole / name).read_text(), name
    one, other = (last_of(folder) / "progress.json" for folder in (output, whole))
    assert one.read_text() == other.read_text()
