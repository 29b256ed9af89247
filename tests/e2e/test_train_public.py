"""`train.py` from a transformers folder, on four drawn images."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from drawn_images import make_flickr
from public_training import CAPTIONERS, build_blip_vqa, load_model
from runs import (
    assert_equal,
    best_of,
    last_of,
    state_of,
    stop_after,
)

from captioner.checkpoint import checkpoint_format
from captioner.cli import train

pytestmark = pytest.mark.usefixtures("fresh_accelerate")

TWO_STAGES = (
    "train.stages=[{epochs: 2, lr: 1e-3, cached_views: 2}, {epochs: 2, lr: 1e-3, encoder_lr: 1e-3}]"
)
SELF_CRITICAL = (
    "train.stages=[{epochs: 1, lr: 1e-3}, {epochs: 2, lr: 1e-4, objective: scst, samples: 2}]"
)
ONCE = "train.stages=[{epochs: 1, lr: 1e-3}]"


def words_for(start: Path, data: Path, output: Path, *words: str) -> list[str]:
    """Return the arguments of `train.py`."""
    return [
        f"train.start={start}", f"data.root={data}", "data.val_splits=[train]",
        f"train.output={output}", f"train.cache={output.parent / 'cache'}",
        "decoding.max_length=16", "decoding.beam_size=2", "train.batch_size=2",
        "train.tracker=none", "train.precision=no", *words,
    ]  # fmt: skip


@pytest.fixture
def start(tmp_path):
    CAPTIONERS["blip"](tmp_path / "start", 0)
    return tmp_path / "start"


def run(*args, resume=False):
    return train.main([*words_for(*args), *["--resume"] * resume])


def make_questions(folder: Path) -> Path:
    """Write questions about drawn images; return the file."""
    make_flickr(folder / "data")
    names = [f"data/Flicker8k_Dataset/{i}.png" for i in range(4)]
    asked = [("what color is it?", "red"), ("is it a bus?", "no")]
    rows = [{"image": n, "question": q, "answer": a} for n in names for q, a in asked]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def error_of(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_best_is_a_transformers_folder_with_the_record_of_the_run(tmp_path, start):
    data = make_flickr(tmp_path / "data")
    assert run(start, data, tmp_path / "run", ONCE, "train.save_dtype=bfloat16") == 0
    best = tmp_path / "run" / "best"
    assert checkpoint_format(best) == "transformers"
    assert (best / "run.yaml").is_file()
    metrics = json.loads((best / "metrics.json").read_text())
    assert "score" in metrics["val"]
    assert metrics["start"] == {"name": str(start), "revision": None}
    loaded = transformers.BlipForConditionalGeneration.from_pretrained(best)
    assert loaded.dtype == torch.bfloat16
    assert (tmp_path / "run" / "report.html").is_file()
    # A run can start from it.
    assert run(best, data, tmp_path / "again", ONCE, "train.lora_rank=2") == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CAPTIONERS))
def test_four_images_are_learned_to_their_exact_captions(tmp_path, name):
    import captioner

    CAPTIONERS[name](tmp_path / "start", 0)
    data = make_flickr(tmp_path / "data", captions=1)
    status = run(
        tmp_path / "start", data, tmp_path / "run",
        "image.flip=false", "image.jitter=0", "train.batch_size=4", "train.label_smoothing=0",
        "train.eval_every=100", "decoding.max_length=30",
        "train.stages=[{epochs: 100, lr: 4e-3, encoder_lr: 1e-3, augment: false}]",
    )  # fmt: skip
    assert status == 0
    scores = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())["val"]
    assert scores["BLEU-4"] == pytest.approx(1)
    images = [data / "Flicker8k_Dataset" / f"{i}.png" for i in range(4)]
    texts = [result.text for result in captioner.load(tmp_path / "run" / "best").caption(images)]
    rows = (tmp_path / "run" / "captions.jsonl").read_text().splitlines()
    assert texts == [json.loads(row)["caption"] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epochs", "words"),
    [
        ("blip", 1, [TWO_STAGES]),
        ("blip", 2, [TWO_STAGES, "train.lora_rank=2"]),
        ("git", 3, [TWO_STAGES, "train.accumulate=2"]),
        ("vit-gpt2", 2, [SELF_CRITICAL]),
    ],
)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path, monkeypatch, name, epochs, words
):
    CAPTIONERS[name](tmp_path / "start", 0)
    data = make_flickr(tmp_path / "data", train=range(6))
    train_once = partial(run, tmp_path / "start", data, tmp_path / "run", "train.ema=0.9", *words)
    assert train_once() == 0
    whole = (tmp_path / "run").rename(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(epochs, patch)
        assert train_once() == 130
    torch.manual_seed(99)
    assert train_once(resume=True) == 0
    assert_equal(state_of(tmp_path / "run"), state_of(whole))
    assert_equal(best_of(tmp_path / "run"), best_of(whole))
    names = ("best/metrics.json", "best/run.yaml", "best/config.json")
    for file in names:
        assert (tmp_path / "run" / file).read_text() == (whole / file).read_text(), file
    one, other = (last_of(folder) / "progress.json" for folder in (tmp_path / "run", whole))
    assert one.read_text() == other.read_text()


@pytest.mark.slow
def test_frozen_encoder_does_not_change_and_adapters_change_only_layers(tmp_path, start):
    data = make_flickr(tmp_path / "data")
    assert run(start, data, tmp_path / "run", ONCE, "train.lora_rank=2") == 0
    old, new = load_model(start).state_dict(), load_model(tmp_path / "run/best").state_dict()
    changed = {key for key, value in old.items() if not torch.equal(value, new[key])}
    assert changed
    assert not any("vision_model" in key or "embeddings" in key for key in changed)
    assert all(key.endswith(".weight") for key in changed)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path, start, forks):
    data = make_flickr(tmp_path / "data", train=range(5))
    statuses, error = forks.train(words_for(start, data, tmp_path / "run", TWO_STAGES), ranks=2)
    assert statuses == [0, 0], error
    assert load_model(tmp_path / "run" / "best")


@pytest.mark.slow
def test_answers_are_trained(tmp_path):
    build_blip_vqa(tmp_path / "start", 0)
    data = make_questions(tmp_path)
    words = ["answers.max_length=8", "answers.beam_size=2", ONCE]
    assert run(tmp_path / "start", data, tmp_path / "run", *words) == 0
    metrics = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert any("exact match" in name for name in metrics["val"])


def test_writers_of_the_captions_are_recorded(tmp_path, start):
    data = make_flickr(tmp_path / "data")
    rows = tmp_path / "captions.jsonl"
    names = [f"data/Flicker8k_Dataset/{i}.png" for i in range(4)]
    lines = [{"image": name, "caption": f"a dog {i}"} for i, name in enumerate(names)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    origin = {"rows": 0, "captioner": "1", "checkpoint": [{"name": "hf-hub:a/b", "revision": "c"}]}
    meta = {"dtype": "float32", "beam_size": 3, "origins": [origin], "base": ["."]}
    rows.with_name("captions.jsonl.meta.json").write_text(json.dumps(meta))
    assert data.is_dir()
    assert run(start, rows, tmp_path / "run", ONCE) == 0
    metrics = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    options = {"dtype": "float32", "beam_size": 3}
    expected = {"file": "captions.jsonl", "origins": [origin], "options": options}
    assert metrics["data"] == [expected]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.teacher.checkpoints=[bundled]", "train.teacher"),
        ("train.soup=[bundled]", "train.soup"),
        ("train.kinds=true", "train.kinds"),
        ("train.export=int8", "train.export=int8"),
        ("model.width=64", "the section model"),
        ("image.size=64", "image.size"),
        ("train.stages=[{epochs: 1, size: 64}]", "size=64"),
        ("train.stages=[{epochs: 1, parts: question}]", "parts=question"),
        ("train.max_length=100", "at most 39 tokens"),
    ],
)
def test_unsupported_setting_is_one_error(tmp_path, start, capsys, word, message):
    data = make_flickr(tmp_path / "data")
    assert run(start, data, tmp_path / "run", ONCE, word) == 1
    assert message in error_of(capsys)


def test_questions_need_a_model_that_answers(tmp_path, start, capsys):
    assert run(start, make_questions(tmp_path), tmp_path / "run", ONCE) == 1
    assert f"the data has questions, and {start} only captions" in error_of(capsys)


def test_lora_rank_is_for_transformers_models(tmp_path, capsys):
    data = make_flickr(tmp_path / "data")
    assert run("bundled", data, tmp_path / "run", ONCE, "train.lora_rank=2") == 1
    assert "train.lora_rank=2 is for transformers models" in error_of(capsys)


@pytest.mark.slow
def test_check_of_a_run(tmp_path, start, capsys):
    data = make_flickr(tmp_path / "data", captions=1)
    status = train.main([*words_for(start, data, tmp_path / "run", "train.lora_rank=8"), "--check"])
    lines = capsys.readouterr().out.splitlines()
    findings = [line for line in lines if line.startswith(("ok", "failed"))]
    assert "ok    labels are one token ahead" in " ".join(findings)
    assert "ok    texts end in EOS" in " ".join(findings)
    assert status in (0, 1)
    assert not (tmp_path / "run").exists()
