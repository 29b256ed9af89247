"""Configuration and rows to what a run starts with: tokenizer, model, data sets, stages."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from captioner.build import build_backbone, build_model, feature_shape, load_checkpoint, pixel_spec
from captioner.config import Config, ModelConfig, StageConfig
from captioner.data import Report, normalize_caption, normalize_question
from captioner.data.dataset import Augmentation, ImageDataset, UnreadableImage
from captioner.data.report import UNREADABLE_IMAGE
from captioner.data.splits import Task
from captioner.errors import CheckpointError, ConfigError
from captioner.model.lora import add_adapters
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training.model_soup import mix_in
from captioner.training.optimizer import blocks_back

if TYPE_CHECKING:
    from datasets import Dataset


def make_output(folder: Path) -> None:
    """Make the run's folder; raises ConfigError where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"train.output={folder}: cannot be made a folder ({error.strerror}); name another"
        ) from None


def report_unreadable(
    unreadable: list[UnreadableImage], data: ImageDataset, report: Report
) -> None:
    """Count the images that did not decode, each once in a run, however often it is met."""
    for item in unreadable:
        report.add_once(UNREADABLE_IMAGE, item.reason, key=data.images[item.index])


def build_start(config: Config, rows: Dataset) -> tuple[Seq2Seq, Tokenizer, Config]:
    """Model and tokenizer, new or those of `train.start`, and the completed configuration."""
    if config.train.start:
        model, tokenizer, config = _build_from_checkpoint(config)
    else:
        tokenizer = Tokenizer.train(
            _texts(rows, lowercase=config.data.lowercase),
            vocab_size=config.tokenizer.vocab_size,
            kind=config.tokenizer.kind,
        )
        backbone, config = build_backbone(config)
        positions, channels = feature_shape(backbone, pixel_spec(config))
        model = build_model(
            config.model, backbone, tokenizer=tokenizer, channels=channels, positions=positions
        )
    if config.model.question is None and any(rows["question"]):
        raise ConfigError(
            "the data has questions, and the model no parts to answer them; add"
            " model.question.fusion=cross_attention to the command"
        )
    if config.model.question and config.model.question.lora_rank:
        add_adapters(model.question_encoder.model, config.model.question.lora_rank)
    return model, tokenizer, config


def _texts(rows: Dataset, *, lowercase: bool) -> Iterator[str]:
    for references, question in zip(rows["references"], rows["question"], strict=True):
        if question:
            yield normalize_question(question, lowercase=lowercase)
        # An answer that ten people gave is one word to learn, not ten.
        for text in dict.fromkeys(references) if question else references:
            yield normalize_caption(text, lowercase=lowercase)


def _build_from_checkpoint(config: Config) -> tuple[Seq2Seq, Tokenizer, Config]:
    """The checkpoint's model, tokenizer and pixels; the rest of the configuration is the run's."""
    question, blind = config.model.question, config.model.blind
    model, tokenizer, theirs = load_checkpoint(
        config.train.start, for_training=True, question=question
    )
    mix_in(model, tokenizer, theirs, config.train.soup)
    # A model section that says something else than the checkpoint would silently be ignored.
    saved, own = _without_adapters(theirs.model), _without_adapters(config.model)
    own = dataclasses.replace(own, blind=saved.blind)
    asked = dataclasses.replace(ModelConfig(), question=own.question, blind=saved.blind)
    if own not in (asked, saved) or own.question not in (None, saved.question):
        raise CheckpointError(
            f"train.start={config.train.start}: its model section differs from this run's;"
            " leave the model section out of the configuration"
        )
    model.blind = model.blind or blind
    image = dataclasses.replace(
        theirs.image,
        size=config.image.size or theirs.image.size,
        min_scale=config.image.min_scale,
        flip=config.image.flip,
        jitter=config.image.jitter,
    )
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(
            theirs.model, blind=model.blind, question=question or theirs.model.question
        ),
        tokenizer=theirs.tokenizer,
        image=image,
    )
    if image.size != theirs.image.size:
        _resize(model, config)
    return model, tokenizer, _lengthen(model, config)


def _resize(model: Seq2Seq, config: Config) -> None:
    positions, _ = feature_shape(model.backbone, pixel_spec(config))
    try:
        model.memory_encoder.resize(positions)
    except ValueError as error:
        raise ConfigError(
            f"image.size={config.image.size}: train.start={config.train.start} cannot be given"
            f" another size: {error}"
        ) from None


def _lengthen(model: Seq2Seq, config: Config) -> Config:
    """Raise the model's limits on texts to those of the run; return the completed configuration."""
    train, sizes = config.train, config.model
    try:
        if train.max_length:
            for decoder in filter(None, (model.decoder, model.answerer)):
                decoder.extend_positions(train.max_length)
            sizes = dataclasses.replace(sizes, max_length=train.max_length)
        if train.question_max_length:
            if model.question_encoder is None:
                raise ValueError("the model has no parts for questions")
            model.question_encoder.extend_positions(train.question_max_length)
            question = dataclasses.replace(sizes.question, max_length=train.question_max_length)
            sizes = dataclasses.replace(sizes, question=question)
    except ValueError as error:
        raise ConfigError(
            f"train.max_length={train.max_length},"
            f" train.question_max_length={train.question_max_length}: not with"
            f" train.start={train.start}: {error}"
        ) from None
    return dataclasses.replace(config, model=sizes)


def _without_adapters(model: ModelConfig) -> ModelConfig:
    """These are a run's own matter, and in the weights of no checkpoint."""
    question = model.question and dataclasses.replace(model.question, lora_rank=0)
    return dataclasses.replace(model, question=question)


def build_datasets(
    config: Config, tasks: list[Task], train: Dataset, val: Dataset, tokenizer: Tokenizer
) -> tuple[ImageDataset, ImageDataset]:
    """Training samples (not augmented before `start_stage`) and validation samples."""
    data, question = config.data, config.model.question
    common = {
        "spec": pixel_spec(config),
        "tokenizer": tokenizer,
        "max_length": config.model.max_length,
        "lowercase": data.lowercase,
        "seed": config.train.seed,
    }
    if question is not None:
        common["question_length"] = question.max_length
    limits = {
        "captions_per_image": data.captions_per_image,
        "questions_per_image": data.questions_per_image,
    }
    plain = [number for number, task in enumerate(tasks) if not task.source.augment]
    return (
        ImageDataset(train, **common, **limits, unaugmented=plain),
        ImageDataset(val, **common, captions_per_image=1, questions_per_image=None),
    )


def start_stage(
    stage: StageConfig,
    config: Config,
    model: Seq2Seq,
    train: ImageDataset,
    val: ImageDataset,
) -> None:
    """Freeze or free parts, and set the stage's augmentation; no kept features yet.

    Raises ConfigError for a stage of questions where the model has no parts for them.
    """
    if stage.parts == "question" and model.fusion is None:
        raise ConfigError("train.stages: parts=question, and the model has none for questions")
    for part in (model.memory_encoder, model.decoder):
        part.requires_grad_(stage.parts == "all")
    back = blocks_back(model.backbone) if stage.encoder_blocks else {}
    for name, parameter in model.backbone.named_parameters():
        last = back.get(name, 0) < (stage.encoder_blocks or 1)
        parameter.requires_grad_(bool(stage.encoder_lr) and last)
    image = config.image
    # Those of the stage before are another backbone's.
    train.features = val.features = None
    train.augmentation = (
        Augmentation(min_scale=image.min_scale, flip=image.flip, jitter=image.jitter)
        if stage.augment
        else None
    )


def train_mode(model: Seq2Seq) -> None:
    """Training mode, but for the backbone: its batch statistics stay those it came with.

    A captioning set is too small, and its steps too few images, to estimate them anew.
    """
    model.train()
    model.backbone.eval()


def describe(
    config: Config,
    tasks: list[Task],
    model: Seq2Seq,
    train: ImageDataset,
    val: ImageDataset,
    world: int,
) -> str:
    """Lines on what is about to be trained."""
    sizes = {name: _millions(part) for name, part in model.named_children()}
    lines = [
        f"{len(train)} training and {len(val)} validation images; {len(train.tokenizer)} pieces;"
        f" {sum(sizes.values()):.1f} M parameters ({sizes['backbone']:.1f} M of them the"
        f" backbone's); {world} process(es) x {config.train.batch_size} images a step"
    ]
    for number, task in enumerate(tasks if len(tasks) > 1 else ()):
        counts = [Counter(data.rows["source"])[number] for data in (train, val)]
        what = f"{task.name}: {counts[0]} training and {counts[1]} validation rows"
        passes = [f"{source_weights(s, tasks)[number]:g}" for s in config.train.stages]
        images = f"{len(train.select_images(number))} training images"
        lines.append(f"{what}, {images} x {', '.join(passes)}")
    return "\n".join(lines)


def check_stage(
    stage: StageConfig, number: int, model: Seq2Seq, batches: int, tasks: list[Task]
) -> None:
    """Raise ConfigError for a stage that would train nothing.

    Args:
        stage: The stage, whose parameters `start_stage` has frozen or freed.
        number: Its place among the stages.
        model: The model.
        batches: Batches of an epoch.
        tasks: What is learned.
    """
    where = f"train.stages.{number}"
    if not batches:
        reason = "no data set has questions" if stage.parts == "question" else "no images are left"
        raise ConfigError(f"{where}: parts={stage.parts} trains nothing: {reason}")
    if stage.objective == "scst" and all(task.asks for task in tasks):
        raise ConfigError(
            f"{where}: objective=scst is for captions, and the data has questions only"
        )
    groups = [
        (stage.lr, [part for name, part in model.named_children() if name != "backbone"]),
        (stage.encoder_lr, [] if model.blind else [model.backbone]),
    ]
    parameters = (p for rate, parts in groups if rate for part in parts for p in part.parameters())
    if not any(p.requires_grad for p in parameters):
        raise ConfigError(
            f"{where}: trains nothing: lr={stage.lr:g} and encoder_lr={stage.encoder_lr:g} leave"
            " every part of the model frozen"
        )


def source_weights(stage: StageConfig, tasks: list[Task]) -> list[float]:
    """Passes over each task's images in an epoch of a stage."""
    # Two tasks may share a source, which has one weight; and two sources may read alike.
    sources = {id(task.source): task.source.weight for task in tasks}
    weights = dict(zip(sources, stage.weights or sources.values(), strict=True))
    every = stage.parts == "all"
    return [weights[id(task.source)] if every or task.asks else 0.0 for task in tasks]


def _millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def format_scores(scores: dict[str, float]) -> str:
    """`name value` pairs on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
