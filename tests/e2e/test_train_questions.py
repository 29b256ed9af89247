"""`train.py` with questions: alone, beside captions, after captions, blind, stopped and resumed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import SHAPES, captions_of, make_flickr, make_questions, questions_of
from runs import (
    assert_resumed_is_whole,
    last_of,
    run,
    sources,
    state_of,
    words_for,
)
from safetensors.torch import load_file

from captioner.backends.torch_backend import TorchBackend
from captioner.build import load_checkpoint, pixel_spec
from captioner.config import AnswerConfig, DecodingConfig
from captioner.data import normalize_question
from captioner.data.collate import pad
from captioner.generation.answers import search_answers
from captioner.generation.captions import search_captions
from captioner.images import load_image
from captioner.images.transforms import to_pixels

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]

ONCE = "train.stages=[{epochs: 1, lr: 1e-3}]"
ASKING = "model.question={encoder_layers: 1, fusion_layers: 1}"
# What a picture shows is to be learnt to the letter, as it is drawn.
BY_HEART = [
    "image.flip=false",
    "image.jitter=0",
    "model.dropout=0",
    "tokenizer.kind=bpe",
    "model.max_length=24",
    "train.batch_size=4",
    "train.label_smoothing=0",
]


def make_both(root: Path, *, train=(0, 1, 2, 3)) -> tuple[Path, Path]:
    """Captions and questions about the same drawn pictures."""
    captions = make_flickr(root / "captions", train=train, captions=1)
    pictures = captions / "Flicker8k_Dataset"
    return captions, make_questions(root / "questions", train=train, pictures=pictures)


def picture(captions: Path, i: int) -> Path:
    return captions / "Flicker8k_Dataset" / f"{i}.png"


def metrics_of(output: Path) -> dict[str, float]:
    return json.loads((output / "best" / "metrics.json").read_text())["val"]


def ask(checkpoint: Path, asked: list[tuple[Path, str]]) -> list[str]:
    """The answers of a checkpoint to questions about pictures."""
    model, tokenizer, config = load_checkpoint(checkpoint)
    pixels = torch.stack([to_pixels(load_image(p), pixel_spec(config)) for p, _ in asked])
    ids = [tokenizer.question_tokenizer.encode(normalize_question(text)) for _, text in asked]
    owners = torch.arange(len(asked))
    backend = TorchBackend.of_model(model, device=torch.device("cpu"))
    with torch.inference_mode():
        images = backend.encode_tensors([pixels])
        memories = backend.fuse_questions(images, pad(ids, model.pad), owners)
        found = search_answers(backend, memories, AnswerConfig())
    return [tokenizer.decode(hypotheses[0].tokens) for hypotheses in found]


def caption(checkpoint: Path, paths: list[Path]) -> list[str]:
    model, tokenizer, config = load_checkpoint(checkpoint)
    pixels = torch.stack([to_pixels(load_image(p), pixel_spec(config)) for p in paths])
    backend = TorchBackend.of_model(model, device=torch.device("cpu"))
    with torch.inference_mode():
        memories = backend.encode_tensors([pixels])
    found = search_captions(backend, memories, DecodingConfig(beam_size=2, max_length=16))
    return [tokenizer.decode(hypotheses[0].tokens) for hypotheses in found]


# Learning


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "multiply"])
def test_answers_are_learned_exactly(tmp_path, fusion):
    data = make_questions(tmp_path / "data")
    status = run(
        data,
        tmp_path / "run",
        *BY_HEART,
        f"model.question={{fusion: {fusion}, encoder_layers: 1, fusion_layers: 1}}",
        "data.weight=40",
        "train.eval_every=4",
        "train.stages=[{epochs: 4, lr: 4e-3, encoder_lr: 1e-3, augment: false}]",
    )
    assert status == 0
    scores = metrics_of(tmp_path / "run")
    assert scores["exact match"] == scores["score"] == 1
    asked = [
        (data / "pictures" / f"{i}.png", question, expected)
        for i in range(4)
        for question, expected in questions_of(*SHAPES[i])
    ]
    found = ask(tmp_path / "run" / "best", [(path, question) for path, question, _ in asked])
    assert found == [expected for *_, expected in asked]


def test_captions_and_answers_are_learned_in_one_run(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    status = run(
        None,
        tmp_path / "run",
        sources({"root": str(captions), "weight": 40}, {"root": str(questions), "weight": 40}),
        *BY_HEART,
        ASKING,
        "train.eval_every=4",
        "train.stages=[{epochs: 4, lr: 3e-3, encoder_lr: 1e-3, augment: false}]",
    )
    assert status == 0
    scores = metrics_of(tmp_path / "run")
    assert scores["questions exact match"] == 1
    assert scores["captions BLEU-4"] == pytest.approx(1)
    # Of so few images, captions are ranked by ROUGE-L.
    assert scores["score"] == pytest.approx((1 + scores["captions ROUGE-L"]) / 2)
    paths = [picture(captions, i) for i in range(4)]
    best = tmp_path / "run" / "best"
    assert caption(best, paths) == [captions_of(*SHAPES[i])[0] for i in range(4)]
    asked = [(path, "What shape is it?") for path in paths]
    assert ask(best, asked) == [SHAPES[i][1] for i in range(4)]
    errors = capsys.readouterr().err
    # Each data set's own, and both per line of an epoch.
    assert "captions: 4 training and 4 validation rows" in errors
    assert "questions: 12 training and 12 validation rows" in errors
    last = next(line for line in errors.splitlines() if line.startswith("stage 0 epoch 3 ("))
    for part in ("captions loss", "questions loss", "texts/s"):
        assert part in last


def test_blind_model_answers_from_the_question_only(tmp_path):
    """Four pictures differ in colour, and it cannot tell: one answer for all of them."""
    data = make_questions(tmp_path / "data")
    status = run(
        data,
        tmp_path / "run",
        *BY_HEART,
        ASKING,
        "model.blind=true",
        "data.weight=40",
        "train.eval_every=2",
        "train.stages=[{epochs: 2, lr: 4e-3, augment: false}]",
    )
    assert status == 0
    assert load_checkpoint(tmp_path / "run" / "best")[2].model.blind
    pictures = [data / "pictures" / f"{i}.png" for i in range(4)]
    found = {
        question: set(ask(tmp_path / "run" / "best", [(p, question) for p in pictures]))
        for question, _ in questions_of(*SHAPES[0])
    }
    assert all(len(answers) == 1 for answers in found.values())
    asked = {question: {questions_of(*SHAPES[i])[n][1] for i in range(4)}
             for n, (question, _) in enumerate(questions_of(*SHAPES[0]))}  # fmt: skip
    assert all(found[question] <= asked[question] for question in asked)  # and a plausible one
    assert 0 < metrics_of(tmp_path / "run")["exact match"] < 1


# Stages, steps and sources

MIXED = (
    "train.stages=[{epochs: 2, lr: 1e-3, cached_views: 2},"
    " {epochs: 2, lr: 1e-4, objective: scst, samples: 3, encoder_lr: 1e-4}]"
)


def test_self_critical_stage_trains_questions_with_cross_entropy(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    two = sources({"root": str(captions)}, {"root": str(questions)})
    assert run(None, tmp_path / "run", two, ASKING, MIXED, "train.patience=9") == 0
    errors = capsys.readouterr().err
    lines = [x for x in errors.splitlines() if re.match(r"stage 1 epoch \d \(", x)]
    assert len(lines) == 2
    for line in lines:
        assert "captions reward" in line
        assert "questions loss" in line
        assert "captions loss" not in line


def test_self_critical_stage_requires_captions(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    stages = "train.stages=[{epochs: 1, objective: scst}]"
    status = run(data, tmp_path / "run", ASKING, stages)
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    # Learnt as ever, or refused in one line; never half of it.
    assert status == 0 or lines[-1].startswith("train.py: ")


def test_every_part_for_questions_is_trained(tmp_path):
    data = make_questions(tmp_path / "data")
    words = [ASKING, "train.patience=9", "train.ema=0"]
    assert run(data, tmp_path / "one", *words, ONCE) == 0
    assert run(data, tmp_path / "two", *words, "train.stages=[{epochs: 2, lr: 1e-3}]") == 0
    one, two = (state_of(tmp_path / name) for name in ("one", "two"))
    names = [k for k in one if k.startswith(("model.question_encoder.", "model.fusion."))]
    assert names
    still = [k for k in names if torch.equal(one[k], two[k]) and not k.endswith("k_proj.bias")]
    assert still == []


def test_stage_may_set_the_weights_of_the_sources(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    stages = "train.stages=[{epochs: 1}, {epochs: 1, weights: [3, 0.5]}]"
    two = sources({"root": str(captions)}, {"root": str(questions)})
    assert run(None, tmp_path / "run", two, ASKING, stages) == 0
    # Of four images each, two a step: 2 + 2 steps, then 6 + 1.
    record = json.loads((last_of(tmp_path / "run") / "progress.json").read_text())
    assert record["progress"]["step"] == 4 + 7
    errors = capsys.readouterr().err
    assert "4 training images x 1, 3" in errors
    assert "4 training images x 1, 0.5" in errors


@pytest.mark.parametrize("own", [0, 1])
def test_question_stage_leaves_captions_unchanged(tmp_path, capsys, own):
    captions, questions = make_both(tmp_path)
    asking = f"model.question={{encoder_layers: 1, fusion_layers: 1, decoder_layers: {own}}}"
    stages = "train.stages=[{epochs: 1, lr: 1e-3}, {epochs: 2, lr: 1e-3, parts: question}]"
    words = [sources({"root": str(captions)}, {"root": str(questions)}), asking, "train.ema=0"]
    assert run(None, tmp_path / "run", *words, "train.eval_every=9", stages) == 0
    assert "4 training images x 1, 0" in capsys.readouterr().err
    # Two steps of questions in each epoch of the second.
    record = json.loads((last_of(tmp_path / "run") / "progress.json").read_text())
    assert record["progress"]["step"] == 4 + 2 * 2
    state = state_of(tmp_path / "run")
    assert run(None, tmp_path / "one", *words, "train.stages=[{epochs: 1, lr: 1e-3}]") == 0
    before = state_of(tmp_path / "one")
    changed = {k for k in before if k.startswith("model.") and not torch.equal(before[k], state[k])}
    parts = ("model.question_encoder.", "model.fusion.", "model.answerer.")
    assert changed
    assert all(k.startswith(parts) for k in changed)
    assert any(k.startswith("model.answerer.layers.") for k in changed) == bool(own)


@pytest.mark.parametrize("wrong", ["encoder_lr: 1e-3", "no parts"])
def test_question_stage_requires_parts_for_questions(tmp_path, capsys, wrong):
    captions, questions = make_both(tmp_path)
    without = wrong == "no parts"
    stage = "{epochs: 1, parts: question" + f", {wrong}" * (not without) + "}"
    words = [f"train.stages=[{stage}]"] + [ASKING] * (not without)
    assert run(captions if without else questions, tmp_path / "run", *words) == 1
    assert "parts=question" in capsys.readouterr().err.splitlines()[-1]


def test_answers_may_have_their_own_decoder(tmp_path):
    """It learns what is asked, and shares the table of words, of which a checkpoint has one."""
    captions, questions = make_both(tmp_path)
    status = run(
        None,
        tmp_path / "run",
        sources({"root": str(captions), "weight": 40}, {"root": str(questions), "weight": 40}),
        *BY_HEART,
        "model.question={encoder_layers: 1, fusion_layers: 1, decoder_layers: 1, decoder_ffn: 40}",
        "train.eval_every=4",
        "train.stages=[{epochs: 4, lr: 3e-3, encoder_lr: 1e-3, augment: false}]",
    )
    assert status == 0
    best = tmp_path / "run" / "best"
    asked = [(picture(captions, i), "What shape is it?") for i in range(4)]
    assert ask(best, asked) == [SHAPES[i][1] for i in range(4)]
    paths = [path for path, _ in asked]
    assert caption(best, paths) == [captions_of(*SHAPES[i])[0] for i in range(4)]
    weights = load_file(best / "model.safetensors")
    assert [k for k in weights if k.endswith("embed_tokens.weight")] == [
        "decoder.embed_tokens.weight"
    ]
    assert weights["answerer.layers.0.fc1.weight"].shape == (40, 48)


def test_both_tasks_of_one_data_set_share_its_weight(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    with open(questions / "train.jsonl", "a", encoding="utf-8") as file:
        row = {"image": str(picture(captions, 0)), "caption": captions_of(*SHAPES[0])[0]}
        file.write(json.dumps(row) + "\n")
    stages = "train.stages=[{epochs: 1, weights: [0.5, 2]}]"
    two = sources({"root": str(questions)}, {"root": str(captions)})
    assert run(None, tmp_path / "run", two, ASKING, stages) == 0
    errors = capsys.readouterr().err
    lines = [line for line in errors.splitlines() if " training images x " in line]
    assert [line.rpartition(" x ")[2] for line in lines] == ["0.5", "0.5", "2"]


@pytest.mark.parametrize("epochs", [1, 3])
def test_resumed_run_with_two_sources_equals_the_uninterrupted_one(tmp_path, monkeypatch, epochs):
    captions, questions = make_both(tmp_path, train=range(5))
    some = {"root": str(questions), "weight": 1.5}
    words = [sources({"root": str(captions)}, some), ASKING, MIXED, "train.ema=0.9"]
    assert_resumed_is_whole(None, tmp_path / "run", words, epochs, monkeypatch)


def test_one_file_may_hold_captions_and_questions(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    with open(data / "train.jsonl", "a", encoding="utf-8") as file:
        for i in range(3):  # of the fourth picture there are questions alone
            row = {"image": f"pictures/{i}.png", "caption": captions_of(*SHAPES[i])[0]}
            file.write(json.dumps(row) + "\n")
    assert run(data, tmp_path / "run", ASKING, ONCE) == 0
    scores = metrics_of(tmp_path / "run")
    assert any(name.endswith("exact match") for name in scores)
    assert any(name.endswith("CIDEr-D") for name in scores)


# Starting from a checkpoint


@pytest.mark.parametrize("fusion", ["cross_attention", "linear"])
def test_captioner_learns_to_answer(tmp_path, fusion):
    captions, questions = make_both(tmp_path)
    assert run(captions, tmp_path / "first", ONCE) == 0
    start = tmp_path / "first" / "best"
    words = [
        f"data.root={questions}",
        "data.val_splits=[train]",
        f"train.output={tmp_path / 'second'}",
        f"train.start={start}",
        "train.tracker=none",
        "train.precision=no",
        "decoding.max_length=16",
        f"model.question={{fusion: {fusion}}}",
        "train.stages=[{epochs: 1, lr: 1e-9, warmup: 0}]",
    ]
    from captioner.cli import train

    assert train.main(words) == 0
    before, tokenizer, theirs = load_checkpoint(start)
    after, same, config = load_checkpoint(tmp_path / "second" / "best")
    assert same.model == tokenizer.model
    assert config.model.question.fusion == fusion
    assert (config.model.width, config.model.heads) == (theirs.model.width, theirs.model.heads)
    weights = after.state_dict()
    for key, value in before.state_dict().items():
        torch.testing.assert_close(weights[key], value, atol=1e-6, rtol=0)
    assert type(after.fusion).__name__.lower() == fusion.replace("_", "")


def test_fusion_that_differs_from_the_checkpoint_is_an_error(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    assert run(data, tmp_path / "first", ASKING, ONCE) == 0
    start = f"train.start={tmp_path / 'first' / 'best'}"
    other = "model.question={encoder_layers: 1, fusion_layers: 1, fusion: concat}"
    assert run(data, tmp_path / "second", start, other, ONCE) == 1
    assert "model section" in capsys.readouterr().err.splitlines()[-1]
    assert run(data, tmp_path / "third", start, ASKING, ONCE) == 0


def test_checkpoint_of_a_blind_run_is_blind(tmp_path):
    data = make_questions(tmp_path / "data")
    assert run(data, tmp_path / "first", ASKING, ONCE) == 0
    start = f"train.start={tmp_path / 'first' / 'best'}"
    assert run(data, tmp_path / "second", start, ASKING, "model.blind=true", ONCE) == 0
    model, _, config = load_checkpoint(tmp_path / "second" / "best")
    assert model.blind
    assert config.model.blind


# What can be wrong


def test_questions_without_parts_for_them_are_an_error(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    assert run(data, tmp_path / "run", ONCE) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("train.py: ")
    assert "model.question" in last


def test_source_without_a_root_is_a_one_line_error(tmp_path, capsys):
    data = make_questions(tmp_path / "data")
    assert run(None, tmp_path / "run", sources({"root": str(data)}, {}), ASKING, ONCE) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("train.py: ")
    assert "root" in last


def test_unreadable_image_with_questions_is_reported_once(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    picture(captions, 2).write_bytes(b"no picture")
    two = sources({"root": str(captions)}, {"root": str(questions)})
    assert run(None, tmp_path / "run", two, ASKING, "train.stages=[{epochs: 2}]") == 0
    messages = capsys.readouterr().err
    last = messages[messages.rindex("image that cannot be decoded") :].splitlines()[0]
    assert last.startswith("image that cannot be decoded: 1 (")
    assert "2.png" in last


# Several processes


@pytest.mark.slow
def test_two_processes_learn_captions_and_answers(tmp_path, forks):
    """Steps on captions leave the parts for questions without gradient, in every process alike."""
    captions, questions = make_both(tmp_path, train=range(5))
    two = sources({"root": str(captions)}, {"root": str(questions)})
    stages = MIXED.replace("cached_views: 2", "cached_views: 1")
    words = words_for(None, tmp_path / "run", two, ASKING, stages)
    statuses, error = forks.train(words, ranks=2)
    assert statuses == [0, 0], error
    assert error.count("2 process(es)") == 1
    progress = json.loads((last_of(tmp_path / "run") / "progress.json").read_text())["progress"]
    assert progress["step"] == 4 * 2  # epochs, and of each source the one step that both share
    assert 0 <= metrics_of(tmp_path / "run")["questions exact match"] <= 1
    # From there on, and with the parts for questions named by the checkpoint alone.
    again = [
        two,
        f"train.start={tmp_path / 'run' / 'best'}",
        f"train.output={tmp_path / 'again'}",
        *("train.tracker=none", "train.precision=no", "train.batch_size=2"),
        *("decoding.max_length=16", ONCE),
    ]
    statuses, error = forks.train(again, ranks=2)
    assert statuses == [0, 0], error
