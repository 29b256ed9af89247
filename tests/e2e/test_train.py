"""`train.py` from start to end on four drawn images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from drawn_images import SHAPES, captions_of, make_flickr
from runs import (
    GREEDY_BASELINE,
    SELF_CRITICAL,
    TWO_STAGES,
    assert_resumed_is_whole,
    best_of,
    last_of,
    run,
    state_of,
    words_for,
)

import captioner
from captioner.cli import generate, train
from captioner.training import run_state

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


# Results of training


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["transformer", "lstm"])
def test_four_images_are_learned_to_their_exact_captions(tmp_path, capsys, decoder):
    data = make_flickr(tmp_path / "data", captions=1)
    status = run(
        data,
        tmp_path / "run",
        f"model.decoder={decoder}",
        "image.flip=false",
        "image.jitter=0",
        "model.dropout=0",
        "tokenizer.kind=bpe",
        "model.max_length=40",
        "decoding.max_length=40",
        "train.batch_size=4",
        "train.label_smoothing=0",
        "train.eval_every=120",
        "train.stages=[{epochs: 120, lr: 4e-3, encoder_lr: 1e-3, augment: false}]",
    )
    assert status == 0
    capsys.readouterr()
    images = [data / "Flicker8k_Dataset" / f"{i}.png" for i in range(4)]
    expected = [captions_of(*SHAPES[i])[0] for i in range(4)]
    best = str(tmp_path / "run" / "best")

    actual = captioner.load(best).caption(images)
    assert [result.text for result in actual] == expected

    assert generate.main([str(images[1]), "--checkpoint", best]) == 0
    assert capsys.readouterr().out == expected[1] + "\n"
    assert generate.main([*map(str, images), "--checkpoint", best, "--beam-size", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{path}\t{text}" for path, text in zip(images, expected, strict=True)]

    scores = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())["val"]
    assert scores["BLEU-4"] == pytest.approx(1)
    assert scores["ROUGE-L"] == pytest.approx(1)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path, forks):
    """Train with an odd number of images and fewer validation images than processes."""
    data = make_flickr(tmp_path / "data", train=range(5), val=[5])
    words = words_for(data, tmp_path / "run", TWO_STAGES, "data.val_splits=[val]")
    statuses, error = forks.train(words, ranks=2)
    assert statuses == [0, 0], error
    assert error.count("2 process(es)") == 1
    progress = json.loads((last_of(tmp_path / "run") / "progress.json").read_text())["progress"]
    # Five images make one step of four; the last image cannot be shared by two processes.
    assert progress["step"] == sum(stage["epochs"] for stage in stages_of(tmp_path / "run"))
    assert captioner.load(tmp_path / "run" / "best").caption(data / "Flicker8k_Dataset" / "5.png")


def stages_of(folder: Path) -> list[dict]:
    """Return the stages in the configuration of a run."""
    text = (last_of(folder) / "progress.json").read_text()
    return json.loads(text)["config"]["train"]["stages"]


# Stopping and resuming


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        (1, []),
        (2, ["train.patience=1"]),
        (3, []),
        (4, []),
        (1, ["train.accumulate=2"]),
        (3, ["train.accumulate=3", "train.precision=bf16", "train.save_dtype=float16"]),
        (3, [SELF_CRITICAL]),
        (2, [GREEDY_BASELINE]),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else " ".join(value),
)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch, epochs, words):
    """Stop within a stage with cached features, between stages, and within and after the last."""
    data = make_flickr(tmp_path / "data", train=range(6))
    words = [TWO_STAGES, "train.ema=0.9", *words]
    assert_resumed_is_whole(data, tmp_path / "run", words, epochs, monkeypatch)


def test_resuming_without_a_state_or_with_other_settings_is_an_error(tmp_path, capsys):
    data = make_flickr(tmp_path / "data")
    once = "train.stages=[{epochs: 1}]"
    assert run(data, tmp_path / "run", once, resume=True) == 1
    assert "no state to resume from" in capsys.readouterr().err.splitlines()[-1]
    assert run(data, tmp_path / "run", once) == 0
    assert run(data, tmp_path / "run", once, "train.weight_decay=0.1", resume=True) == 1
    assert "train.weight_decay" in capsys.readouterr().err.splitlines()[-1]


def test_resuming_with_other_captions_is_an_error(tmp_path, capsys):
    """The tokenizer is trained on the captions, so its ids would have other meanings."""
    data = make_flickr(tmp_path / "data")
    once = "train.stages=[{epochs: 1}]"
    assert run(data, tmp_path / "run", once) == 0
    path = data / "Flickr8k_text" / "Flickr8k.token.txt"
    path.write_text(path.read_text().replace("circle", "ring"))
    assert run(data, tmp_path / "run", once, resume=True) == 1
    assert "images or texts" in capsys.readouterr().err.splitlines()[-1]
    words = [*words_for(data, tmp_path / "run", once), "--resume", "--force"]
    assert train.main(words) == 1
    assert "its tokenizer" in capsys.readouterr().err.splitlines()[-1]


# Stages


def test_frozen_backbone_does_not_change_and_unfrozen_one_does(tmp_path, monkeypatch):
    data = make_flickr(tmp_path / "data")
    saved = []
    save = run_state.save_state

    def save_and_keep(*args, **kwargs):
        save(*args, **kwargs)
        saved.append(state_of(tmp_path / "run"))

    monkeypatch.setattr(run_state, "save_state", save_and_keep)
    assert run(data, tmp_path / "run", TWO_STAGES, "train.patience=9") == 0
    assert len(saved) == 4
    names = [k for k in saved[0] if k.startswith("model.")]
    backbone = [k for k in names if k.startswith("model.backbone.")]
    rest = [k for k in names if not k.startswith("model.backbone.")]
    statistics = [k for k in backbone if "running" in k or "batches_tracked" in k]
    learned = [k for k in backbone if k not in statistics]
    # The classifier's head, behind the features that the captioner uses, does not change either.
    assert learned
    assert statistics

    def changed(one: dict, other: dict, keys: list[str]) -> int:
        return sum(not torch.equal(one[k], other[k]) for k in keys)

    assert changed(saved[0], saved[1], backbone) == 0
    assert changed(saved[0], saved[1], rest) > 0.9 * len(rest)
    assert changed(saved[1], saved[3], learned) > 0.9 * len(learned)
    assert changed(saved[0], saved[3], statistics) == 0


def test_validation_uses_cached_features_only_in_their_stage(tmp_path, monkeypatch):
    """Cached features of a frozen backbone are invalid once the backbone is trained."""
    from captioner.backends.torch_backend import TorchBackend

    shapes = []
    encode_tensors = TorchBackend.encode_tensors

    def encode(self, batches, *spectrograms):
        shapes.append(batches[0].ndim)
        return encode_tensors(self, batches, *spectrograms)

    monkeypatch.setattr(TorchBackend, "encode_tensors", encode)
    data = make_flickr(tmp_path / "data")
    assert run(data, tmp_path / "run", TWO_STAGES, "train.patience=9") == 0
    assert shapes == [3, 3, 4, 4]  # features, then pixels


def test_stage_ends_if_validation_does_not_improve(tmp_path, monkeypatch, capsys):
    from captioner.training import validation

    monkeypatch.setattr(validation, "score_captions", lambda c, r: {"CIDEr-D": 0.5, "ROUGE-L": 0.5})
    data = make_flickr(tmp_path / "data")
    stages = "train.stages=[{epochs: 6}, {epochs: 6, encoder_lr: 1e-4}]"
    assert run(data, tmp_path / "run", stages, "train.patience=2") == 0
    ended = re.findall(r"(stage \d epoch \d) \(", capsys.readouterr().err)
    # The first stage sets the best score with its first evaluation; the second must exceed it.
    assert ended == [f"stage 0 epoch {i}" for i in range(3)] + [
        f"stage 1 epoch {i}" for i in (0, 1)
    ]
    record = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert (record["stage"], record["epoch"]) == ("0", 0)


def test_best_checkpoint_holds_the_averaged_weights(tmp_path):
    data = make_flickr(tmp_path / "data")
    once = "train.stages=[{epochs: 1, encoder_lr: 1e-3}]"
    assert run(data, tmp_path / "run", once, "train.ema=0.9") == 0
    state, best = state_of(tmp_path / "run"), best_of(tmp_path / "run")
    averaged = {k.removeprefix("average."): v for k, v in state.items() if "average." in k[:8]}
    assert averaged
    assert all(torch.equal(best[k], v) for k, v in averaged.items())
    assert any(not torch.equal(state[f"model.{k}"], v) for k, v in averaged.items())


def test_accumulated_batches_make_one_step(tmp_path, monkeypatch):
    """Two batches of two images give as many updates as one batch of four."""
    from captioner.training import ema

    updates = []
    update = ema.MovingAverage.update

    def count(self, model):
        updates.append(1)
        update(self, model)

    monkeypatch.setattr(ema.MovingAverage, "update", count)
    data = make_flickr(tmp_path / "data", train=range(6))
    once = "train.stages=[{epochs: 2, warmup: 0}]"
    assert run(data, tmp_path / "run", once, "train.accumulate=2") == 0
    # Three batches per epoch: one step of two batches and one of the last batch.
    assert len(updates) == 4
    steps = [v.item() for k, v in state_of(tmp_path / "run").items() if k.endswith(".step")]
    assert set(steps) == {4}


# Errors


@pytest.mark.slow
def test_share_is_held_out_without_a_validation_split(tmp_path, capsys):
    data = make_flickr(tmp_path / "data", train=range(6))
    words = ["data.val_splits=[val]", "data.val_share=0.34", "train.stages=[{epochs: 1}]"]
    assert run(data, tmp_path / "run", *words) == 0
    errors = capsys.readouterr().err
    assert "4 training and 2 validation images" in errors
    held_out = re.search(r"held out for validation.*: 2 \((.*)\)", errors).group(1)
    # A run that starts from these weights with another seed must hold out the same images.
    assert run(data, tmp_path / "again", *words, "train.seed=1") == 0
    assert held_out in capsys.readouterr().err
    assert run(data, tmp_path / "other", *words, "data.seed=1") == 0
    assert held_out not in capsys.readouterr().err


def test_problems_of_the_files_are_counted_once(tmp_path, capsys):
    data = make_flickr(tmp_path / "data", train=range(4), val=[5])
    with open(next(data.rglob("*.token.txt")), "a", encoding="utf-8") as file:
        file.write("no tab and no number\n")
    words = ["data.val_splits=[val]", "train.stages=[{epochs: 1}]"]
    assert run(data, tmp_path / "run", *words) == 0
    assert "row that cannot be parsed: 1 (" in capsys.readouterr().err


def test_latest_checkpoint_is_kept_if_all_scores_are_zero(tmp_path):
    data = make_flickr(tmp_path / "data", train=range(4), val=[5])
    words = ["data.val_splits=[val]", "train.stages=[{epochs: 3, lr: 1e-3}]"]
    assert run(data, tmp_path / "run", *words) == 0
    metrics = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert metrics["val"]["CIDEr-D"] == 0  # of one image, all words have one frequency
    assert metrics["epoch"] == 2


def test_unreadable_image_is_reported_and_the_run_finishes(tmp_path, capsys):
    data = make_flickr(tmp_path / "data", train=range(4), val=(4, 5), bad=(2, 4))
    assert run(data, tmp_path / "run", TWO_STAGES, "data.val_splits=[val]") == 0
    messages = capsys.readouterr().err
    assert "image that cannot be decoded" in messages
    assert "2.png" in messages
    # Each image once, for all epochs: a training image and a validation image.
    last = messages[messages.rindex("image that cannot be decoded") :].splitlines()[0]
    assert last.startswith("image that cannot be decoded: 2 (")
    assert "4.png" in last
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


def test_batch_of_unreadable_images_is_skipped(tmp_path, capsys):
    data = make_flickr(tmp_path / "data", train=range(3), bad=(2,))
    assert run(data, tmp_path / "run", "train.batch_size=1", "train.stages=[{epochs: 1}]") == 0
    assert "2.png" in capsys.readouterr().err
    assert all(torch.isfinite(v).all() for v in state_of(tmp_path / "run").values())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["data.root=null"], ["data.root"]),
        (["data.root=/nowhere/at/all"], ["/nowhere/at/all"]),
        (["train.stage=3"], ["train.stage", "train.stages"]),
        (["data.val_splits=[nosuch]"], ["nosuch"]),
        (["tokenizer.vocab_size=50"], ["tokenizer.vocab_size=50"]),
        (["model.backbones=[{name: resnot, weights: none}]"], ["model.backbones.0", "resnot"]),
        (
            ["model.backbones=[{name: test_efficientnet, weights: none, remove: [blocks.99]}]"],
            ["model.backbones.0.remove", "blocks.99"],
        ),
        (
            ["model.backbones=[{name: test_efficientnet, weights: gone.safetensors}]"],
            ["gone.safetensors"],
        ),
        (["train.start=/nowhere"], ["/nowhere"]),
        (["train.output=/dev/null"], ["train.output=/dev/null"]),
    ],
)
def test_error_of_a_run_is_one_line(tiny_flickr, tmp_path, capsys, words, parts):
    assert run(tiny_flickr, tmp_path / "run", *words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert lines[-1].startswith("train.py: ")
    assert "Traceback" not in "".join(lines)
    assert len([line for line in lines if line.startswith("train.py: ")]) == 1
    for part in parts:
        assert part in lines[-1]


def test_data_without_a_readable_image_is_an_error(tmp_path, capsys):
    data = make_flickr(tmp_path / "data", train=(2, 3), val=(0, 1), bad=(2, 3))
    words = ["train.stages=[{epochs: 1}]", "data.val_splits=[val]"]
    assert run(data, tmp_path / "run", *words) == 1
    assert "2.png" in capsys.readouterr().err.splitlines()[-1]


def test_missing_configuration_file_is_a_one_line_error(capsys):
    assert train.main(["--config", "nowhere.yaml"]) == 1
    assert capsys.readouterr().err.startswith("train.py: nowhere.yaml: ")
