"""What a stage trains, and how it augments its images."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from small_models import small_model, train_small_tokenizer

from captioner.config import Config, ImageConfig, SourceConfig, StageConfig
from captioner.data.dataset import Augmentation
from captioner.data.splits import Task
from captioner.errors import ConfigError
from captioner.training.stage import check_stage, start_stage

CONFIG = Config(image=ImageConfig(min_scale=0.4, jitter=0.3))


@pytest.fixture(scope="module")
def tokenizer():
    return train_small_tokenizer()


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (StageConfig(), Augmentation(min_scale=0.4, flip=True, jitter=0.3)),
        (StageConfig(min_scale=0.8), Augmentation(min_scale=0.8, flip=True, jitter=0.3)),
        (StageConfig(jitter=0), Augmentation(min_scale=0.4, flip=True, jitter=0)),
        (StageConfig(jitter=0.1, augment=False), None),
    ],
)
def test_stage_may_set_its_own_augmentation(tokenizer, stage, expected):
    train, val = SimpleNamespace(features="old"), SimpleNamespace(features="old")
    start_stage(stage, CONFIG, small_model(tokenizer), train, val)
    assert train.augmentation == expected
    assert train.features is val.features is None


def test_self_critical_stage_must_train_captions(tokenizer):
    tasks = [Task("a", SourceConfig("a"), "captions"), Task("b", SourceConfig("b"), "questions")]
    model = small_model(tokenizer)
    check_stage(StageConfig(objective="scst", weights=(1, 0)), 0, model, 3, tasks)
    with pytest.raises(ConfigError, match=r"stages\.2: objective=scst.*no captions"):
        check_stage(StageConfig(objective="scst", weights=(0, 1)), 2, model, 3, tasks)
