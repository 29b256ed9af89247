#!/usr/bin/env python
"""Train a captioner: `python train.py --config configs/flickr8k.yaml data.root=PATH`.

On several GPUs, the same with `accelerate launch train.py ...`. A stopped run goes on with
`--resume`. From top to bottom: data, tokenizer and model; then, stage by stage and epoch by
epoch, the steps, a validation, the best checkpoint and the state to resume from.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from captioner.cli import guarded
from captioner.config import Config, load_config
from captioner.errors import DataError

PROG = "train.py"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="a YAML file; without it, the defaults")
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that differ")
    return guarded(run, parser.parse_intermixed_args(argv), PROG)


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; returns the exit status."""
    try:
        train(load_config(args.config, args.overrides), resume=args.resume)
    except KeyboardInterrupt:
        print(f"{PROG}: stopped; --resume goes on after the last whole epoch", file=sys.stderr)
        raise
    return 0


def train(config: Config, *, resume: bool = False) -> dict[str, float]:
    """Run all stages; returns the best checkpoint's validation scores."""
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from captioner.data.collate import collate, decoder_input
    from captioner.data.sampler import EpochBatches
    from captioner.infer import sample_captions
    from captioner.tokenizer import PAD
    from captioner.training import checkpoint, setup
    from captioner.training.calibrate import fit_answer_temperature
    from captioner.training.evaluate import validate
    from captioner.training.features import use_cached_features
    from captioner.training.optimizer import (
        MovingAverage,
        build_optimizer,
        caption_loss,
        set_learning_rate,
    )
    from captioner.training.scst import CiderReward, self_critical_loss

    settings = config.train
    output = Path(settings.output)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    # Data, tokenizer, model.
    tasks, train_rows, val_rows, report = setup.read_rows(config)
    model, tokenizer, config = setup.build_start(config, train_rows)
    train_set, val_set = setup.build_datasets(config, tasks, train_rows, val_rows, tokenizer)

    accelerator = Accelerator(
        mixed_precision=settings.precision,
        gradient_accumulation_steps=settings.accumulate,
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_dir=output,
        # Otherwise Accelerate takes each of several CPU processes for the only one.
        cpu=not torch.accelerator.is_available(),
        # A step on captions uses no part that is there for questions.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=model.question_encoder is not None)
        ],
    )
    main_process = accelerator.is_main_process
    rank, world = accelerator.process_index, accelerator.num_processes

    def say(message: str) -> None:
        if main_process and message:
            tqdm.write(message, file=sys.stderr)

    model.to(accelerator.device, memory_format=torch.channels_last)
    average = MovingAverage(model, settings.ema)
    say(setup.describe(config, tasks, model, train_set, val_set, world))
    say(report.summary())
    if main_process:
        setup.make_output(output)
    accelerator.init_trackers("logs")

    progress, saved = checkpoint.Progress(), None
    if resume:
        saved = checkpoint.SavedState(output / "last", config, tokenizer)
        saved.restore_model(model, average)
        progress = saved.progress
        say(f"resuming after epoch {progress.epoch} of stage {progress.stage}")

    for number in range(progress.stage, len(settings.stages)):
        stage = settings.stages[number]
        if number > progress.stage:
            progress.stage, progress.epoch, progress.stale = number, 0, 0
            checkpoint.load_best(output / "best", model)
            average.reset(model)
        elif progress.epoch >= stage.epochs:
            continue  # the resumed run had finished it
        setup.start_stage(stage, config, model, train_set, val_set)
        if stage.cached_views:
            use_cached_features(model.backbone, train_set, val_set, stage, config, accelerator)
        optimizer = build_optimizer(model, settings, stage)
        if saved and progress.epoch:
            saved.restore_optimizer(optimizer)
        saved = None
        scst = stage.objective == "scst"
        reward = CiderReward(train_set.captions(), tokenizer) if scst else None
        wrapped, optimizer = accelerator.prepare(model, optimizer)

        batches = EpochBatches(
            [train_set.of_source(number) for number in range(len(tasks))],
            settings.batch_size,
            weights=setup.source_weights(stage, tasks),
            seed=settings.seed,
            rank=rank,
            world=world,
        )
        loader = DataLoader(
            train_set,
            batch_sampler=batches,
            collate_fn=partial(collate, question_pad=tokenizer.questions.pad),
            num_workers=config.data.workers,
            pin_memory=accelerator.device.type == "cuda",
        )
        steps = stage.epochs * len(batches)
        before = sum(s.epochs for s in settings.stages[:number])

        for epoch in range(progress.epoch, stage.epochs):
            if progress.stale >= settings.patience:
                say(f"no better validation in {settings.patience} evaluations: stage ends")
                break
            started, texts, losses = time.perf_counter(), 0, defaultdict(list)
            batches.epoch = before + epoch
            # No step spans two epochs: a resumed run would have lost the first half of it.
            accelerator.step = 0
            model.zero_grad()
            setup.train_mode(model)
            bar = tqdm(
                loader, f"stage {number} epoch {epoch}", leave=False, disable=not main_process
            )
            for i, batch in enumerate(bar):
                setup.report_unreadable(batch.unreadable, train_set, report)
                if batch.images is None:
                    continue
                # Dropout, too, is a function of where the run stands, not of how it got there.
                torch.manual_seed(hash((settings.seed, number, epoch, i, rank)))
                batch = batch.to(accelerator.device)
                inputs, labels, rewards = batch.tokens, batch.labels, None
                if scst and batch.questions is None:
                    model.eval()
                    with accelerator.autocast():
                        labels = sample_captions(
                            model,
                            batch.images,
                            rows=stage.samples,
                            max_length=config.decoding.max_length,
                        )
                    setup.train_mode(model)
                    inputs = decoder_input(labels)
                    rewards = reward(labels, batch.indices).to(labels.device)
                tokens = accelerator.reduce((labels != PAD).sum())
                set_learning_rate(optimizer, stage, step=epoch * len(batches) + i, steps=steps)
                if i + 1 == len(batches):
                    accelerator.step = -1  # the next count is 0, at which Accelerate steps
                with accelerator.accumulate(wrapped):
                    logits = wrapped(batch.images, inputs, batch.questions, batch.owners)
                    if rewards is not None:
                        loss = self_critical_loss(logits, labels, rewards)
                    else:
                        loss = caption_loss(
                            logits, labels[labels != PAD], smoothing=settings.label_smoothing
                        )
                    # The mean over the tokens of all ranks, whose gradients are averaged.
                    loss = loss * world / tokens
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), settings.clip)
                    optimizer.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    average.update(model)
                    progress.step += 1
                texts += (labels[..., 0] != PAD).sum().item()
                # A policy-gradient loss says nothing of progress; the mean reward does.
                kind = "reward" if rewards is not None else "loss"
                if len(tasks) > 1:
                    kind = f"{tasks[batch.source].name} {kind}"
                losses[kind].append(loss.detach() if rewards is None else rewards.mean())
                if i % 10 == 0:
                    bar.set_postfix({kind: f"{losses[kind][-1].item():.3f}"})
            seconds = time.perf_counter() - started
            if not losses:
                problems = "; ".join(report.summary().splitlines())
                raise DataError(f"{config.data.roots}: no training image can be used: {problems}")
            progress.epoch = epoch + 1
            log = {kind: torch.stack(found).mean().item() for kind, found in losses.items()}
            log["texts/s"] = texts * world / seconds

            if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == stage.epochs:
                with average.applied(model):
                    scores = validate(
                        model,
                        val_set,
                        tasks,
                        tokenizer=tokenizer,
                        config=config,
                        accelerator=accelerator,
                        report=report,
                    )
                    better = scores["score"] > progress.best
                    progress.stale = 0 if better else progress.stale + 1
                    # On a handful of images CIDEr-D is 0 throughout: then the latest is kept.
                    if better or scores["score"] == progress.best == 0:
                        progress.best = scores["score"]
                        record = {"stage": number, "epoch": epoch, "val": scores}
                        if main_process:
                            checkpoint.save_best(output / "best", config, tokenizer, model, record)
                log |= scores
            accelerator.log(log, step=progress.step)
            say(f"stage {number} epoch {epoch} ({seconds:.0f} s): {setup.format_scores(log)}")
            if main_process:
                checkpoint.save_state(
                    output / "last",
                    config=config,
                    tokenizer=tokenizer,
                    progress=progress,
                    model=model,
                    average=average,
                    optimizer=optimizer,
                )
            accelerator.wait_for_everyone()
        model = accelerator.unwrap_model(wrapped)
        accelerator.free_memory()

    if main_process and config.model.question:
        checkpoint.load_best(output / "best", model)
        val_set.features = None  # they may be another stage's
        temperature = fit_answer_temperature(
            model.to(accelerator.device), val_set, tasks, accelerator
        )
        if temperature:
            checkpoint.set_temperature(output / "best", temperature)
            say(f"answers.temperature {temperature:.3f}")
    say(report.summary())
    accelerator.end_training()
    say(f"best validation score {progress.best:.4f}; checkpoint in {output / 'best'}")
    return checkpoint.best_scores(output / "best")


if __name__ == "__main__":
    sys.exit(main())
