"""Train a captioner: `python train.py --config configs/flickr8k.yaml data.root=PATH`.

On several GPUs, the same with `accelerate launch train.py ...`, and on several nodes or CPU
processes with `torchrun` (configs/accelerate). A run that was stopped, by whatever, goes on with
`--resume` and ends as if it had not been. From top to bottom: data, tokenizer and model; then,
stage by stage and epoch by epoch, the steps, a validation, the best checkpoint and the state to
resume from.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.parser import Parser
from captioner.cli.process import notify, run_command
from captioner.cli.recipes import config_path
from captioner.config import Config, load_config
from captioner.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from captioner.training.signals import Signals


def main(argv: list[str] | None = None, *, prog: str = "train.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "train.py") -> argparse.Namespace:
    """Return the arguments; exit with status 2 if they are wrong."""
    parser = Parser(prog=prog, description=__doc__.splitlines()[0], settings=True)
    parser.add_argument(
        "--config", help="a YAML file, or the name of one in configs; without it, the defaults"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument("--force", action="store_true", help="resume with other settings or data")
    parser.add_argument("--check", action="store_true", help="only learn a few images by heart")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that differ")
    args = parser.parse(argv)
    for name in ("resume", "force"):
        if args.check and getattr(args, name):
            parser.error(f"--{name} cannot be used with --check, which starts no run")
    if args.force and not args.resume:
        parser.error("--force needs --resume")
    return args


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; returns the exit status."""
    from captioner.training.signals import Signals, Stopped

    path = None if args.config is None else config_path(args.config)
    config = load_config(path, args.overrides)
    if args.check:
        return check(config)
    try:
        with Signals() as signals:
            train(config, resume=args.resume, force=args.force, signals=signals)
    except Stopped as stop:
        notify(stop)
        return stop.status
    except KeyboardInterrupt:
        notify("stopped; --resume goes on from the last state")
        raise
    return 0


def check(config: Config) -> int:
    """Print what a run would stumble over; returns the exit status."""
    from captioner.training.preflight import preflight

    status = 0
    for finding in preflight(config, print):
        status = status if finding.fine else 1
        print(f"{'ok   ' if finding.fine else 'WRONG'} {finding.name}: {finding.detail}")
    return status


def train(
    config: Config, *, resume: bool = False, force: bool = False, signals: Signals | None = None
) -> dict[str, float]:
    """Run all stages; returns the best checkpoint's validation scores.

    Where `signals` has noted one, the state is saved after the step, and Stopped raised.
    """
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from captioner import checkpoint
    from captioner.data.collate import collate
    from captioner.data.report import UNREADABLE_IMAGE
    from captioner.data.sampler import EpochBatches
    from captioner.data.splits import digest, read_rows
    from captioner.training import distributed, run_state, setup, validation
    from captioner.training import stage as stages
    from captioner.training.calibrate import fit_answer_temperature
    from captioner.training.compile import compile_parts
    from captioner.training.cost_estimate import plan_stage
    from captioner.training.data_report import describe_data
    from captioner.training.ema import MovingAverage
    from captioner.training.features import use_cached_features
    from captioner.training.html_report import CAPTIONS, LOG, REPORT, add_rows, write_report
    from captioner.training.loss import CaptionReward, Objective
    from captioner.training.optimizer import build_optimizer, set_learning_rate
    from captioner.training.signals import BadSteps, Stopped

    settings = config.train
    output = Path(settings.output)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    # Data, tokenizer, model.
    tasks, train_rows, val_rows, report = read_rows(config)
    model, tokenizer, config = setup.build_start(config, train_rows)
    train_set, val_set = setup.build_datasets(config, tasks, train_rows, val_rows, tokenizer)

    # A step on captions uses no part that is there for questions.
    accelerator = distributed.start(settings, unused=model.question_encoder is not None)
    main_process = accelerator.is_main_process
    rank, world = accelerator.process_index, accelerator.num_processes

    def say(message: str) -> None:
        if main_process and message:
            tqdm.write(message, file=sys.stderr)

    model.to(accelerator.device, memory_format=distributed.memory_format(accelerator))
    if settings.compile:
        compile_parts(model)
    average = MovingAverage(model, settings.ema)
    say(distributed.precision_warning(settings.precision))
    say(setup.describe_run(config, tasks, model, train_set, val_set, world))
    if main_process:
        say("\n".join(describe_data(config, tasks, train_set, val_set, report)))
        setup.make_output(output)
    accelerator.init_trackers("logs")

    progress, saved = run_state.Progress(), None
    data, states = digest(train_rows, val_rows), output / "states"
    # Of several nodes, torchrun counts the restarts of each.
    anew = distributed.any_rank(accelerator, distributed.restarted())
    anew = anew and distributed.any_rank(accelerator, main_process and run_state.begun(states))
    if resume or anew:
        saved = run_state.SavedState(states, config, tokenizer, data, force=force, ranks=world)
        saved.restore_model(model, average)
        progress = saved.progress
        say("\n".join(saved.passed_over))
        if run_state.is_complete(progress, settings, output / REPORT):
            say(f"no steps are left: the run is complete; checkpoint in {output / 'best'}")
            accelerator.end_training()
            return checkpoint.best_scores(output / "best")
        say(
            f"resuming after epoch {progress.epoch} of stage {progress.stage}"
            + f" and {progress.batch} batches" * bool(progress.batch)
        )
    elif main_process:
        run_state.set_aside(states)
        for name in (LOG, REPORT):
            (output / name).unlink(missing_ok=True)

    def save() -> None:
        tensors = run_state.gather_state(model, average, optimizer, keep=main_process)
        if main_process:
            try:
                run_state.save_state(
                    states,
                    tensors,
                    config=config,
                    tokenizer=tokenizer,
                    data=data,
                    progress=progress,
                    average=average,
                    scaler=accelerator.scaler and accelerator.scaler.state_dict(),
                    ranks=world,
                )
            except CheckpointError as error:
                say(f"warning: {error}")  # there may be room again at the next
        accelerator.wait_for_everyone()

    def stop_asked() -> str:
        name = signals.name if signals else ""
        # A signal may have reached only some.
        return (name or "SIGTERM") if distributed.any_rank(accelerator, bool(name)) else ""

    def stop_encoding() -> None:
        if stop := stop_asked():
            how = "--resume" if number else "the same command"
            raise Stopped(stop, f"the features so far are kept; {how} goes on from them")

    def over_ranks(total: torch.Tensor | float) -> float:
        return accelerator.reduce(torch.as_tensor(total, device=accelerator.device), "mean").item()

    bad = BadSteps(settings.bad_steps)

    def judge(epoch: int) -> dict[str, float]:
        """The scores of the moving average, which is kept if it is the best so far."""
        with average.applied(model), prepared.full_model() as plain:
            result = validation.validate(
                plain,
                val_set,
                tasks,
                tokenizer=tokenizer,
                config=config,
                accelerator=accelerator,
                report=report,
            )
            scores, captions = result.scores, result.captions
            say("\n".join(f"warning: {warning}" for warning in result.warnings))
            better = scores["score"] > progress.best
            progress.stale = 0 if better else progress.stale + 1
            # On a handful of images CIDEr-D is 0 throughout: then the latest is kept.
            if better or scores["score"] == progress.best == 0:
                progress.best = scores["score"]
                record = {"stage": number, "epoch": epoch, "val": scores}
                if reward:
                    record["reward"] = reward.describe()
                if main_process:
                    checkpoint.save_best(output / "best", config, tokenizer, plain, record)
                    add_rows(output / CAPTIONS, captions, anew=True)
        return scores

    def note(epoch: int, seconds: float, log: dict[str, float]) -> None:
        accelerator.log(log, step=progress.step)
        values = "  ".join(f"{name} {value:.4g}" for name, value in log.items())
        say(f"stage {number} epoch {epoch} ({seconds:.0f} s): {values}")
        if main_process:
            add_rows(output / LOG, [{"stage": number, "epoch": epoch} | log])

    for number in range(progress.stage, len(settings.stages)):
        stage = settings.stages[number]
        if number > progress.stage:
            progress.stage, progress.epoch, progress.batch, progress.stale = number, 0, 0, 0
            torch.manual_seed(hash((settings.seed, number)))  # of new adapters
            checkpoint.load_best(output / "best", model)
            average.reset(model)
        elif run_state.is_stage_finished(progress, settings):
            continue
        stages.start_stage(stage, config, model, train_set, val_set)
        batches = EpochBatches(
            [train_set.select_images(number) for number in range(len(tasks))],
            settings.batch_size,
            weights=stages.source_weights(stage, tasks),
            seed=settings.seed,
            rank=rank,
            world=world,
        )
        if stage.epochs:
            stages.check_stage(stage, number, model, len(batches), tasks)
        if stage.cached_views:
            use_cached_features(
                model.backbone, train_set, val_set, stage, config, accelerator, stop_encoding
            )
        optimizer = build_optimizer(model, settings, stage)
        reward = None
        if stage.objective == "scst":
            reward = CaptionReward(train_set.group_captions(), tokenizer, bleu=stage.bleu)
            say(f"stage {number}: the reward is {reward.describe()}")
        objective = Objective(
            stage,
            smoothing=settings.label_smoothing,
            max_length=config.decoding.max_length,
            reward=reward,
        )
        prepared = distributed.Prepared(accelerator, model, optimizer)
        model, wrapped, optimizer = prepared.model, prepared.wrapped, prepared.optimizer
        average.place_like(model)
        if saved and (progress.epoch or progress.batch):
            saved.restore_optimizer(model, optimizer)
        if saved and saved.scaler and accelerator.scaler:
            accelerator.scaler.load_state_dict(saved.scaler)
        saved = None

        to_batch = partial(collate, question_pad=tokenizer.question_tokenizer.pad)
        loader = DataLoader(
            train_set,
            batch_sampler=batches,
            collate_fn=to_batch,
            num_workers=config.data.workers,
            pin_memory=accelerator.device.type == "cuda",
        )
        steps = stage.epochs * len(batches)
        before = sum(s.epochs for s in settings.stages[:number])
        batches.epoch = before + progress.epoch
        if settings.validate_start and number == progress.step == progress.epoch == 0:
            started, scores = time.perf_counter(), judge(-1)
            note(-1, time.perf_counter() - started, scores)
        plan = None
        if stage.epochs:
            plan = plan_stage(objective, prepared, train_set, batches, accelerator)
        if plan:
            left = stage.epochs - progress.epoch
            say(f"stage {number}: {plan.line(left, settings.batch_size)}")

        for epoch in range(progress.epoch, stage.epochs):
            if progress.stale >= settings.patience:
                say(f"no better validation in {settings.patience} evaluations: stage ends")
                break
            started, texts = time.perf_counter(), 0
            sums = defaultdict(lambda: [0.0, 0], progress.sums)
            batches.epoch, batches.skip = before + epoch, progress.batch
            # No step spans two epochs, or two runs: states are saved between steps.
            accelerator.step = 0
            model.zero_grad()
            stages.train_mode(model)
            bar = tqdm(
                loader,
                f"stage {number} epoch {epoch}",
                initial=progress.batch,
                leave=False,
                disable=not main_process,
            )
            for i, batch in enumerate(bar, progress.batch):
                validation.report_unreadable(batch.unreadable, train_set, report)
                readable = batch.images is not None
                if not distributed.any_rank(accelerator, readable):
                    continue
                if not readable:  # the other ranks take a step, which needs all
                    batch = to_batch([train_set.make_blank(batch.unreadable[0])])
                # Dropout, too, is a function of where the run stands, not of how it got there.
                torch.manual_seed(hash((settings.seed, number, epoch, i, rank)))
                batch = batch.to(accelerator.device)
                set_learning_rate(optimizer, stage, step=epoch * len(batches) + i, steps=steps)
                if i + 1 == len(batches):
                    accelerator.step = -1  # the next count is 0, at which Accelerate steps
                with accelerator.accumulate(wrapped):
                    with accelerator.autocast():
                        found = objective(wrapped, batch, full_model=prepared.full_model)
                        found = found if readable else found.zeroed()
                    # The mean over the tokens of all ranks, whose gradients are averaged.
                    loss = found.total * world / accelerator.reduce(found.tokens)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(model.parameters(), settings.clip)
                        norm = float(distributed.gathered(norm))
                        # With fp16 the scaler leaves such steps out, and tries a smaller scale.
                        if accelerator.scaler is None and bad.is_bad(norm):
                            say(f"step {progress.step}: the gradient is not finite; left out")
                            optimizer.zero_grad()
                    optimizer.step()
                    optimizer.zero_grad()
                texts += found.texts
                kind = found.kind
                if len(tasks) > 1:
                    kind = f"{tasks[batch.source].name} {kind}"
                value = loss.detach() if found.reward is None else found.reward
                sums[kind] = [sums[kind][0] + value, sums[kind][1] + 1]
                if i % 10 == 0:
                    bar.set_postfix({kind: f"{value.item():.3f}"})
                progress.batch = i + 1
                if accelerator.sync_gradients:
                    average.update(model)
                    progress.step += 1
                    stop = stop_asked()
                    if stop or progress.step % settings.save_every == 0:
                        progress.sums = {k: [over_ranks(s), n] for k, (s, n) in sums.items()}
                        save()
                    if stop:
                        raise Stopped(stop)
            seconds = time.perf_counter() - started
            if not sums:
                problems = "; ".join(report.summary().splitlines())
                raise DataError(f"{config.data.roots}: no training image can be used: {problems}")
            progress.epoch, progress.batch, progress.sums = epoch + 1, 0, {}
            # All ranks have met the same sources in the same order.
            log = {kind: over_ranks(total) / n for kind, (total, n) in sums.items()}
            log["texts/s"] = texts * world / seconds
            log |= plan.speed(seconds, accelerator.device) if plan else {}

            if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == stage.epochs:
                log |= judge(epoch)
            note(epoch, seconds, log)
            save()
            if stop := stop_asked():
                raise Stopped(stop)
        model = prepared.end()

    if main_process and config.model.question:
        checkpoint.load_best(output / "best", model)
        val_set.features = None  # they may be another stage's
        temperature = fit_answer_temperature(
            model.to(accelerator.device), val_set, tasks, accelerator
        )
        if temperature:
            checkpoint.set_temperature(output / "best", temperature)
            say(f"answers.temperature {temperature:.3f}")
    if unreadable := report.problems.get(UNREADABLE_IMAGE):
        say(f"{UNREADABLE_IMAGE}: {unreadable}")  # the rest was reported before training
    if main_process:
        say(f"report: {write_report(output)}")
    accelerator.end_training()
    say(f"best validation score {progress.best:.4f}; checkpoint in {output / 'best'}")
    return checkpoint.best_scores(output / "best")
