"""The classifier of questions, and its one- and two-input variants on a task that needs both."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_questions import OWNERS, QUESTIONS, SIZES, Grid, make_images, make_inputs, make_tokenizer

from captioner.build import build_answer_head, build_model
from captioner.config import QuestionConfig
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import PAD
from captioner.training.loss import class_loss

ANSWERS = ((5, 2), (6, 2), (5, 6, 2))
FAST = {"encoder_layers": 0, "fusion_layers": 1, "classes": 3}


def make_classifier(question: QuestionConfig, answers=ANSWERS, **changes) -> Seq2Seq:
    torch.manual_seed(0)
    sizes = dataclasses.replace(SIZES, question=question, encoder_layers=0, **changes)
    model = build_model(sizes, Grid(), tokenizer=make_tokenizer(), channels=6, positions=4)
    model.answer_head = build_answer_head(sizes, question, answers)
    return model.eval()


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_logits_of_a_question_depend_on_it_and_its_image_only(question, pooling):
    model = make_classifier(dataclasses.replace(question, pooling=pooling)).double()
    images, tokens, questions, owners = make_inputs()
    with torch.no_grad():
        logits = model(images, tokens, questions, owners)
        assert logits.shape == (len(OWNERS), len(ANSWERS))
        for i, owner in enumerate(OWNERS):
            alone = questions[i : i + 1, : int((questions[i] != PAD).sum())]
            single = model(images[owner : owner + 1], tokens[:1], alone, torch.tensor([0]))
            torch.testing.assert_close(single[0], logits[i])
        assert (model(images.flip(0), tokens, questions, owners) != logits).any(1).all()
        assert (model(images, tokens, questions.roll(1, 0), owners) != logits).any(1).all()
        assert model(images, tokens[:3]).shape[1] > len(ANSWERS)  # captions are decoded as before


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_one_input_variants_do_not_see_the_other_input(question):
    images, tokens, questions, owners = make_inputs()
    blind = make_classifier(question, blind=True).double()
    image_only = make_classifier(dataclasses.replace(question, image_only=True)).double()
    with torch.no_grad():
        expected = blind(images, tokens, questions, owners)
        assert torch.equal(blind(make_images(), tokens, questions, owners), expected)
        assert not torch.equal(blind(images, tokens, questions.roll(1, 0), owners), expected)
        expected = image_only(images, tokens, questions, owners)
        others = questions.roll(1, 0)[:, :3]  # other words, and another length
        torch.testing.assert_close(image_only(images, tokens, others, owners), expected)
        assert not torch.allclose(image_only(images.flip(0), tokens, questions, owners), expected)


def train_exclusive_or(question: QuestionConfig, *, steps: int, **changes) -> float:
    """Return the accuracy on a task whose answer is the exclusive or of both inputs.

    The image is one of two, with noise, and so is the question; all four pairs are equally
    frequent. Either input alone says nothing about the answer.
    """
    model = make_classifier(question, answers=ANSWERS[:2], **changes)
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randn(2, 4, 6, generator=generator)
    questions = torch.tensor([[10, 11, 2], [12, 2, PAD]]).repeat(2, 1)  # of the pairs
    seen, owners = torch.tensor([0, 0, 1, 1]), torch.arange(4)
    answers = seen ^ torch.tensor([0, 1, 0, 1])
    targets = torch.eye(2)[answers]
    tokens = questions[:, None]  # captions, which a classifier ignores
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        features = patterns[seen] + 0.1 * torch.randn(4, 4, 6, generator=generator)
        loss = class_loss(model(features, tokens, questions, owners), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = model(patterns[seen], tokens, questions, owners)
    return float((logits.argmax(1) == answers).float().mean())


@pytest.mark.parametrize("name", QUESTIONS)
def test_both_inputs_are_needed_for_the_exclusive_or(name):
    question = dataclasses.replace(QUESTIONS[name], **FAST)
    assert train_exclusive_or(question, steps=120) == 1


@pytest.mark.parametrize("name", QUESTIONS)
def test_one_input_stays_at_chance_on_the_exclusive_or(name):
    question = dataclasses.replace(QUESTIONS[name], **FAST)
    assert train_exclusive_or(question, steps=40, blind=True) == 0.5
    question = dataclasses.replace(question, image_only=True)
    assert train_exclusive_or(question, steps=40) == 0.5
