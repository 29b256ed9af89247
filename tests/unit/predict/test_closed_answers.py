"""Closed answer sets: exhaustive search, spelling, checks, caching."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from answering import CLOSED, logprobs_of
from tiny import COLOURS, THINGS, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.errors import CaptionerError
from captioner.predict import Captioner, questions


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vqa_checkpoint(tmp_path_factory.mktemp("answers") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


def exhaustive(model: Captioner, image, question: str, texts: list[str]) -> dict[str, float]:
    """Return the probability of each text, renormalized at each token over the allowed tokens."""
    members = {text: model.tokenizer.encode(text.lower()) for text in texts}
    found = {}
    for text, tokens in members.items():
        logits = logprobs_of(model, image, question, tokens)
        total = 0.0
        for i, token in enumerate(tokens):
            allowed = {m[i] for m in members.values() if m[:i] == tokens[:i] and len(m) > i}
            row = {t: logits[i, t].item() for t in allowed}
            total += row[token] - torch.tensor(list(row.values())).logsumexp(0).item()
        found[text] = math.exp(total)
    return found


@pytest.mark.parametrize("size", [1, 2, 5, len(CLOSED)])
def test_a_closed_set_is_searched_exhaustively(model, size):
    closed = list(CLOSED[:size])
    for image, question in ((picture(0), QUESTIONS[0]), (picture(3), QUESTIONS[4])):
        found = model.ask(image, question, answers=closed, num_answers=size)
        confidences = {a.text: a.confidence for a in found.answers}
        assert confidences == pytest.approx(exhaustive(model, image, question, closed), rel=1e-3)
        assert sum(confidences.values()) == pytest.approx(1)
        assert all(0 < c <= 1 for c in confidences.values())
        # The size of the set overrides `beam_size` and limits `num_answers`.
        best = max(confidences, key=confidences.get)
        assert model.ask(image, question, answers=closed, beam_size=1).text == best
        assert len(model.ask(image, question, answers=closed, num_answers=99).answers) == size


def test_an_exhaustive_search_finds_members_that_a_narrow_beam_misses(model, monkeypatch):
    closed = [f"{colour} {thing}" for colour in COLOURS[:3] for thing in THINGS]
    rows = [(picture(i), question) for i in range(4) for question in QUESTIONS]
    every = model.answer(rows, answers=closed, num_answers=len(closed))
    assert all(len(found.answers) == len(closed) for found in every)
    best = [found.text for found in every]
    assert [a.text for a in model.answer(rows, answers=closed, beam_size=1)] == best
    monkeypatch.setattr(questions, "CLOSED_BEAMS", 1)
    narrow = [a.text for a in model.answer(rows, answers=closed, beam_size=1)]
    assert narrow != best


def test_members_longer_than_max_length_are_returned_whole(model):
    long = "a red dog by"
    assert len(model.tokenizer.encode(long)) > model.config.answers.max_length
    found = model.ask(picture(0), QUESTIONS[0], answers=[long, "no"], num_answers=2)
    assert {a.text for a in found.answers} == {long, "no"}
    with pytest.raises(CaptionerError, match=r"boat.* tokens.*at most 12"):
        model.ask(picture(0), QUESTIONS[0], answers=["no", "boat " * 12])


def test_a_large_closed_set_is_searched_with_a_limited_beam(model):
    closed = [f"{c} {t} {n}" for c in COLOURS for t in THINGS[:4] for n in range(3)]
    assert len(closed) > questions.CLOSED_BEAMS
    found = model.ask(picture(0), QUESTIONS[0], answers=closed, num_answers=10)
    assert len(found.answers) == 10
    assert {a.text for a in found.answers} <= set(closed)
    assert sum(a.confidence for a in found.answers) <= 1 + 1e-6
    probabilities = exhaustive(model, picture(0), QUESTIONS[0], closed)
    assert found.confidence == pytest.approx(max(probabilities.values()), rel=1e-3)


def test_members_are_normalized_and_returned_as_given(model):
    given = ["Yes.", "  NO ", '"Red dog"']
    found = model.ask(picture(0), QUESTIONS[0], answers=given, num_answers=3)
    plain = model.ask(picture(0), QUESTIONS[0], answers=["yes", "no", "red dog"], num_answers=3)
    assert {a.text for a in found.answers} == set(given)
    assert [a.confidence for a in found.answers] == [a.confidence for a in plain.answers]


def test_members_with_equal_tokens_count_once(model):
    found = model.ask(
        picture(0), QUESTIONS[0], answers=["Yes", "yes", "no", "YES ."], num_answers=9
    )
    assert sorted(a.text for a in found.answers) == ["Yes", "no"]


@pytest.mark.parametrize(
    ("answers", "expected_message"),
    [
        ([], "empty list"),
        ((), "empty list"),
        (["yes", ""], "has no words"),
        (["yes", " . "], "has no words"),
        (["yes", None], "NoneType"),
        (["yes", "n\x00"], "control character"),
        (["yes", "caf\udce9"], "not UTF-8"),
        ("yes,no", "expected a list"),
    ],
)
def test_unusable_closed_sets_are_rejected(model, answers, expected_message):
    with pytest.raises(CaptionerError, match=expected_message):
        model.ask(picture(0), QUESTIONS[0], answers=answers)
    with pytest.raises(CaptionerError, match=expected_message):
        model.answer([(picture(0), QUESTIONS[0])], answers=answers)


def test_closed_sets_are_cached(model, monkeypatch):
    built = []

    class Counting(questions.Trie):
        def __init__(self, *args, **options):
            built.append(1)
            super().__init__(*args, **options)

    monkeypatch.setattr(questions, "Trie", Counting)
    rows = [(picture(i), QUESTIONS[0]) for i in range(3)]
    model.answer(rows, answers=["one way", "another"], batch_size=1)
    model.ask(*rows[0], answers=("one way", "another"))
    assert len(built) == 1
    model.ask(*rows[0], answers=["another", "one"])
    assert len(built) == 2
