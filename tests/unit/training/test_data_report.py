"""The data report of a run, and runs that have nothing to train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runs
import torch
from drawn_images import draw, make_flickr, make_questions
from public_folders.blip import build_blip
from runs import TINY
from tiny import make_checkpoint, make_text_encoder

from captioner.build import load_checkpoint
from captioner.cli import train
from captioner.config import load_config
from captioner.data.splits import read_splits
from captioner.errors import ConfigError
from captioner.training import setup
from captioner.training.data_report import describe_data, measure_lengths
from captioner.training.stage import start_stage
from captioner.training.validation import ranking_metric


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


CHINESE = "一只狗在草地上奔跑旁边有一个孩子"


def captioned(root: Path, captions: list[str]) -> Path:
    """Write an image folder with one caption per image."""
    root.mkdir()
    rows = []
    for number, caption in enumerate(captions):
        draw("red", "circle", "left").save(root / f"{number}.png")
        (root / f"{number}.png").write_bytes((root / f"{number}.png").read_bytes() + bytes(number))
        rows.append(json.dumps({"file_name": f"{number}.png", "caption": caption}))
    (root / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return root


def report_of(*words: str) -> str:
    config = load_config(None, [*TINY, *words])
    tasks, rows, val, report = read_splits(config)
    model, tokenizer, config = setup.build_start(config, rows)
    data, held = setup.build_datasets(config, tasks, rows, val, tokenizer, model=model)
    return "\n".join(describe_data(config, tasks, data, held, report, model=model))


def test_data_report_accounts_for_all_rows(tmp_path):
    root = captioned(tmp_path / "data", ["a dog", "a cat", "a bird", "a cow"])
    splits = ["train", "eval", "holdout", "train"]
    rows = [
        {"file_name": f"{i}.png", "caption": f"thing {i}", "split": split}
        for i, split in enumerate(splits)
    ]
    rows.append({"file_name": "none.png", "caption": "missing"})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = report_of(f"data.root={root}")
    assert "5 rows read, 3 used (2 train, 1 val); 1 of other splits: holdout (1)" in result
    assert "1 dropped: missing image (1)" in result


def test_data_sets_with_one_root_have_a_line_each(tmp_path):
    root = str(captioned(tmp_path / "data", ["a dog", "a cat", "a bird", "a cow"]))
    settings = [{"root": root}, {"root": root, "val_splits": ["train"]}]
    lines = report_of(runs.sources(*settings)).splitlines()
    assert f"data: {root}: 4 rows read, 4 used (4 train)" in lines
    assert f"data: {root} (data.sources.1): 4 rows read, 4 used (4 train)" in lines


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before training", "--check"])
def test_truncated_texts_are_counted_and_the_limit_can_be_raised(where, tmp_path, capsys):
    long = "a dog runs on the grass and jumps over the fence " * 3
    root = captioned(tmp_path / "data", [long, "a dog", long, "a cat sits"])
    words = [*TINY, f"data.root={root}", "data.val_splits=[train]", f"train.output={tmp_path}/o"]
    words += ["train.stages=[{epochs: 1, lr: 1e-3}]"]
    train.main([*words, *["--check"] * (where == "--check")])
    shown = capsys.readouterr()
    shown = shown.out if where == "--check" else shown.err
    (line,) = (line for line in shown.splitlines() if "are truncated" in line)
    assert "2 of 4 captions are truncated" in line
    assert "model.max_length=16" in line
    setting = line.rpartition("; ")[2].split()[0]
    config = load_config(None, [*words, setting])
    tasks, rows, val, _ = read_splits(config)
    _, tokenizer, config = setup.build_start(config, rows)
    data, _ = setup.build_datasets(config, tasks, rows, val, tokenizer)
    assert measure_lengths(data)["caption"].truncated == 0


def test_questions_and_answers_are_measured(tmp_path):
    root = tmp_path / "data"
    make_questions(root, val=[4])
    words = [f"data.root={root}", "model.question.fusion=concat", "model.question.max_length=4"]
    result = report_of(
        *words, "model.max_length=3", "decoding.max_length=3", "answers.max_length=3"
    )
    assert "questions are truncated" in result
    assert "answers are truncated" in result
    assert "model.question.max_length=" in result


def test_texts_tokenized_as_bytes_are_reported(tmp_path, checkpoint):
    root = captioned(tmp_path / "data", [CHINESE, CHINESE[:5]])
    words = (f"data.root={root}", "data.val_splits=[train]")
    assert "single bytes" not in report_of(*words)  # its own vocabulary
    assert "single bytes" in report_of_start(checkpoint, *words)


def report_of_start(checkpoint: Path, *words: str) -> str:
    config = load_config(None, [f"train.start={checkpoint}", "decoding.max_length=8", *words])
    tasks, rows, val, report = read_splits(config)
    model, tokenizer, config = setup.build_start(config, rows)
    data, held = setup.build_datasets(config, tasks, rows, val, tokenizer, model=model)
    return "\n".join(describe_data(config, tasks, data, held, report, model=model))


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            ["train.max_length=20", "decoding.max_length=20"],
            "train.max_length=39 is the largest value of this model; shorten longer captions",
        ),
        ([], "this model takes no longer captions; shorten them"),
    ],
)
def test_advice_is_within_the_positions_of_a_public_model(tmp_path, words, advice):
    build_blip(tmp_path / "start", 0)
    root = captioned(tmp_path / "data", ["a dog on the grass " * 20, "a dog"])
    settings = (f"data.root={root}", "data.val_splits=[train]", *words)
    (line,) = (
        line
        for line in report_of_start(tmp_path / "start", *settings).splitlines()
        if "are truncated" in line
    )
    assert line.endswith(f"; {advice}")


def test_mirroring_is_reported_once(tmp_path):
    texts = ["ein Hund links", "un chien à gauche", "左に犬", "a dog on the left", "all right"]
    root = captioned(tmp_path / "data", texts)
    words = (f"data.root={root}", "data.val_splits=[train]", "tokenizer.vocab_size=400")
    result = report_of(*words)
    (line,) = (line for line in result.splitlines() if "mirrored" in line)
    assert line.startswith("data: 1 of 5 training images may be mirrored; not mirrored: 4 (0.png")
    assert "no image is mirrored" in report_of(*words, "image.flip=false")


def test_images_with_texts_in_other_languages_are_never_mirrored(tmp_path):
    root = captioned(tmp_path / "data", ["ein Hund links", "un chien à gauche", "左に犬"])
    config = load_config(
        None, [*TINY, f"data.root={root}", "data.val_splits=[train]", "tokenizer.vocab_size=400"]
    )
    tasks, rows, val, _ = read_splits(config)
    model, tokenizer, config = setup.build_start(config, rows)
    data, held = setup.build_datasets(config, tasks, rows, val, tokenizer)
    start_stage(config.train.stages[0], config, model, data, held)
    assert not any(any(data.list_flips(view)) for view in range(20))


# Limits of a checkpoint


def test_text_limit_of_a_checkpoint_can_be_raised(tmp_path, checkpoint):
    config = load_config(
        None,
        [f"train.start={checkpoint}", "train.max_length=20", "decoding.max_length=18"],
    )
    rows = {"references": [], "question": [], "tags": [], "source": []}
    rows |= {"image": [], "audio": []}
    model, _, completed = setup.build_start(config, rows)
    old, _, _ = load_checkpoint(checkpoint)
    assert completed.model.max_length == 20
    positions = model.decoder.embed_positions.weight
    before = old.decoder.embed_positions.weight
    assert torch.equal(positions[: len(before)], before)
    assert torch.equal(positions[len(before) :], before[-1:].expand(20 - len(before), -1))
    memory = torch.randn(1, 4, 32)
    tokens = torch.randint(4, 100, (1, 1, 20))
    assert model.decoder(memory, tokens).shape[0] == 20
    short = tokens[..., :12]
    torch.testing.assert_close(model.decoder(memory, short), old.decoder(memory, short))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.max_length=5"], "5 is less than the present number of positions, 12"),
        (["train.question_max_length=40"], "no question modules"),
    ],
)
def test_text_limit_that_cannot_be_raised_is_an_error(words, message, checkpoint):
    config = load_config(None, [f"train.start={checkpoint}", *words, "decoding.max_length=5"])
    with pytest.raises(ConfigError, match=message):
        setup.build_start(config, {"references": [], "question": []})


@pytest.mark.parametrize("name", ["max_length", "question_max_length"])
def test_raising_a_limit_requires_a_checkpoint(name):
    with pytest.raises(ConfigError, match=r"which is not set; set model\."):
        load_config(None, [f"train.{name}=50"])


# Nothing to train


@pytest.mark.parametrize(
    "words",
    [
        ["train.stages=[{lr: 0.0}]"],
        ["train.stages=[{lr: 1e-3, epochs: 1}, {lr: 0, epochs: 1}]"],
        ["train.stages=[{lr: 0, encoder_lr: 1e-4, epochs: 1}]", "model.blind=true"],
        ["train.stages=[{lr: 1e-3, epochs: 1, parts: question}]", "model.question.fusion=add"],
    ],
)
def test_stage_that_trains_nothing_is_a_one_line_error(words, tmp_path, capsys):
    data = make_flickr(tmp_path / "data")
    assert runs.run(data, tmp_path / "out", *words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train.py: ")]
    (line,) = lines
    assert "train nothing" in line or "trains nothing" in line
    assert "train.stages" in line


def test_self_critical_training_without_captions_is_a_one_line_error(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    words = ["train.stages=[{lr: 1e-3, epochs: 1, objective: scst}]", "model.question.fusion=add"]
    assert runs.run(data, tmp_path / "out", *words) == 1
    assert "objective=scst is for captions" in capsys.readouterr().err


# Few images, captions without words, no steps left


def test_few_validation_images_are_ranked_by_rouge_l(tmp_path, capsys):
    assert ranking_metric(12) == "ROUGE-L"
    assert ranking_metric(1000) == "CIDEr-D"
    data, output = make_flickr(tmp_path / "data"), tmp_path / "out"
    assert runs.run(data, output, "train.stages=[{epochs: 1, lr: 1e-3}]") == 0
    assert "too few for CIDEr-D; the best checkpoint is chosen by ROUGE-L" in (
        capsys.readouterr().err
    )
    scores = json.loads((output / "best" / "metrics.json").read_text())["val"]
    assert scores["score"] == scores["ROUGE-L"]


def test_data_sets_that_rank_no_checkpoint_need_no_images_for_cider_d(tmp_path):
    roots = [str(captioned(tmp_path / name, ["a dog", "a cat"])) for name in "abc"]
    some = [{}, {"rank": False}, {"eval_images": 0}]
    settings = [{"root": root} | one for root, one in zip(roots, some, strict=True)]
    lines = [line for line in report_of(runs.sources(*settings)).splitlines() if "CIDEr-D" in line]
    assert lines == [
        "data: 2 validation images of a are too few for CIDEr-D; the best checkpoint is chosen by"
        " ROUGE-L"
    ]


def test_stages_without_a_score_are_reported(tmp_path):
    roots = [str(captioned(tmp_path / name, ["a dog", "a cat"])) for name in "ab"]
    some = [{"eval_images": 0}, {"rank": False}]
    settings = [{"root": root} | one for root, one in zip(roots, some, strict=True)]
    stages = "train.stages=[{}, {name: b, weights: [0, 1]}, {name: c, weights: [1, 0]}]"
    lines = report_of(runs.sources(*settings), stages).splitlines()
    unranked = [line for line in lines if "has validation images" in line]
    assert [line.split(":")[1].strip() for line in unranked] == ["stage 0", "stage c"]
    assert all("(a)" in line for line in unranked)


def test_captions_without_words_can_be_used_for_training(tmp_path):
    data, output = captioned(tmp_path / "data", ["😀🎉", "🎉", "🎉😀🎉"]), tmp_path / "out"
    words = ["train.stages=[{epochs: 1, lr: 1e-3}]", "tokenizer.vocab_size=400"]
    assert runs.run(data, output, *words) == 0
    assert "Lengths and words" in (output / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train.patience=5"], ["train.patience=1"]])
def test_resuming_a_complete_run_returns_at_once(words, tmp_path, capsys, monkeypatch):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "out"
    words = ["train.stages=[{epochs: 2, lr: 1e-3, cached_views: 1}]", *words]
    assert runs.run(data, output, *words) == 0
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    capsys.readouterr()
    assert runs.run(data, output, *words, resume=True) == 0
    shown = capsys.readouterr().err
    assert "no steps are left" in shown
    assert "texts/s" not in shown
    assert "steps an epoch" not in shown
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_run_stopped_after_its_last_step_writes_the_report_when_resumed(tmp_path, capsys):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "out"
    words = ["train.stages=[{epochs: 1, lr: 1e-3}]"]
    assert runs.run(data, output, *words) == 0
    (output / "report.html").unlink()
    capsys.readouterr()
    assert runs.run(data, output, *words, resume=True) == 0
    shown = capsys.readouterr().err
    assert (output / "report.html").is_file()
    assert "steps an epoch" not in shown


def test_questions_of_a_text_encoder_are_not_truncated_inside_a_character(tmp_path):
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer as Bytes
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from captioner.tokenizer import TextEncoderTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, "<pad>"])}
    words = Bytes(models.BPE(vocab=vocabulary, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")
    encoder = TextEncoderTokenizer(tokenizer)
    text = "what is 狗 doing"
    for length in range(1, 25):
        ids = encoder.encode(text, max_length=length)
        assert len(ids) <= length
        assert text.startswith(tokenizer.decode(ids))


def test_text_encoder_has_its_own_length_limit(tmp_path):
    from transformers import AutoModel

    from captioner.model.question_encoder import TextEncoder

    model = AutoModel.from_pretrained(make_text_encoder(tmp_path / "bert"))
    encoder = TextEncoder(model, channels=32, width=16)
    encoder.extend_positions(40)
    with pytest.raises(ValueError, match="40 tokens at most"):
        encoder.extend_positions(41)
