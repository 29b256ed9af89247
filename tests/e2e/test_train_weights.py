"""`train.py` on rows with weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from drawn_images import SHAPES, draw
from runs import best_of, run, words_for

pytestmark = [pytest.mark.usefixtures("fresh_accelerate"), pytest.mark.slow]

EXACT = (
    "image.flip=false",
    "image.jitter=0",
    "image.min_scale=1",
    "model.dropout=0",
    "train.ema=0",
    "train.clip=1000",
    "train.optimizer=sgd",
    "train.weight_decay=0",
    "train.stages=[{epochs: 1, lr: 0.1, warmup: 0, final_lr: 1, augment: false}]",
)


def make_rows(root: Path, weights: list[float]) -> Path:
    """Write images with one caption of equal length each, and a weight."""
    root.mkdir()
    rows = []
    for i, weight in enumerate(weights):
        draw(*SHAPES[i]).save(root / f"{i}.png")
        row = {"image": f"{i}.png", "caption": "a dog", "split": "train", "weight": weight}
        rows.append(json.dumps(row))
    (root / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return root


def weights_of(folder: Path) -> torch.Tensor:
    return torch.cat([x.flatten().float() for x in best_of(folder).values()])


def trained(tmp_path: Path, name: str, weights: list[float], *words: str) -> torch.Tensor:
    data = tmp_path / f"{name} data"
    assert run(make_rows(data, weights), tmp_path / name, *EXACT, *words) == 0
    return weights_of(tmp_path / name)


def test_accumulated_batches_equal_one_batch(tmp_path, capsys):
    weights = [0.1, 4.0, 1.0, 0.5]
    whole = trained(tmp_path, "whole", weights, "train.batch_size=4")
    accumulate = "train.accumulate=4"
    parts = trained(tmp_path, "parts", weights, "train.batch_size=1", accumulate)
    line = "data: 3 training texts have a weight other than 1 (0.1 to 4)"
    assert line in capsys.readouterr().err
    plain = trained(tmp_path, "plain", [1.0] * 4, "train.batch_size=1", accumulate)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert (parts - plain).abs().max() > 1e-3


def test_two_ranks_equal_one(tmp_path, forks):
    weights = [0.1, 4.0, 1.0, 0.5]
    whole = trained(tmp_path, "whole", weights, "train.batch_size=4")
    for name, more in (("ranks", ["train.batch_size=2"]), ("both", ["train.batch_size=1"])):
        more += ["train.accumulate=2"] if name == "both" else []
        words = words_for(tmp_path / "whole data", tmp_path / name, *EXACT, *more)
        statuses, error = forks.train(words, ranks=2)
        assert statuses == [0, 0], error
        torch.testing.assert_close(weights_of(tmp_path / name), whole, rtol=1e-4, atol=1e-5)


def test_rows_of_weight_0_are_not_trained_on(tmp_path, capsys):
    found = trained(tmp_path, "zero", [1.0, 1.0, 0.0], "train.batch_size=2")
    assert "row of weight 0 (not trained on): 1 (2.png)" in capsys.readouterr().err
    expected = trained(tmp_path, "without", [1.0, 1.0], "train.batch_size=2")
    assert torch.equal(found, expected)
