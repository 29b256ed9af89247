"""The state of a training run, and how it is built and resumed."""

from __future__ import annotations

import importlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import Config, TrainConfig
from captioner.config.stage_graph import stage_names
from captioner.data import Report
from captioner.data.dataset import ImageDataset
from captioner.data.provenance import read_provenance
from captioner.data.row_digest import digest_rows
from captioner.data.splits import Task, read_splits
from captioner.errors import CheckpointError, ConfigError
from captioner.extras import explain_missing
from captioner.images.transforms import PixelSpec
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training import distributed, html_report, run_state, setup
from captioner.training.compile import compile_parts
from captioner.training.data_report import describe_data
from captioner.training.ema import MovingAverage
from captioner.training.optimizer import penalty_warning
from captioner.training.public_model import CaptionModel, CaptionTokenizer, PublicModel
from captioner.training.signals import BadSteps, Signals
from captioner.training.stage import source_weights
from captioner.training.stage_results import STAGES, stage_size
from captioner.training.teacher import Teacher, load_teacher
from captioner.training.teacher_captions import add_teacher_captions
from captioner.training.wide_depthwise import run_wide_depthwise_in_float32

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """Everything that the functions of the training loop share."""

    config: Config
    """The configuration, completed by what the data and the model determine."""
    tasks: list[Task]
    train_set: ImageDataset
    val_set: ImageDataset
    report: Report
    """Rows that are not used and images that cannot be decoded."""
    data: str
    """Digest of the rows."""
    accelerator: Accelerator
    model: CaptionModel
    tokenizer: CaptionTokenizer
    average: MovingAverage
    bad_steps: BadSteps
    provenance: list[dict[str, Any]] = field(default_factory=list)
    """The origins of captions that a model wrote; see `read_provenance`."""
    teacher: Teacher | None = None
    signals: Signals | None = None
    progress: run_state.Progress = field(default_factory=run_state.Progress)
    saved: run_state.SavedState | None = None
    """The state that the run resumes from, until the first stage is prepared."""

    @property
    def settings(self) -> TrainConfig:
        """The section `train` of the configuration."""
        return self.config.train

    @property
    def output(self) -> Path:
        """The folder of the run."""
        return Path(self.settings.output)

    @property
    def names(self) -> list[str]:
        """The names of the stages."""
        return stage_names(self.settings.stages)

    @property
    def sized_config(self) -> Config:
        """The configuration with the present image size."""
        spec = self.val_set.spec
        return (
            setup.at_size(self.config, spec.size[0]) if isinstance(spec, PixelSpec) else self.config
        )

    @property
    def best(self) -> Path:
        """The folder of the best checkpoint."""
        return self.output / "best"

    @property
    def states(self) -> Path:
        """The folder of the states to resume from."""
        return self.output / "states"

    @property
    def is_main(self) -> bool:
        """True if this process is the one that writes files."""
        return bool(self.accelerator.is_main_process)

    def save(self, optimizer: torch.optim.Optimizer) -> None:
        """Save the state to resume from; all ranks must call this."""
        tensors = run_state.gather_state(self.model, self.average, optimizer, keep=self.is_main)
        if self.is_main:
            scaler = self.accelerator.scaler
            try:
                run_state.save_state(
                    self.states,
                    tensors,
                    config=self.config,
                    tokenizer=self.tokenizer,
                    data=self.data,
                    answers=self.train_set.texts.answers,
                    progress=self.progress,
                    average=self.average,
                    scaler=scaler and scaler.state_dict(),
                    ranks=self.accelerator.num_processes,
                )
            except CheckpointError as error:
                logger.warning(error)  # there may be room again when the next state is saved
        self.accelerator.wait_for_everyone()

    def stop_signal(self) -> str:
        """Return the name of the signal to stop at, or ""; all ranks must call this."""
        name = self.signals.name if self.signals else ""
        # The signal may have reached some of the ranks only.
        return (name or "SIGTERM") if distributed.any_rank(self.accelerator, bool(name)) else ""

    def mean_over_ranks(self, total: Tensor | float) -> float:
        """Return the mean of a number over the ranks; all ranks must call this."""
        tensor = torch.as_tensor(total, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "mean").item())


def check_export(settings: TrainConfig) -> None:
    """Raise DependencyError if the graphs cannot be written at the end of a run."""
    if settings.export != "none":
        with explain_missing(f"train.export={settings.export}"):
            importlib.import_module("captioner.export.onnx_graphs")


def start_run(config: Config, signals: Signals | None = None) -> Run:
    """Read the data, build the tokenizer and the model, and start the Accelerator."""
    settings = config.train
    check_export(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    tasks, train_rows, val_rows, report = read_splits(config)
    model, tokenizer, config = setup.build_start(config, train_rows)
    setup.check_sizes(model, config)
    unused = isinstance(model, PublicModel) or has_optional_parts(model)
    accelerator = distributed.start(settings, unused=unused)
    if isinstance(model, PublicModel):
        distributed.check_whole(accelerator, str(settings.start))
    rows = add_teacher_captions(train_rows, tasks, config, accelerator, signals)
    train_set, val_set = setup.build_datasets(config, tasks, rows, val_rows, tokenizer, model=model)
    model.to(accelerator.device)
    model.to(memory_format=distributed.memory_format(accelerator))
    teacher = None
    if isinstance(model, Seq2Seq) and isinstance(tokenizer, Tokenizer):
        teacher = load_teacher(model, tokenizer, config)
    if accelerator.mixed_precision == "bf16" and accelerator.device.type == "cpu":
        # Those of the teacher too: cached features need equal backbones.
        for network in (model, *(teacher.models if teacher else ())):
            for backbone in network.backbones():
                run_wide_depthwise_in_float32(backbone)
    if settings.compile and isinstance(model, Seq2Seq):
        compile_parts(model)
    run = Run(
        config,
        tasks,
        train_set,
        val_set,
        report,
        data=digest_rows(train_rows, val_rows),
        accelerator=accelerator,
        model=model,
        tokenizer=tokenizer,
        average=MovingAverage(model, settings.ema),
        bad_steps=BadSteps(settings.bad_steps),
        provenance=read_provenance(str(source.root) for source in config.data.all_sources),
        teacher=teacher,
        signals=signals,
    )
    _describe(run)
    accelerator.init_trackers("logs")
    return run


def has_optional_parts(model: Seq2Seq) -> bool:
    """Return whether a step on captions leaves parts of a model unused."""
    return any(x is not None for x in (model.question_encoder, model.tag_head, model.audio))


def _describe(run: Run) -> None:
    """Log the size of the run and the data report; create the output folder."""
    # The other processes log errors only.
    level = logging.INFO if run.is_main else logging.ERROR
    logging.getLogger("captioner.training").setLevel(level)
    precision = distributed.precision_warning(run.settings.precision)
    for warning in filter(None, (precision, penalty_warning(run.settings))):
        logger.warning(warning)
    logger.info("\n".join(_describe_sizes(run)))
    if run.is_main:
        sets = (run.train_set, run.val_set)
        data = describe_data(run.config, run.tasks, *sets, run.report, model=run.model)
        logger.info("\n".join(data))
        try:
            run.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"train.output={run.output}: the folder cannot be created ({error.strerror});"
                " choose another"
            ) from None


def _describe_sizes(run: Run) -> Iterator[str]:
    """Yield lines on the sizes of the data and the model."""
    train, val, tasks = run.train_set, run.val_set, run.tasks
    size = sum(p.numel() for p in run.model.parameters()) / 1e6
    encoder = sum(p.numel() for p in run.model.backbone.parameters()) / 1e6
    yield (
        f"{len(train)} training and {len(val)} validation images; {len(run.tokenizer)} pieces;"
        f" {size:.1f} M parameters ({encoder:.1f} M of them the"
        f" backbone's); {run.accelerator.num_processes} process(es) x {run.settings.batch_size}"
        " images a step"
    )
    for number, task in enumerate(tasks if len(tasks) > 1 else ()):
        counts = [Counter(data.rows["source"])[number] for data in (train, val)]
        rows = f"{task.name}: {counts[0]} training and {counts[1]} validation rows"
        passes = [f"{source_weights(s, tasks)[number]:g}" for s in run.settings.stages]
        images = f"{len(train.select_images(number))} training images"
        yield f"{rows}, {images} x {', '.join(passes)}"


def resume_or_reset(run: Run, *, resume: bool, force: bool) -> None:
    """Load the newest state of the run, or set aside the files of an earlier run.

    A state is also loaded if torchrun has restarted the process. With `force`, settings or data may
    have changed. Raises CheckpointError if there is no state that this run can resume from.
    """
    accelerator = run.accelerator
    # torchrun counts the restarts of each node on its own.
    restarted = distributed.any_rank(accelerator, distributed.restarted())
    restarted = restarted and distributed.any_rank(
        accelerator, run.is_main and run_state.is_of_this_launch(run.states)
    )
    if resume or restarted:
        run.saved = run_state.SavedState(
            run.states,
            run.config,
            run.tokenizer,
            run.data,
            answers=run.train_set.texts.answers,
            force=force,
            ranks=accelerator.num_processes,
        )
        run.progress = run.saved.progress
        set_size(run, stage_size(run, run.progress.stage))
        run.saved.restore_model(run.model, run.average)
        for problem in run.saved.damaged:
            logger.info(problem)
        return
    set_size(run, stage_size(run, 0))
    if run.is_main:
        run_state.set_aside(run.states)
        shutil.rmtree(run.output / STAGES, ignore_errors=True)
        for name in (html_report.LOG, html_report.REPORT):
            (run.output / name).unlink(missing_ok=True)


def set_size(run: Run, size: int | None) -> None:
    """Give the data sets and the model an image size, if any, and reset the moving average."""
    if size is not None:
        config = setup.at_size(run.config, size)
        run.train_set.spec = run.val_set.spec = pixel_spec(config)
        setup.resize_model(run.model, config)
    run.average.reset(run.model)
