"""`train.py` with tags: together with captions, alone, resumed and on two ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_images import SHAPES, make_flickr
from question_runs import metrics_of
from runs import assert_resumed_is_whole, best_of, run, sources, state_of, words_for

from captioner.cli import score, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]

# The second stage begins with the best weights of the first, which have no head.
STAGES = (
    "train.stages=[{epochs: 2, lr: 1e-3, encoder_lr: 1e-3}, {epochs: 2, lr: 1e-3, cached_views: 2}]"
)


def make_tags(captions: Path) -> Path:
    """Write the color and shape of the images of `make_flickr` as tags."""
    rows = [
        {"image": f"Flicker8k_Dataset/{i}.png", "tags": SHAPES[i][:2]}
        for i in range(len(SHAPES))
        if (captions / f"Flicker8k_Dataset/{i}.png").exists()
    ]
    file = captions / "tags.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def both(tmp_path) -> str:
    """Return the setting for captions and tags of the same images."""
    captions = make_flickr(tmp_path / "captions", train=range(4))
    return sources({"root": str(captions)}, {"root": str(make_tags(captions))})


def test_a_resumed_run_equals_a_whole_one_and_checkpoints_have_no_head(both, tmp_path, monkeypatch):
    words = [both, STAGES, "train.patience=99", "train.ema=0.9"]
    assert_resumed_is_whole(None, tmp_path / "run", words, 2, monkeypatch)
    assert any(".tag_head." in name for name in state_of(tmp_path / "run"))
    assert not any("tag_head" in name for name in best_of(tmp_path / "run"))
    assert {"tags mAP", "captions CIDEr-D"} < set(metrics_of(tmp_path / "run"))


def test_two_ranks_train_like_one(both, tmp_path, forks):
    for ranks in (1, 2):
        words = words_for(
            None,
            tmp_path / str(ranks),
            both,
            "train.stages=[{epochs: 1, lr: 1e-3, encoder_lr: 1e-3}]",
            "model.dropout=0",
            f"train.batch_size={4 // ranks}",
        )
        assert forks.train(words, ranks=ranks)[0] == [0] * ranks
    one, two = (metrics_of(tmp_path / str(ranks)) for ranks in (1, 2))
    assert one == pytest.approx(two, abs=1e-3)


def test_tags_alone_train_the_model_of_a_checkpoint(tmp_path, capsys):
    captions = make_flickr(tmp_path / "captions", train=range(4), captions=1)
    stages = "train.stages=[{epochs: 1, lr: 1e-3}]"
    assert run(captions, tmp_path / "first", stages) == 0
    tags = make_tags(captions)
    learn = "train.stages=[{epochs: 30, lr: 5e-3, encoder_lr: 5e-3, augment: false}]"
    words = [f"train.start={tmp_path / 'first' / 'best'}", learn, "train.patience=99"]
    assert run(tags, tmp_path / "second", *words, "train.eval_every=30") == 0
    assert metrics_of(tmp_path / "second") == {"score": 1, "mAP": 1}
    assert (
        score.main(["--checkpoint", str(tmp_path / "second" / "best"), "--references", str(tags)])
        == 1
    )
    assert "has tags, which are not scored" in capsys.readouterr().err


def test_a_new_model_needs_texts(tmp_path, capsys):
    captions = make_flickr(tmp_path / "captions")
    assert run(make_tags(captions), tmp_path / "run") == 1
    assert "has tags only" in capsys.readouterr().err.splitlines()[-1]


def test_check_overfits_a_batch_of_tags(both, tmp_path, capsys):
    assert train.main([*words_for(None, tmp_path / "run", both), "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok    tags: the model predicts the tags of the batch: 4 of 4 images" in lines
    assert sum("tags, 2.0 per training image" in line for line in lines) == 1
