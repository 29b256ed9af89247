"""`train.py` with questions: alone, together with captions, after captions, and blind."""

from __future__ import annotations

import json

import pytest
import torch
from drawn_images import SHAPES, captions_of, make_questions, questions_of
from question_runs import (
    ASKING,
    MIXED,
    ONCE,
    OVERFIT,
    ask,
    caption,
    make_both,
    metrics_of,
    picture,
)
from runs import (
    last_of,
    run,
    sources,
    words_for,
)

from captioner.build import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerate")]


# Results of training


@pytest.mark.parametrize("fusion", ["cross_attention", "concat", "multiply"])
def test_answers_are_learned_exactly(tmp_path, fusion):
    data = make_questions(tmp_path / "data")
    status = run(
        data,
        tmp_path / "run",
        *OVERFIT,
        f"model.question={{fusion: {fusion}, encoder_layers: 1, fusion_layers: 1}}",
        "data.weight=40",
        "train.eval_every=4",
        "train.stages=[{epochs: 4, lr: 4e-3, encoder_lr: 1e-3, augment: false}]",
    )
    assert status == 0
    scores = metrics_of(tmp_path / "run")
    assert scores["exact match"] == scores["score"] == 1
    pairs = [
        (data / "pictures" / f"{i}.png", question, expected)
        for i in range(4)
        for question, expected in questions_of(*SHAPES[i])
    ]
    result = ask(tmp_path / "run" / "best", [(path, question) for path, question, _ in pairs])
    assert result == [expected for *_, expected in pairs]


def test_captions_and_answers_are_learned_in_one_run(tmp_path, capsys):
    captions, questions = make_both(tmp_path)
    status = run(
        None,
        tmp_path / "run",
        sources({"root": str(captions), "weight": 40}, {"root": str(questions), "weight": 40}),
        *OVERFIT,
        ASKING,
        "train.eval_every=4",
        "train.stages=[{epochs: 4, lr: 3e-3, encoder_lr: 1e-3, augment: false}]",
    )
    assert status == 0
    scores = metrics_of(tmp_path / "run")
    assert scores["questions exact match"] == 1
    assert scores["captions BLEU-4"] == pytest.approx(1)
    # With so few images, captions are ranked by ROUGE-L.
    assert scores["score"] == pytest.approx((1 + scores["captions ROUGE-L"]) / 2)
    paths = [picture(captions, i) for i in range(4)]
    best = tmp_path / "run" / "best"
    assert caption(best, paths) == [captions_of(*SHAPES[i])[0] for i in range(4)]
    pairs = [(path, "What shape is it?") for path in paths]
    assert ask(best, pairs) == [SHAPES[i][1] for i in range(4)]
    errors = capsys.readouterr().err
    # One line per data set, and both in the line of an epoch.
    assert "captions: 4 training and 4 validation rows" in errors
    assert "questions: 12 training and 12 validation rows" in errors
    last = next(line for line in errors.splitlines() if line.startswith("stage 0 epoch 3 ("))
    for part in ("captions loss", "questions loss", "texts/s"):
        assert part in last


def test_blind_model_answers_from_the_question_only(tmp_path):
    """A blind model gives the same answer for four images that differ only in color."""
    data = make_questions(tmp_path / "data")
    status = run(
        data,
        tmp_path / "run",
        *OVERFIT,
        ASKING,
        "model.blind=true",
        "data.weight=40",
        "train.eval_every=2",
        "train.stages=[{epochs: 2, lr: 4e-3, augment: false}]",
    )
    assert status == 0
    assert load_checkpoint(tmp_path / "run" / "best")[2].model.blind
    pictures = [data / "pictures" / f"{i}.png" for i in range(4)]
    result = {
        question: set(ask(tmp_path / "run" / "best", [(p, question) for p in pictures]))
        for question, _ in questions_of(*SHAPES[0])
    }
    assert all(len(answers) == 1 for answers in result.values())
    pairs = {question: {questions_of(*SHAPES[i])[n][1] for i in range(4)}
             for n, (question, _) in enumerate(questions_of(*SHAPES[0]))}  # fmt: skip
    assert all(result[question] <= pairs[question] for question in pairs)  # a plausible one
    assert 0 < metrics_of(tmp_path / "run")["exact match"] < 1


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


# Errors


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
    """Caption steps give no gradient to the question modules in either process."""
    captions, questions = make_both(tmp_path, train=range(5))
    two = sources({"root": str(captions)}, {"root": str(questions)})
    stages = MIXED.replace("cached_views: 2", "cached_views: 1")
    words = words_for(None, tmp_path / "run", two, ASKING, stages)
    statuses, error = forks.train(words, ranks=2)
    assert statuses == [0, 0], error
    assert error.count("2 process(es)") == 1
    progress = json.loads((last_of(tmp_path / "run") / "progress.json").read_text())["progress"]
    assert progress["step"] == 4 * 2  # epochs, times one step per source that both ranks share
    assert 0 <= metrics_of(tmp_path / "run")["questions exact match"] <= 1
    # Start from that checkpoint, whose configuration has the question modules.
    again = [
        two,
        f"train.start={tmp_path / 'run' / 'best'}",
        f"train.output={tmp_path / 'again'}",
        *("train.tracker=none", "train.precision=no", "train.batch_size=2"),
        *("decoding.max_length=16", ONCE),
    ]
    statuses, error = forks.train(again, ranks=2)
    assert statuses == [0, 0], error
