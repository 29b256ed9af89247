"""The training loop: `train` -> `run_stage` -> `run_epoch` -> `training_step`.

A run has stages (for example: train the decoder, fine-tune the backbone, self-critical training),
a stage has epochs, and an epoch has steps. A stage starts from the result of an earlier one, or
from the average of checkpoints of several. After an epoch, the moving average of the weights is
validated and kept if it is the best so far, and the state to resume from is saved. A resumed run
ends bit for bit where an uninterrupted one ends: all randomness of a step depends on its position
in the run only. `Run` and `Stage`, the states of a run and of a stage, are in `training.run` and
`training.stage_setup`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from captioner import checkpoint
from captioner.config import Config
from captioner.data.collate import Batch
from captioner.errors import DataError
from captioner.training import html_report, run_state
from captioner.training.accumulation import (
    Microbatch,
    has_weights,
    share_steps,
    usable_batches,
)
from captioner.training.averaging import average_stages
from captioner.training.cost_estimate import estimate_cost
from captioner.training.distributed import gather_tensor
from captioner.training.finish import finish_run
from captioner.training.loss import Loss
from captioner.training.optimizer import set_learning_rate
from captioner.training.run import Run, resume_or_reset, set_size, start_run
from captioner.training.signals import Signals, Stopped
from captioner.training.stage import train_mode
from captioner.training.stage_results import (
    START,
    begin_from_result,
    prune_checkpoints,
    save_result,
    stage_size,
)
from captioner.training.stage_setup import Stage, prepare_stage
from captioner.training.validation import describe_scores, validate

logger = logging.getLogger(__name__)


@dataclass
class Totals:
    """Sums over the batches of an epoch."""

    sums: dict[str, tuple[Tensor | float, float]]
    """For each logged quantity: the sum of its values, and their number."""
    texts: int = 0
    started: float = field(default_factory=time.perf_counter)

    def add(self, name: str, value: Tensor, texts: int) -> None:
        """Add the value of one batch."""
        total, count = self.sums.get(name, (0.0, 0))
        self.sums[name] = (total + value, count + 1)
        self.texts += texts

    def means(self, run: Run) -> dict[str, float]:
        """Return the mean of each quantity over all batches and ranks; all ranks must call this."""
        # All ranks have met the same data sets in the same order.
        return {k: run.mean_over_ranks(total) / n for k, (total, n) in self.sums.items()}


def train(
    config: Config, *, resume: bool = False, force: bool = False, signals: Signals | None = None
) -> dict[str, float]:
    """Run all stages and write the best checkpoint and the report.

    Args:
        config: The configuration of the run.
        resume: Continue from the newest saved state.
        force: Resume even if settings or data have changed.
        signals: Records received signals; the run stops after the first one.

    Returns:
        The validation scores of the best checkpoint.

    Raises:
        CaptionerError: The configuration, the data or a checkpoint cannot be used, or the gradient
            is not finite for too many steps in a row.
        Stopped: A signal was received, and the state has been saved.
    """
    run = start_run(config, signals)
    resume_or_reset(run, resume=resume, force=force)
    progress, stages, resumed = run.progress, run.settings.stages, run.saved is not None
    if resumed:
        if run_state.is_complete(progress, run.settings, run.output / html_report.REPORT):
            logger.info(f"no steps are left: the run is complete; checkpoint in {run.best}")
            run.accelerator.end_training()
            return checkpoint.best_scores(run.best)
        batches = f" and {progress.batch} batches" if progress.batch else ""
        name = run.names[progress.stage]
        logger.info(f"resuming after epoch {progress.epoch} of stage {name}{batches}")
    for number in range(progress.stage, len(stages)):
        if number > progress.stage:
            begin_stage(run, number)
        elif resumed and run_state.is_stage_finished(progress, run.settings):
            continue
        run_stage(run, number)
    for number in range(len(stages)):  # an interrupted run may not have come to it
        prune_checkpoints(run, number)
    return finish_run(run)


def begin_stage(run: Run, number: int) -> None:
    """Set the image size of a stage, and load its start into the model: a result or an average."""
    progress = run.progress
    progress.stage, progress.epoch, progress.batch, progress.stale = number, 0, 0, 0
    torch.manual_seed(hash((run.settings.seed, number)))  # new LoRA adapters are random
    set_size(run, stage_size(run, number))
    if run.settings.stages[number].average:
        average_stages(run, number)
    else:
        begin_from_result(run, number)
    run.average.reset(run.model)


def run_stage(run: Run, number: int) -> None:
    """Train one stage, until its last epoch or until validation stops improving."""
    progress, patience = run.progress, run.settings.patience
    stage = prepare_stage(run, number)
    is_new = number == progress.epoch == progress.step == 0
    if run.settings.validate_start and is_new:
        started = time.perf_counter()
        scores = validate_average(run, stage, epoch=-1)
        log_epoch(run, stage, -1, time.perf_counter() - started, scores)
    if stage.config.epochs:
        stage.estimate = estimate_cost(
            stage.objective, stage.prepared, run.train_set, stage.batches, run.accelerator
        )
    if stage.estimate:
        left = stage.config.epochs - progress.epoch
        logger.info(f"stage {stage.name}: {stage.estimate.describe(left, run.settings.batch_size)}")
    for epoch in range(progress.epoch, stage.config.epochs):
        if progress.stale >= patience:
            logger.info(f"no better validation in {patience} evaluations: stage ends")
            break
        run_epoch(run, stage, epoch)
    if not stage.config.epochs:
        run.save(stage.prepared.optimizer)
    run.model = stage.prepared.end()


def run_epoch(run: Run, stage: Stage, epoch: int) -> None:
    """Train one epoch, or what is left of it; then validate and save the state."""
    accelerator, progress = run.accelerator, run.progress
    totals = Totals({name: (total, n) for name, (total, n) in progress.sums.items()})
    # Steps never span two epochs or two runs: the state is saved between steps.
    accelerator.step = 0
    run.model.zero_grad()
    train_mode(run.model)
    with load_epoch(run, stage, epoch) as bar:
        batches = usable_batches(run, stage, bar)
        if run.settings.accumulate > 1 and has_weights(run.train_set.rows):
            size, pad = run.settings.accumulate, run.tokenizer.pad
            batches = share_steps(batches, accelerator, size=size, pad=pad)
        for part in batches:
            loss, value = training_step(run, stage, part, epoch)
            task = run.tasks[part.batch.source].name
            name = f"{task} {loss.kind}" if len(run.tasks) > 1 else loss.kind
            totals.add(name, value, loss.texts)
            if part.number % 10 == 0:
                bar.set_postfix({name: f"{value.item():.3f}"})
            progress.batch = part.number + 1
            if accelerator.sync_gradients:
                run.average.update(run.model)
                progress.step += 1
                save_or_stop(run, stage, totals)
    finish_epoch(run, stage, epoch, totals)


def training_step(run: Run, stage: Stage, part: Microbatch, epoch: int) -> tuple[Loss, Tensor]:
    """Run one batch forward and backward; take an optimizer step if accumulation is complete.

    `epoch` counts within the stage. Returns the loss, and the value to log: the loss per token, or
    the reward.
    """
    i = part.number
    accelerator, optimizer = run.accelerator, stage.prepared.optimizer
    rank, world = accelerator.process_index, accelerator.num_processes
    # Dropout must not depend on whether the run was resumed.
    torch.manual_seed(hash((run.settings.seed, stage.number, epoch, i, rank)))
    batch = part.batch.to(accelerator.device)
    in_epoch = len(stage.batches)
    step, steps = epoch * in_epoch + i, stage.config.epochs * in_epoch
    set_learning_rate(optimizer, stage.config, step=step, steps=steps)
    if i + 1 == in_epoch:
        accelerator.step = -1  # Accelerate adds 1 and takes a step at 0
    with accelerator.accumulate(stage.prepared.wrapped):
        with accelerator.autocast():
            loss = stage.objective(
                stage.prepared.wrapped, batch, full_model=stage.prepared.full_model
            )
            loss = loss if part.counts else loss.zeroed()
        # The mean over the tokens of all ranks, since the gradients of the ranks are averaged.
        per_token = loss.total * world / accelerator.reduce(loss.tokens)
        accelerator.backward(per_token if part.share is None else per_token * part.share)
        if accelerator.sync_gradients:
            clip_gradient(run, stage)
        optimizer.step()
        optimizer.zero_grad()
    return loss, per_token.detach() if loss.reward is None else loss.reward


def clip_gradient(run: Run, stage: Stage) -> None:
    """Clip the norm of the gradient; drop the gradient if it is not finite."""
    norm = run.accelerator.clip_grad_norm_(run.model.parameters(), run.settings.clip)
    norm = float(gather_tensor(norm))
    # With fp16, the gradient scaler skips such steps and lowers its scale.
    if run.accelerator.scaler is None and run.bad_steps.record(norm):
        logger.info(f"step {run.progress.step}: the gradient is not finite; step skipped")
        stage.prepared.optimizer.zero_grad()


def save_or_stop(run: Run, stage: Stage, totals: Totals) -> None:
    """Save the state every `save_every` steps and at a signal; at a signal, raise Stopped."""
    stop = run.stop_signal()
    if stop or run.progress.step % run.settings.save_every == 0:
        sums = totals.sums.items()
        run.progress.sums = {k: [run.mean_over_ranks(total), n] for k, (total, n) in sums}
        run.save(stage.prepared.optimizer)
    if stop:
        raise Stopped(stop)


def finish_epoch(run: Run, stage: Stage, epoch: int, totals: Totals) -> None:
    """Validate if it is due, log the epoch and save the state."""
    progress, settings = run.progress, run.settings
    seconds = time.perf_counter() - totals.started
    if not totals.sums:
        problems = "; ".join(run.report.summary().splitlines())
        raise DataError(f"{run.config.data.roots}: no training image can be used: {problems}")
    if epoch + 1 == stage.config.epochs:
        run.bad_steps.check_end(len(stage.batches))
    progress.epoch, progress.batch, progress.sums = epoch + 1, 0, {}
    log = totals.means(run)
    log["texts/s"] = totals.texts * run.accelerator.num_processes / seconds
    if stage.estimate:
        log |= stage.estimate.measure_speed(seconds, run.accelerator.device)
    if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == stage.config.epochs:
        log |= validate_average(run, stage, epoch)
    log_epoch(run, stage, epoch, seconds, log)
    run.save(stage.prepared.optimizer)
    prune_checkpoints(run, stage.number)
    if stop := run.stop_signal():
        raise Stopped(stop)


def validate_average(run: Run, stage: Stage, epoch: int) -> dict[str, float]:
    """Return the scores of the moving average, and save it if it is one of the best so far."""
    with run.average.applied(run.model), stage.prepared.full_model() as model:
        result = validate(model, run, stage.config)
        for warning in result.warnings:
            logger.warning(warning)
        reward = stage.objective.reward
        details: dict[str, Any] = {"reward": reward.describe()} if reward else {}
        name = START if epoch < 0 else f"{epoch:04}"
        save_result(run, stage.number, name, model, result, epoch=epoch, **details)
    return result.scores


def log_epoch(run: Run, stage: Stage, epoch: int, seconds: float, log: dict[str, float]) -> None:
    """Log an epoch to the tracker, to the terminal and to the log file of the run."""
    run.accelerator.log(log, step=run.progress.step)
    logger.info(f"stage {stage.name} epoch {epoch} ({seconds:.0f} s): {describe_scores(log)}")
    if run.is_main:
        row = {"stage": stage.number, "name": stage.name, "epoch": epoch} | log
        html_report.log_row(run.output / html_report.LOG, row)


def load_epoch(run: Run, stage: Stage, epoch: int) -> tqdm[Batch]:
    """Return the batches of an epoch that are left, with a progress bar."""
    stage.batches.epoch = stage.epochs_before + epoch
    stage.batches.skip = run.progress.batch
    loader = DataLoader(
        run.train_set,
        batch_sampler=stage.batches,
        collate_fn=stage.collate,
        num_workers=run.config.data.workers,
        pin_memory=run.accelerator.device.type == "cuda",
    )
    title = f"stage {stage.name} epoch {epoch}"
    start, hidden = run.progress.batch, not run.is_main
    return tqdm(loader, title, initial=start, leave=False, disable=hidden)
