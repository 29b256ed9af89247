"""Training from shards gives the weights of training from a folder, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_images import SHAPES, captions_of, draw
from runs import TWO_STAGES, assert_equal, assert_resumed_is_whole, run, state_of, words_for
from shard_files import write_parquet, write_tar

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]

TWO_EPOCHS = "train.stages=[{epochs: 2, lr: 1e-3, encoder_lr: 1e-3}]"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """Write the same images and captions as a folder, as tar files and as Parquet files."""
    root = tmp_path_factory.mktemp("data")
    folders = {name: root / name for name in ("folder", "webdataset", "parquet")}
    folders["folder"].mkdir()
    rows, lines = [], []
    for number, shape in enumerate(SHAPES):
        path = folders["folder"] / f"{number}.png"
        draw(*shape).save(path)
        rows.append((path.read_bytes(), list(captions_of(*shape))))
        lines.append(json.dumps({"file_name": path.name, "captions": rows[-1][1]}))
    (folders["folder"] / "metadata.jsonl").write_text("\n".join(lines))
    for shard in range(3):
        part = range(2 * shard, 2 * shard + 2)
        members = [(f"{n}.png", rows[n][0]) for n in part]
        members += [(f"{n}.txt", "\n".join(rows[n][1])) for n in part]
        write_tar(folders["webdataset"] / f"train-{shard}.tar", members)
        table = [{"image": rows[n][0], "captions": rows[n][1]} for n in part]
        write_parquet(folders["parquet"] / f"train-{shard}.parquet", table)
    return folders


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_equal_those_of_a_folder(tmp_path, data, workers):
    states = {}
    for name, root in data.items():
        words = [TWO_EPOCHS, f"data.workers={workers}"]
        assert run(root, tmp_path / name, *words) == 0
        states[name] = state_of(tmp_path / name)
    assert_equal(states["webdataset"], states["folder"])
    assert_equal(states["parquet"], states["folder"])


def test_resumed_run_from_tar_files_equals_an_uninterrupted_one(tmp_path, data, monkeypatch):
    words = [TWO_STAGES, "data.workers=2"]
    assert_resumed_is_whole(data["webdataset"], tmp_path / "run", words, 2, monkeypatch)


def test_two_ranks_train_the_same_weights_from_tar_files(tmp_path, data, forks):
    """Each rank reads its share of every step, in a worker of its own."""
    states = {}
    for name in ("folder", "webdataset"):
        words = [TWO_EPOCHS, "train.batch_size=1", "data.workers=1"]
        statuses, error = forks.train(words_for(data[name], tmp_path / name, *words), ranks=2)
        assert statuses == [0, 0], error
        assert "2 process(es)" in error
        states[name] = state_of(tmp_path / name)
    assert_equal(states["webdataset"], states["folder"])
