"""Saving the state of a run and resuming from it."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from small_models import small_model, train_small_tokenizer

from captioner import files
from captioner.checkpoint import weights
from captioner.config import (
    Config,
    StageConfig,
    TrainConfig,
    to_dict,
)
from captioner.errors import CheckpointError
from captioner.tokenizer import Tokenizer
from captioner.training import run_state
from captioner.training.ema import MovingAverage
from captioner.training.optimizer import build_optimizer
from captioner.training.run_state import Progress, SavedState, gather_state, save_state


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_small_tokenizer()


@pytest.fixture
def trained(tokenizer, tmp_path):
    """Train a model for a few steps, channels last as in a run, and save its state."""
    return train(tokenizer, tmp_path)


def train(tokenizer: Tokenizer, tmp_path: Path, **settings) -> SimpleNamespace:
    config = Config(train=TrainConfig(ema=0.9, output=str(tmp_path), **settings))
    model = small_model(tokenizer).to(memory_format=torch.channels_last)
    stage = StageConfig(lr=1e-2, encoder_lr=1e-2)
    optimizer = build_optimizer(model, config.train, stage)
    average = MovingAverage(model, 0.9)
    advance(model, optimizer, average, steps=3)
    progress = Progress(stage=1, epoch=2, step=3, best=0.25, stale=1)
    parts = {"config": config, "tokenizer": tokenizer, "average": average}
    parts |= {"model": model, "optimizer": optimizer, "folder": tmp_path / "states"}
    result = SimpleNamespace(stage=stage, progress=progress, **parts)
    save_another(result, progress)
    return result


def advance(model, optimizer, average, *, steps: int) -> None:
    tokens = torch.tensor([[[2, 5, 6]], [[2, 7, 8]]])
    for i in range(steps):
        images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(i))
        model.eval()(images, tokens).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)


def save_another(trained, progress: Progress) -> None:
    tensors = gather_state(trained.model, trained.average, trained.optimizer)
    parts = {"config": trained.config, "tokenizer": trained.tokenizer, "data": "rows"}
    save_state(trained.folder, tensors, progress=progress, average=trained.average, **parts)


def newest(trained) -> SavedState:
    return SavedState(trained.folder, trained.config, trained.tokenizer, "rows")


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "adam"}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.0}],
    ids=["adamw", "adam", "sgd", "sgd without momentum"],
)
def test_restored_run_continues_bit_for_bit(tokenizer, tmp_path, settings):
    t = train(tokenizer, tmp_path, **settings)
    model = small_model(tokenizer, seed=1).to(memory_format=torch.channels_last)
    average = MovingAverage(model, 0.9)
    optimizer = build_optimizer(model, t.config.train, t.stage)
    saved = SavedState(t.folder, t.config, tokenizer, "rows")
    saved.restore_model(model, average)
    saved.restore_optimizer(model, optimizer)
    assert saved.progress == t.progress
    assert average.updates == t.average.updates == 3
    for _ in range(2):
        for (name, one), other in zip(
            model.state_dict().items(), t.model.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), name
        assert all(torch.equal(average.state[k], v) for k, v in t.average.state.items())
        advance(model, optimizer, average, steps=2)
        advance(t.model, t.optimizer, t.average, steps=2)


def test_changed_settings_are_an_error_that_names_them(trained, tokenizer):
    other = Config(train=TrainConfig(ema=0.5, seed=3, output=trained.config.train.output))
    with pytest.raises(CheckpointError, match=r"train\.ema.*train\.seed"):
        SavedState(trained.folder, other, tokenizer, "rows")


def test_a_setting_that_was_added_later_has_its_default(trained, tokenizer):
    """States from before a setting existed can be resumed, unless the run changes it."""
    config, ranks = to_dict(trained.config), {"ranks": 1}
    del config["train"]["optimizer"], config["train"]["stages"][0]["snapshots"]
    record = {
        "config": config | ranks,
        "data": "rows",
        "tokenizer": "t",
        "progress": {"results": {}},
    }
    present = record | {"config": to_dict(trained.config) | ranks}
    run_state._check_record(record, present, trained.folder, "roots", force=False)
    present = record | {"config": to_dict(Config(train=TrainConfig(optimizer="sgd"))) | ranks}
    with pytest.raises(CheckpointError, match=r"other settings \(.*train\.optimizer.*\)"):
        run_state._check_record(record, present, trained.folder, "roots", force=False)
    record["config"]["train"]["removed"] = 1
    with pytest.raises(CheckpointError, match=r"train\.removed"):
        run_state._check_record(record, present, trained.folder, "roots", force=False)


def test_changed_number_of_ranks_is_an_error(trained, tokenizer):
    with pytest.raises(CheckpointError, match=r"ranks"):
        SavedState(trained.folder, trained.config, tokenizer, "rows", ranks=2)


def test_changed_data_is_an_error_unless_forced(trained):
    with pytest.raises(CheckpointError, match="images or texts"):
        SavedState(trained.folder, trained.config, trained.tokenizer, "other rows")
    result = SavedState(trained.folder, trained.config, trained.tokenizer, "other rows", force=True)
    assert result.progress == trained.progress


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_damaged_state_is_skipped(trained, name, damage):
    save_another(trained, later := Progress(stage=1, epoch=3))
    assert newest(trained).progress == later
    path = trained.folder / later.name / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "cut": content[:-10], "flipped": content}[damage])
    result = newest(trained)
    assert result.progress == trained.progress
    (message,) = result.damaged
    assert later.name in message
    assert name in message or name == "manifest.json"
    # Without an intact state, there is an error that names the damaged ones.
    (trained.folder / trained.progress.name / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no state to resume from.*skipped"):
        newest(trained)


def test_changed_tokenizer_is_an_error_even_if_forced(trained):
    other = Tokenizer.train(["a red circle", "two blue squares"] * 20, vocab_size=301)
    with pytest.raises(CheckpointError, match="tokenizer was trained on other captions"):
        SavedState(trained.folder, trained.config, other, "rows", force=True)


def test_another_start_is_an_error_that_names_both_checkpoints(trained):
    def restarted(start: str | None) -> Config:
        return replace(trained.config, train=replace(trained.config.train, start=start))

    other = Tokenizer.train(["a red circle", "two blue squares"] * 20, vocab_size=301)
    first, second = restarted("hf-hub:me/first"), restarted("runs/second/best")
    save_another(trained, Progress(stage=1))
    with pytest.raises(CheckpointError, match=r"began from new weights, not from runs/second/best"):
        SavedState(trained.folder, second, trained.tokenizer, "rows")
    began = SimpleNamespace(**vars(trained) | {"config": first})
    save_another(began, Progress(stage=2))
    names = r"began from hf-hub:me/first, not from runs/second/best"
    with pytest.raises(CheckpointError, match=names):
        SavedState(trained.folder, second, trained.tokenizer, "rows")
    with pytest.raises(CheckpointError, match=rf"{names}, and their tokenizers differ"):
        SavedState(trained.folder, second, other, "rows", force=True)
    with pytest.raises(CheckpointError, match="tokenizer of hf-hub:me/first has changed"):
        SavedState(trained.folder, first, other, "rows", force=True)


def test_changed_answers_of_a_classifier_are_an_error_even_if_forced(trained):
    parts = {"config": trained.config, "tokenizer": trained.tokenizer, "data": "rows"}
    tensors = gather_state(trained.model, trained.average, trained.optimizer)
    parts |= {"progress": trained.progress, "average": trained.average}
    save_state(trained.folder, tensors, answers=((5, 2), (6, 2)), **parts)
    place = (trained.folder, trained.config, trained.tokenizer, "rows")
    assert SavedState(*place, answers=((5, 2), (6, 2))).progress == trained.progress
    with pytest.raises(CheckpointError, match="classes are other answers"):
        SavedState(*place, answers=((6, 2), (5, 2)), force=True)


def test_resuming_without_a_state_is_an_error(trained, tmp_path):
    with pytest.raises(CheckpointError, match="nothing there"):
        SavedState(tmp_path / "none", trained.config, trained.tokenizer, "rows")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error")]
)
def test_failed_write_leaves_the_old_state(trained, monkeypatch, error):
    def full(tensors, path, metadata):
        path.write_bytes(b"a part of it")
        raise error

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(
        CheckpointError, match=r"cannot be written.*what was saved before is intact"
    ):
        save_another(trained, Progress(epoch=9))
    assert newest(trained).progress == trained.progress
    assert [p.name for p in trained.folder.iterdir()] == [trained.progress.name]


def test_full_disk_is_an_error_before_a_state_is_written(trained, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    monkeypatch.setattr(weights, "save_file", lambda *args: pytest.fail("written"))
    with pytest.raises(CheckpointError, match=r"\d MB are needed and 1 MB free"):
        save_another(trained, Progress(epoch=9))
    assert newest(trained).progress == trained.progress


def test_oldest_states_are_removed(trained):
    times = [Progress(stage=1, epoch=e, batch=b) for e, b in ((2, 5), (2, 10), (3, 0), (10, 0))]
    for progress in times:
        save_another(trained, progress)
    names = sorted(p.name for p in trained.folder.iterdir())
    assert names == [progress.name for progress in times[-2:]]
    assert newest(trained).progress == times[-1]


def test_new_run_renames_the_states_of_an_earlier_one(trained, tmp_path):
    run_state.set_aside(trained.folder)
    assert not trained.folder.exists()
    save_another(trained, Progress())
    assert newest(trained).progress == Progress()
    assert (
        SavedState(tmp_path / "states.old", trained.config, trained.tokenizer, "rows").progress
        == trained.progress
    )
