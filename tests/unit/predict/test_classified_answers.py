"""A classifier of questions: ranked answers, closed sets, both backends, options without effect."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from answering import ids_of
from backend_pairs import Pair, assert_same_answers, assert_same_scores, load_pair
from tiny import THINGS, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.errors import CaptionerError, CheckpointError

pytestmark = pytest.mark.slow
ANSWERS = (*THINGS[:6], "a red dog", "2")
ROWS = [(picture(i), question) for i in range(4) for question in QUESTIONS[:3]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, add_graphs) -> Path:
    path = tmp_path_factory.mktemp("classified") / "best"
    options = {"fusion": "concat", "temperature": 2.0}
    return add_graphs(make_vqa_checkpoint(path, classes=ANSWERS, **options))


@pytest.fixture(scope="session")
def pair(folder) -> Pair:
    return load_pair(folder)


@torch.no_grad()
def probabilities(model, image, question: str) -> dict[str, float]:
    """Return the softmax of the logits of the head at temperature 2."""
    memory = model.model.encode(model.backend.stack([model.backend.read(image)])[0])
    logits = model.model.classify(memory, torch.tensor([ids_of(model, question)]), torch.tensor(0))
    return dict(zip(ANSWERS, (logits[0] / 2).softmax(0).tolist(), strict=True))


def test_answers_are_ranked_by_their_probability(pair):
    results = pair.torch.answer(ROWS, num_answers=len(ANSWERS))
    assert len({result.text for result in results}) > 1
    for (image, question), result in zip(ROWS, results, strict=True):
        found = {answer.text: answer.confidence for answer in result.answers}
        assert found == pytest.approx(probabilities(pair.torch, image, question), abs=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert pair.torch.ask(image, question).text == result.text
        decoded = [pair.torch.tokenizer.decode(answer.tokens) for answer in result.answers]
        assert decoded == list(found)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_both_backends_give_the_same_answers(pair, batch_size):
    options = {"num_answers": len(ANSWERS), "batch_size": batch_size}
    expected = pair.torch.answer(ROWS, **options)
    assert_same_answers(pair.onnx.answer(ROWS, **options), expected)
    closed = {"answers": ["Boat", "2", "a red dog"], "num_answers": 3}
    assert_same_answers(pair.onnx.answer(ROWS, **closed), pair.torch.answer(ROWS, **closed))
    image, question = ROWS[0]
    texts = ["dog", "a red dog"]
    scores = [one.score(image, texts, question=question) for one in pair]
    assert_same_scores(*scores)


def test_a_closed_set_restricts_the_softmax(pair):
    image, question = ROWS[4]
    whole = probabilities(pair.torch, image, question)
    closed = ["Boat", "2", "A red dog"]
    result = pair.torch.ask(image, question, answers=closed, num_answers=5)
    share = {text: whole[text.lower()] for text in closed}
    total = sum(share.values())
    assert {a.text: a.confidence for a in result.answers} == pytest.approx(
        {text: p / total for text, p in share.items()}, abs=1e-5
    )
    for model in pair:
        with pytest.raises(CaptionerError, match=r"'purple' is none of the 8 answers"):
            model.ask(image, question, answers=["boat", "purple"])


def test_scores_are_the_log_probabilities(pair):
    image, question = ROWS[1]
    whole = probabilities(pair.torch, image, question)
    scored = pair.torch.score(image, list(ANSWERS), question=question)
    assert {s.text: math.exp(s.logprob) for s in scored} == pytest.approx(whole, abs=1e-5)
    assert all(s.score == s.logprob for s in scored)
    with pytest.raises(CaptionerError, match="'street beach' is none of the 8 answers"):
        pair.torch.score(image, ["dog", "street beach"], question=question)


def test_a_stream_is_the_most_likely_answer(pair):
    for model in pair:
        for image, question in ROWS[:4]:
            text = "".join(model.stream(image, question=question))
            assert text == model.ask(image, question).text


def test_options_without_effect_are_errors(pair):
    image, question = ROWS[0]
    for model in pair:
        with pytest.raises(CaptionerError, match="beam_size=3 has no effect"):
            model.ask(image, question, beam_size=3)
        with pytest.raises(CaptionerError, match="method, top_k: no effect"):
            model.stream(image, question=question, method="sample", top_k=3)
        with pytest.raises(CaptionerError, match="attention of a caption"):
            model.attention(image, "dog", question=question)
        assert model.caption(image)[0].text  # captions are generated as before
        assert model.attention(image, "dog")


def test_an_ensemble_averages_probabilities(folder, tmp_path):
    other = make_vqa_checkpoint(tmp_path / "other", classes=ANSWERS, fusion="add")
    names = [folder, other]
    both, *members = (captioner.load(x, backend="torch") for x in (names, folder, other))
    image, question = ROWS[2]
    for model in (*members, both):
        model.config = members[0].config  # one temperature
    one, two, mean = (
        {a.text: a.confidence for a in m.ask(image, question, num_answers=8).answers}
        for m in (*members, both)
    )
    assert mean == pytest.approx({t: (one[t] + two[t]) / 2 for t in ANSWERS}, abs=1e-5)
    third = make_vqa_checkpoint(tmp_path / "third", classes=(*ANSWERS[1:], "no"))
    generates = make_vqa_checkpoint(tmp_path / "fourth")
    for name in (third, generates):
        with pytest.raises(CheckpointError, match="closed set of answers differs"):
            captioner.load([folder, name], backend="torch")


def test_the_answers_are_a_file_of_the_checkpoint(folder, tmp_path):
    assert json.loads((folder / "answers.json").read_text()) == list(ANSWERS)
    model = captioner.load(folder)
    image, question = ROWS[0]
    assert copy.deepcopy(model).ask(image, question) == model.ask(image, question)
    broken = make_vqa_checkpoint(tmp_path / "best", classes=ANSWERS)
    (broken / "answers.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"answers\.json: cannot be read"):
        captioner.load(broken)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_the_file_of_the_answers_must_fit_the_weights(folder, backend, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "best")
    (broken / "answers.json").write_text('["dog", "boat"]')
    with pytest.raises(CheckpointError, match=r"has 2 answers, but the classifier in .* has 8"):
        captioner.load(broken, backend=backend)


def test_a_closed_set_may_have_a_class_that_was_truncated(tmp_path):
    """The beginning of a longer answer may end in a space, which normalization removes."""
    model = captioner.load(make_vqa_checkpoint(tmp_path / "best", classes=("dog", "a red ")))
    result = model.ask(*ROWS[0], answers=["a red ", "Dog"], num_answers=2)
    assert {answer.text for answer in result.answers} == {"a red ", "Dog"}
