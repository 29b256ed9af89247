"""The state of the stage that is running, and how it is built."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from captioner.config import StageConfig
from captioner.data.collate import Batch, collate_for
from captioner.data.dataset import ImageDataset, Sample, UnreadableImage
from captioner.data.sampler import EpochBatches
from captioner.training import distributed
from captioner.training.cost_estimate import CostEstimate
from captioner.training.features import cached_features
from captioner.training.loss import CaptionReward, Objective
from captioner.training.optimizer import build_optimizer
from captioner.training.run import Run
from captioner.training.signals import Stopped
from captioner.training.stage import check_stage, source_weights, start_stage, trained_tasks
from captioner.training.teacher_captions import human_captions

logger = logging.getLogger(__name__)


@dataclass
class Stage:
    """The state of the stage that is running."""

    number: int
    name: str
    config: StageConfig
    epochs_before: int
    batches: EpochBatches
    """The batches of an epoch of this rank."""
    objective: Objective
    prepared: distributed.Prepared
    collate: Callable[[Sequence[Sample | UnreadableImage]], Batch]
    estimate: CostEstimate | None = None


def prepare_stage(run: Run, number: int) -> Stage:
    """Freeze what the stage does not train, and build its batches, loss and optimizer."""
    config, accelerator = run.settings.stages[number], run.accelerator
    start_stage(config, run.config, run.model, run.train_set, run.val_set)
    batches = EpochBatches(
        [run.train_set.select_images(source) for source in range(len(run.tasks))],
        run.settings.batch_size,
        weights=source_weights(config, run.tasks),
        seed=run.settings.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    if config.epochs:
        check_stage(config, number, run.model, len(batches), run.tasks)
    objective = build_objective(run, number)
    if config.cached_views:
        if objective.teacher:
            where = f"train.stages.{number}"
            objective.teacher.check_features(run.model.backbone, run.train_set.spec, where)
        cache_features(run, number, run.train_set, config.cached_views if config.augment else 1)
        cache_features(run, number, run.val_set, 1)
    optimizer = build_optimizer(run.model, run.settings, config)
    prepared = distributed.Prepared(accelerator, run.model, optimizer)
    run.model = prepared.model
    run.average.place_like(run.model)
    restore_optimizer(run, prepared.optimizer)
    to_batch = collate_for(run.tokenizer)
    before = sum(stage.epochs for stage in run.settings.stages[:number])
    batches.epoch = before + run.progress.epoch
    name = run.names[number]
    return Stage(number, name, config, before, batches, objective, prepared, to_batch)


def build_objective(run: Run, number: int) -> Objective:
    """Return the loss of a stage; self-critical training needs the captions of the images."""
    config, reward = run.settings.stages[number], None
    if config.objective == "scst":
        captions = human_captions(run.train_set)
        reward = CaptionReward(captions, run.tokenizer, bleu=config.bleu)
        logger.info(f"stage {run.names[number]}: the reward is {reward.describe()}")
    return Objective(
        config,
        smoothing=run.settings.label_smoothing,
        max_length=run.config.decoding.max_length,
        reward=reward,
        teacher=run.teacher if config.objective == "cross_entropy" else None,
        pad=run.tokenizer.pad,
    )


def restore_optimizer(run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer and the gradient scaler of the state that the run resumes from."""
    saved, scaler = run.saved, run.accelerator.scaler
    if saved and (run.progress.epoch or run.progress.batch):
        saved.restore_optimizer(run.model, optimizer)
    if saved and saved.scaler and scaler:
        scaler.load_state_dict(saved.scaler)
    run.saved = None


def cache_features(run: Run, number: int, dataset: ImageDataset, views: int) -> None:
    """Let a data set return cached features instead of pixels; see `cached_features`.

    Only the images that the stage trains on, or is validated on, are encoded.
    """
    dataset.features = cached_features(
        run.model.backbone.eval(),
        dataset,
        views=views,
        folder=Path(run.settings.cache),
        accelerator=run.accelerator,
        sources=trained_tasks(run.settings.stages[number], run.tasks),
        stop=partial(stop_encoding, run, number),
    )


def stop_encoding(run: Run, number: int) -> None:
    """Raise Stopped at a signal while images are encoded for a stage."""
    if stop := run.stop_signal():
        command = "--resume" if number else "the same command"
        raise Stopped(stop, f"the features so far are kept; {command} continues from them")
