"""Build the model of a checkpoint and load its weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from captioner.build.backbones import build_audio_backbone, build_backbone, build_mobilenet
from captioner.build.models import build_model
from captioner.build.question_modules import build_answer_head
from captioner.checkpoint import CONFIG, TOKENIZER, WEIGHTS, load_answers, resolve_own_checkpoint
from captioner.checkpoint.audio_format import second_spec
from captioner.checkpoint.weights import load_strictly, load_weights, stored_feature_shape
from captioner.config import Config, QuestionConfig, load_config
from captioner.model.cpu.mobilenet import MobileNet, is_supported_mobilenet
from captioner.model.image_encoder import Backbones
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer


def load_checkpoint(
    name: str | Path, *, for_training: bool = False, question: QuestionConfig | None = None
) -> tuple[Seq2Seq, Tokenizer, Config]:
    """Load a checkpoint.

    Args:
        name: A folder, `bundled`, or `hf-hub:USER/NAME[@REVISION]`.
        for_training: Build the backbones with timm. Otherwise, a backbone that
            `captioner.model.cpu.mobilenet` supports is built without timm, whose import takes
            longer than a caption, and its batch norms are folded.
        question: Settings of new, untrained question modules for a checkpoint that has none.

    Returns:
        The model (in evaluation mode, float32, on the CPU), its tokenizer and its configuration.

    Raises:
        CheckpointError: A file is missing, damaged or does not fit the others.
        ConfigError: The configuration is invalid.
    """
    path = resolve_own_checkpoint(name, "its loading for training or as a torch model")
    config = load_config(path / CONFIG)
    new = question if config.model.question is None else None
    if new is not None:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, question=new))
    tokenizer = Tokenizer.load(path / TOKENIZER)
    state = load_weights(path / WEIGHTS)
    fast: list[MobileNet] = []
    backbones = config.model.backbones
    if not for_training and all(is_supported_mobilenet(b.name, b.args) for b in backbones):
        fast = [build_mobilenet(b) for b in backbones]
    backbone = Backbones(fast) if fast else build_backbone(config, load_weights=False)[0]
    audio = None
    if second_spec(config):
        shape = stored_feature_shape(state, path, prefix="audio.")
        audio = build_audio_backbone(config, load_weights=False), shape
    positions, channels = stored_feature_shape(state, path)
    model = build_model(
        config.model,
        backbone,
        tokenizer=tokenizer,
        channels=channels,
        positions=positions,
        audio=audio,
        checkpoint=None if new else path,
    )
    asked = config.model.question
    if asked and new is None and (answers := load_answers(path, config, tokenizer)):
        model.answer_head = build_answer_head(config.model, asked, answers)
    if new is not None:
        untrained = ("question_encoder.", "fusion.", "answerer.")
        state |= {k: v for k, v in model.state_dict().items() if k.startswith(untrained)}
    load_strictly(model, state, path)
    model.eval()
    for mobilenet in fast:
        mobilenet.fold_batch_norms()
    return model, tokenizer, config
