"""The loss and the answers of a classifier of questions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from drawn_images import Table
from small_models import train_small_tokenizer

from captioner.config import Config, ModelConfig, QuestionConfig
from captioner.errors import ConfigError
from captioner.training.loss import class_loss
from captioner.training.setup import frequent_answers


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_mean_over_annotators(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, generator=generator)
    # Ten annotators of each question; -1 gave an answer that is no class.
    drawn = torch.tensor([[0] * 7 + [2] * 3, [1] * 4 + [-1] * 6, [-1] * 10])
    targets = torch.stack([(drawn == i).float().mean(1) for i in range(4)], 1)  # (N, A)
    expected = sum(
        F.cross_entropy(row, answer, label_smoothing=smoothing).item() / 10
        for row, answers in zip(logits, drawn, strict=True)
        for answer in answers
        if answer >= 0
    )
    assert class_loss(logits, targets, smoothing=smoothing).item() == pytest.approx(expected)


def classifying(classes: int) -> Config:
    return Config(model=ModelConfig(question=QuestionConfig(classes=classes)))


def test_classes_are_the_most_frequent_answers():
    tokenizer = train_small_tokenizer()
    rows = Table(
        {"question": question, "references": references}
        for question, references in (
            ("what?", ["Red", "red", "blue"]),
            ("what?", ["a", "blue", "blue "]),
            ("what?", ["circle"]),
            ("", ["square"] * 9),  # captions
        )
    )
    for count, expected in ((2, ["blue", "red"]), (9, ["blue", "red", "a", "circle"])):
        answers = frequent_answers(classifying(count), rows, tokenizer)
        assert [tokenizer.decode(ids) for ids in answers] == expected
    with pytest.raises(ConfigError, match="found 1 answers"):
        frequent_answers(classifying(9), Table(rows[2:]), tokenizer)


def test_a_classifier_has_no_decoder_for_answers():
    with pytest.raises(ConfigError, match=r"decoder_layers=1.*classes=9"):
        dataclasses.replace(QuestionConfig(classes=9), decoder_layers=1)
