"""A stopped and resumed run ends with the same weights, bit for bit, as an uninterrupted run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from drawn_images import make_flickr
from forks import Moment
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

from captioner import files
from captioner.training.html_report import CAPTIONS, LOG, load_rows

ONCE = "train.stages=[{epochs: 1, lr: 1e-3}]"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 0}


@pytest.fixture
def data(tmp_path) -> Path:
    return make_flickr(tmp_path / "data")


@pytest.fixture
def whole(data, tmp_path):
    """Return a function that runs a command and moves its folder; it returns both paths."""

    def running(*words: str) -> tuple[Path, Path]:
        output = tmp_path / "run"
        assert run(data, output, *words) == 0
        return output.rename(tmp_path / "whole"), output

    return running


@pytest.mark.slow
def test_signal_stops_the_run_between_two_steps(data, whole, monkeypatch, capsys):
    words = [SELF_CRITICAL, "train.ema=0.9", "data.captions_per_image=1"]
    unstopped, output = whole(*words)
    for step in (1, 4, 5):
        stopped = []
        for number, status in STATUS.items():
            with monkeypatch.context() as patch:
                stop_at(step, number, patch)
                assert run(data, output, *words) == status
            assert f"{signal.Signals(number).name}: the state is saved" in capsys.readouterr().err
            progress = (last_of(output) / "progress.json").read_text()
            stopped.append((state_of(output), progress))
        # The state does not depend on the signal, so only one of them is resumed.
        for state, progress in stopped[1:]:
            assert_equal(state, stopped[0][0])
            assert progress == stopped[0][1]
        torch.manual_seed(99)
        # The number of workers may change.
        assert run(data, output, *words, "data.workers=1", resume=True) == 0
        assert_equal(state_of(output), state_of(unstopped))
        assert_equal(best_of(output), best_of(unstopped))
        result = (output / "best" / "metrics.json", unstopped / "best" / "metrics.json")
        assert result[0].read_text() == result[1].read_text()


def test_signal_within_accumulated_batches_waits_for_their_step(data, whole, monkeypatch):
    words = [ONCE, "train.batch_size=1", "train.accumulate=2"]
    unstopped, output = whole(*words)
    with monkeypatch.context() as patch:
        stop_at(1, signal.SIGTERM, patch)
        assert run(data, output, *words) == 143
    assert last_of(output).name.endswith("2")
    assert run(data, output, *words, resume=True) == 0
    assert_equal(state_of(output), state_of(unstopped))


def test_log_of_a_resumed_epoch_covers_the_whole_epoch(data, whole, monkeypatch, capsys):
    _, output = whole(ONCE)
    message = [line for line in capsys.readouterr().err.splitlines() if "epoch 0 (" in line]
    with monkeypatch.context() as patch:
        stop_at(1, signal.SIGTERM, patch)
        assert run(data, output, ONCE) == 143
    assert run(data, output, ONCE, resume=True) == 0
    again = [line for line in capsys.readouterr().err.splitlines() if "epoch 0 (" in line]
    loss = [line.split("loss ")[1].split()[0] for line in (*message, *again)]
    assert loss == [loss[0]] * 2


def test_second_signal_interrupts_at_once(data, tmp_path, monkeypatch, capsys):
    stop_at(1, signal.SIGINT, monkeypatch)
    stop_at(1, signal.SIGINT, monkeypatch)
    assert run(data, tmp_path / "run", ONCE) == 130
    assert "continues from the last state" in capsys.readouterr().err


def test_states_are_saved_every_so_many_steps(data, tmp_path):
    words = ["train.stages=[{epochs: 2}]", "train.save_every=1", "train.keep=99"]
    assert run(data, tmp_path / "run", *words) == 0
    names = sorted(path.name for path in (tmp_path / "run" / "states").iterdir())
    steps = [name.split("-")[1:] for name in names]
    batches = max(int(batch) for _, batch in steps)
    expected = [(e, b) for e in (0, 1) for b in range(1, batches + 1)] + [(1, 0), (2, 0)]
    assert steps == [[f"{e:04}", f"{b:07}"] for e, b in sorted(expected)]


def test_damaged_state_is_reported_and_the_one_before_is_resumed(data, whole, monkeypatch, capsys):
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


def test_full_disk_costs_only_the_states_without_room(data, whole, monkeypatch, capsys):
    words = [ONCE, "train.save_every=1"]
    unstopped, output = whole(*words)
    seal, sealed = files._seal, []

    def full(folder: Path) -> None:
        sealed.append(folder)
        if len(sealed) == 2:
            raise OSError(28, "No space left on device")
        seal(folder)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_seal", full)
        stop_at(2, signal.SIGTERM, patch)
        assert run(data, output, *words) == 143
    assert "cannot be written: No space left" in capsys.readouterr().err
    assert last_of(output).name.endswith("1")
    assert run(data, output, *words, resume=True) == 0
    assert_equal(state_of(output), state_of(unstopped))


def test_steps_without_a_finite_gradient_are_skipped(data, tmp_path, monkeypatch, capsys):
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
    assert "step 1: the gradient is not finite; step skipped" in capsys.readouterr().err
    assert all(x.isfinite().all() for x in state_of(tmp_path / "run").values())


def test_diverging_run_stops_and_keeps_the_last_good_state(data, tmp_path, monkeypatch, capsys):
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
    result = {k: v for k, v in state_of(tmp_path / "run").items() if k.startswith("model.")}
    assert_equal(result, good)


CHECKPOINT, FILES = "captioner.checkpoint.weights", "captioner.files"
RUN_STATE = "captioner.training.run_state"
REPORT = "captioner.training.html_report"
RENAME, SAVE_BEST = "pathlib:Path.rename", f"{CHECKPOINT}:save_best"
BEFORE_ANY_STATE = [
    Moment("captioner.training.features:_note"),  # features are encoded
    Moment("accelerate:Accelerator.backward", 2, "after"),  # between two steps
    Moment(f"{CHECKPOINT}:save_file", 1, "half"),  # half of the tensors are written
    Moment(f"{FILES}:_seal"),  # the files are written, the manifest is not
    Moment(f"{FILES}:_seal", 1, "after"),  # complete, under its temporary name
]
WITH_A_STATE = [
    Moment(RENAME, 1, "after", f"{RUN_STATE}:save_state"),  # under its name, not yet synced
    Moment("captioner.training.ema:MovingAverage.update"),  # after a step, before its state
    Moment("captioner.training.validation:score_captions"),  # in the validation
    Moment(f"{CHECKPOINT}:save_file", 1, "half", SAVE_BEST),  # during the first best checkpoint
    Moment(f"{REPORT}:replace_rows"),  # best checkpoint written, its captions not
    Moment(f"{REPORT}:replace_rows", 1, "after"),  # captions written, log not
    Moment(f"{REPORT}:log_row", 1, "after"),  # log written, state not
    Moment(RENAME, 1, "after", SAVE_BEST),  # the best checkpoint exists under temporary names only
    Moment(RENAME, 2, "after", SAVE_BEST),  # the old best checkpoint is still there
    Moment("shutil:rmtree", 4, "before", f"{RUN_STATE}:save_state"),  # old states are removed
    Moment(f"{CHECKPOINT}:load_best", 1, "after"),  # between the stages
    Moment("accelerate:Accelerator.backward"),  # in the first step of the second stage
    Moment(f"{REPORT}:write_report"),  # all steps are done, the report is not written
    Moment(f"{REPORT}:write_report", 1, "after"),  # only the end of the process is left
]


@pytest.mark.slow
def test_run_killed_at_every_kind_of_moment_and_resumed_each_time(tmp_path, forks):
    data, output = make_flickr(tmp_path / "data", val=[5]), tmp_path / "run"
    # No caption shares a word with this reference, so all scores are 0. The latest of equal
    # scores of 0 counts as the best, so every validation writes a best checkpoint.
    references = next(data.rglob("*.token.txt"))
    lines = references.read_text().splitlines()
    lines = [line for line in lines if not line.startswith("5.png")] + ["5.png#0\txylophone ."]
    references.write_text("\n".join(lines) + "\n")
    words = words_for(
        data,
        output,
        "data.val_splits=[val]",
        "train.stages=[{epochs: 4, lr: 1e-3, cached_views: 2}, {epochs: 2, lr: 1e-3}]",
        *("train.save_every=1", "train.ema=0.9", "train.patience=99"),
    )
    for moment in (*BEFORE_ANY_STATE, *WITH_A_STATE):
        resume = ["--resume"] * (moment in WITH_A_STATE and moment != WITH_A_STATE[0])
        statuses, error = forks.train([*words, *resume], moment=moment)
        assert statuses == [-signal.SIGKILL], f"{moment}: {error}"
        states = list((output / "states").glob("[0-9]*"))
        assert bool(states) == (moment in WITH_A_STATE), moment
    statuses, error = forks.train([*words, "--resume"])
    assert statuses == [0], error
    stopped = output.rename(tmp_path / "stopped")
    statuses, error = forks.train(words)
    assert statuses == [0], error
    assert_equal(state_of(stopped), state_of(output))
    assert_equal(best_of(stopped), best_of(output))
    assert (stopped / CAPTIONS).read_text() == (output / CAPTIONS).read_text()
    logs = [load_rows(path / LOG) for path in (stopped, output)]
    epochs = [[(row["stage"], row["epoch"], row["loss"]) for row in log] for log in logs]
    assert epochs[0] == epochs[1]
