"""Stages of a run: which parts of the model a stage trains, on which data, with which checks."""

from __future__ import annotations

from captioner.config import Config, StageConfig
from captioner.config.audio_section import AUDIO_AUGMENTATION
from captioner.data.dataset import Augmentation, ImageDataset
from captioner.data.recordings import AudioAugmentation
from captioner.data.splits import Task
from captioner.errors import ConfigError
from captioner.model.lora import freeze_adapted
from captioner.training.optimizer import distances_to_output, rated_parameters
from captioner.training.public_model import CaptionModel, PublicModel


def start_stage(
    stage: StageConfig, config: Config, model: CaptionModel, train: ImageDataset, val: ImageDataset
) -> None:
    """Freeze or unfreeze the parts of the model and set the augmentation of the training images.

    Cached features of an earlier stage are dropped. Raises ConfigError if the model lacks what the
    stage trains.
    """
    unfreeze(stage, model)
    model_config = config.model
    # The backbone may have changed since the features were computed.
    train.features = val.features = None
    image, audio = config.image, config.audio
    train.augmentation = train.audio_augmentation = None
    if stage.augment and model_config.audio:
        values = {name: getattr(audio, name) for name in AUDIO_AUGMENTATION}
        if stage.objective == "scst":  # rewards of two recordings cannot be mixed
            values["mixup"] = 0.0
        train.audio_augmentation = AudioAugmentation(**values)
    if stage.augment and model_config.backbones:
        train.augmentation = Augmentation(
            min_scale=image.min_scale if stage.min_scale is None else stage.min_scale,
            flip=image.flip,
            jitter=image.jitter if stage.jitter is None else stage.jitter,
        )


def unfreeze(stage: StageConfig, model: CaptionModel) -> None:
    """Freeze or unfreeze the parts of the model; raise ConfigError if it lacks some."""
    if isinstance(model, PublicModel):
        model.requires_grad_(True)
    else:
        if stage.parts == "question" and model.fusion is None:
            problem = "parts=question needs question modules; set model.question"
            raise ConfigError(f"train.stages: {problem}")
        for part in filter(None, (model.memory_encoder, model.decoder, model.audio)):
            part.requires_grad_(stage.parts == "all")
    for backbone in model.backbones():
        distances = distances_to_output(backbone) if stage.encoder_blocks else {}
        for name, parameter in backbone.named_parameters():
            is_last = distances.get(name, 0) < (stage.encoder_blocks or 1)
            parameter.requires_grad_(bool(stage.encoder_lr) and is_last)
    if isinstance(model, PublicModel) and model.has_adapters:
        freeze_adapted(model)


def train_mode(model: CaptionModel) -> None:
    """Set training mode, except for the backbone, whose batch statistics stay as they are.

    A captioning data set is too small, and its batches are too small, to estimate them again.
    """
    model.train()
    for backbone in model.backbones():
        backbone.eval()


def check_stage(
    stage: StageConfig, number: int, model: CaptionModel, batches: int, tasks: list[Task]
) -> None:
    """Raise ConfigError if a stage, after `start_stage`, has no data or no trainable parameter.

    `number` is its position among the stages, `batches` the number of batches in an epoch.
    """
    where = f"train.stages.{number}"
    if model.audio and (stage.cached_views or stage.objective == "scst"):
        setting = "cached_views" if stage.cached_views else "objective=scst"
        raise ConfigError(f"{where}: {setting} is for models with one encoder, not with two")
    trained = [tasks[n] for n in trained_tasks(stage, tasks)]
    if not batches:
        reason = "no data set has questions" if stage.parts == "question" else "no images are left"
        raise ConfigError(f"{where}: parts={stage.parts} trains nothing: {reason}")
    if stage.objective == "scst" and all(task.kind != "captions" for task in trained):
        raise ConfigError(
            f"{where}: objective=scst is for captions, and the stage trains on no captions"
        )
    # A blind model does not use its backbone.
    unused = set(model.backbone.parameters() if model.blind else ())
    if all(p in unused for _, _, p in rated_parameters(model, stage)):
        raise ConfigError(
            f"{where}: trains nothing: lr={stage.lr:g} and encoder_lr={stage.encoder_lr:g} leave"
            " every part of the model frozen"
        )


def trained_tasks(stage: StageConfig, tasks: list[Task]) -> list[int]:
    """Return the numbers of the tasks that a stage trains; only these are validated in it."""
    return [n for n, weight in enumerate(source_weights(stage, tasks)) if weight > 0]


def ranked_tasks(stage: StageConfig, tasks: list[Task]) -> list[int]:
    """Return the numbers of the tasks that rank the checkpoints of a stage.

    These are the trained ones whose source has `rank`; if there is none, all trained ones.
    """
    trained = trained_tasks(stage, tasks)
    return [n for n in trained if tasks[n].source.rank] or trained


def source_weights(stage: StageConfig, tasks: list[Task]) -> list[float]:
    """Return the number of passes over each task's images in an epoch of a stage."""
    # By identity: two tasks may share a source, and two sources may have equal settings.
    sources = {id(task.source): task.source.weight for task in tasks}
    weights = dict(zip(sources, stage.weights or sources.values(), strict=True))
    everything = stage.parts == "all"
    return [
        weights[id(task.source)] if everything or task.kind == "questions" else 0.0
        for task in tasks
    ]
