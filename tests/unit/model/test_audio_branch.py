"""A model of images and recordings: memories of all combinations of inputs."""

from __future__ import annotations

import pytest
import torch
from small_models import SIZES, train_small_tokenizer
from tiny import Grid
from torch import Tensor, nn

from captioner.build import build_model
from captioner.config import QuestionConfig
from captioner.model.seq2seq import Seq2Seq
from captioner.training.optimizer import rated_parameters
from captioner.training.stage import StageConfig, train_mode


class Bands(nn.Module):
    """A backbone from spectrograms (B, 1, 8, 12) to 6 positions of 5 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 4, stride=4)

    def forward(self, spectrograms: Tensor) -> Tensor:
        return self.conv(spectrograms).flatten(2).transpose(1, 2)


@pytest.fixture(params=[None, "concat"], ids=["captions", "questions"])
def model(request) -> Seq2Seq:
    """Return a model with random weights, with question modules or without."""
    torch.manual_seed(0)
    question = request.param and QuestionConfig(encoder_layers=1, fusion=request.param)
    sizes = {"tokenizer": train_small_tokenizer(), "channels": 6, "positions": 4}
    config = SIZES if question is None else type(SIZES)(**vars(SIZES) | {"question": question})
    return build_model(config, Grid(), audio=(Bands(), (6, 5)), **sizes).eval()


IMAGES, SOUNDS = torch.randn(3, 3, 16, 16), torch.randn(3, 1, 8, 12)
TOKENS = torch.tensor([[[1, 5, 6, 0]], [[1, 7, 0, 0]], [[1, 8, 9, 10]], [[1, 5, 0, 0]]])


def test_memories_of_a_batch_are_those_of_its_groups(model):
    # Two images, one pair and two recordings.
    image, pair, sound = model.encode_groups(IMAGES, SOUNDS, 1)
    assert [len(x) for x in (image, pair, sound)] == [2, 1, 2]
    torch.testing.assert_close(image, model.encode(IMAGES[:2]))
    torch.testing.assert_close(sound, model.encode_recordings(SOUNDS[1:]))
    expected = [model.encode(IMAGES[2:]), model.encode_recordings(SOUNDS[:1])]
    torch.testing.assert_close(pair, torch.cat(expected, 1))
    assert pair.shape[1] == 4 + 6


def test_logits_do_not_depend_on_the_other_samples(model):
    images, sounds = IMAGES[:2], SOUNDS  # an image, a pair and two recordings
    if model.fusion is None:
        logits = model(images, TOKENS, None, None, sounds, 1)
        parts = [
            model(images[:1], TOKENS[:1]),
            model(images[1:], TOKENS[1:2], None, None, sounds[:1], 1),
            model(None, TOKENS[2:], None, None, sounds[1:]),
        ]
    else:
        questions = torch.tensor([[5, 6, 2], [7, 2, 0], [8, 9, 2], [6, 2, 0]])
        owners = torch.tensor([0, 1, 1, 3])
        logits = model(images, TOKENS, questions, owners, sounds, 1)
        zero = torch.zeros(2, dtype=torch.long)
        parts = [
            model(images[:1], TOKENS[:1], questions[:1], zero[:1]),
            model(images[1:], TOKENS[1:3], questions[1:3], zero, sounds[:1], 1),
            model(None, TOKENS[3:], questions[3:], zero[:1], sounds[2:]),
        ]
    torch.testing.assert_close(logits, torch.cat(parts))


def test_both_types_are_marked(model):
    with torch.no_grad():
        before = model.encode(IMAGES), model.encode_recordings(SOUNDS)
        model.audio.types.add_(torch.tensor([[1.0], [2.0]]))
        torch.testing.assert_close(model.encode(IMAGES), before[0] + 1)
        torch.testing.assert_close(model.encode_recordings(SOUNDS), before[1] + 2)


def test_backbones_of_both_encoders_have_the_learning_rate_of_the_encoder(model):
    stage = StageConfig(lr=1e-3, encoder_lr=1e-5)
    rates = {id(p): rate for rate, _, p in rated_parameters(model, stage)}
    assert len(rates) == len(list(model.parameters()))
    for backbone in (model.backbone, model.audio.backbone):
        assert {rates[id(p)] for p in backbone.parameters()} == {1e-5}
    assert rates[id(model.audio.types)] == 1e-3
    assert rates[id(model.audio.memory_encoder.positions)] == 1e-3


def test_backbones_keep_their_batch_statistics(model):
    train_mode(model)
    assert model.training
    assert model.audio.memory_encoder.training
    assert not model.audio.backbone.training
