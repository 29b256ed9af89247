"""Training on images and recordings together: what needs both is learned from both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_audio import AUDIO
from two_input_world import QUESTION, SIDE, Scene, make_scenes, write_rows

import captioner
from captioner.config import (
    AnswerConfig,
    AudioEncoderConfig,
    BackboneConfig,
    Config,
    DataConfig,
    DecodingConfig,
    ImageConfig,
    ModelConfig,
    QuestionConfig,
    StageConfig,
    TokenizerConfig,
    TrainConfig,
)
from captioner.errors import ConfigError
from captioner.predict import Captioner
from captioner.training.loop import train

pytestmark = pytest.mark.slow
CHANCE = (0.15, 0.35)
"""Of four equally likely texts."""


def make_config(data: Path, output: Path) -> Config:
    """Return the configuration of a small model of images and recordings."""
    image = BackboneConfig("test_vit", "none", args={"img_size": SIDE})
    stage = StageConfig(epochs=24, lr=2e-3, encoder_lr=2e-3, warmup=0.1)
    return Config(
        data=DataConfig(root=str(data)),
        tokenizer=TokenizerConfig(vocab_size=300),
        image=ImageConfig(size=SIDE, mean=(0.5,) * 3, std=(0.25,) * 3, min_scale=0.9, flip=False),
        audio=replace(AUDIO, time_masks=1, frequency_masks=0),
        model=ModelConfig(
            backbones=(image,),
            audio=AudioEncoderConfig((BackboneConfig("test_vit", "none"),)),
            width=64, heads=4, ffn=128, encoder_layers=1, decoder_layers=2, max_length=24,
            dropout=0.0, question=QuestionConfig(encoder_layers=1, fusion="concat", max_length=24),
        ),
        train=TrainConfig(
            output=str(output), stages=(stage,), batch_size=32, modality_dropout=0.3,
            eval_every=6, weight_decay=0.0, label_smoothing=0.0, precision="no", tracker="none",
        ),
        decoding=DecodingConfig(beam_size=1, max_length=24),
        answers=AnswerConfig(beam_size=1, max_length=24),
    )  # fmt: skip


def share_correct(
    model: Captioner, scenes: list[Scene], *, image: bool, audio: bool
) -> list[float]:
    """Return the shares of correct captions and of correct answers with these inputs."""
    inputs = [
        captioner.Inputs(s.image if image else None, s.audio if audio else None) for s in scenes
    ]
    captions = [result.text for result in model.caption(inputs)]
    answers = [result.text for result in model.answer([(some, QUESTION) for some in inputs])]
    pairs = [
        [text == scene.caption for text, scene in zip(captions, scenes, strict=True)],
        [text == scene.answer for text, scene in zip(answers, scenes, strict=True)],
    ]
    return [sum(right) / len(scenes) for right in pairs]


def test_answers_that_need_both_inputs_are_learned_and_are_at_chance_with_one(tmp_path):
    data = tmp_path / "rows.jsonl"
    write_rows(data, make_scenes(tmp_path / "train", 192, seed=1), split="train")
    write_rows(data, make_scenes(tmp_path / "val", 32, seed=2), split="val")
    train(make_config(data, tmp_path / "run"))
    model = captioner.load(tmp_path / "run" / "best")
    scenes = make_scenes(tmp_path / "test", 200, seed=3)
    assert min(share_correct(model, scenes, image=True, audio=True)) >= 0.99
    for inputs in ({"image": True, "audio": False}, {"image": False, "audio": True}):
        for share in share_correct(model, scenes, **inputs):
            assert CHANCE[0] <= share <= CHANCE[1], inputs


@pytest.mark.parametrize(
    "change", [{"cached_views": 1, "encoder_lr": 0.0}, {"objective": "scst", "encoder_lr": 0.0}]
)
def test_what_needs_one_encoder_is_a_config_error(tmp_path, change):
    data = tmp_path / "rows.jsonl"
    write_rows(data, make_scenes(tmp_path / "train", 8, seed=1), split="train")
    write_rows(data, make_scenes(tmp_path / "val", 8, seed=2), split="val")
    config = make_config(data, tmp_path / "run")
    stages = (replace(config.train.stages[0], **change),)
    with pytest.raises(ConfigError, match="for models with one encoder"):
        train(replace(config, train=replace(config.train, stages=stages)))
