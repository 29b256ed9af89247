"""The `train` command: `python train.py --config configs/finetune.yaml data.root=PATH`.

On several GPUs, start it with `accelerate launch train.py ...`; on several nodes or CPU processes,
with `torchrun` (see configs/accelerate). `--resume` continues an interrupted run, which then ends
as if it had not been interrupted. The training loop is `captioner.training.loop`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from captioner.cli.parser import Parser
from captioner.cli.process import notify, run_command
from captioner.cli.recipes import config_path
from captioner.config import Config, load_config


@dataclass(frozen=True)
class TrainOptions:
    """The arguments of the command."""

    config: str | None
    overrides: tuple[str, ...]
    resume: bool
    force: bool
    check: bool


def main(argv: list[str] | None = None, *, prog: str = "train.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "train.py") -> TrainOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(prog=prog, description="Train a captioner on a data set.", settings=True)
    add = parser.add_argument
    text = "A YAML file, or the name of a configuration of the package, such as finetune."
    add("--config", metavar="FILE", help=f"{text} Without it, the defaults apply.")
    add("--resume", action="store_true", help="Continue an interrupted run from its last state.")
    add("--force", action="store_true", help="Resume even if settings or data have changed.")
    text = "Start no run: report on the data, and overfit one batch as a test."
    add("--check", action="store_true", help=text)
    text = "Settings that differ from the configuration, such as train.batch_size=16."
    add("overrides", nargs="*", metavar="key=value", help=text)
    args = parser.parse(argv)
    for name in ("resume", "force"):
        if args.check and getattr(args, name):
            parser.error(f"--{name} cannot be used with --check, which starts no run")
    if args.force and not args.resume:
        parser.error("--force needs --resume")
    return TrainOptions(args.config, tuple(args.overrides), args.resume, args.force, args.check)


def run(options: TrainOptions) -> int:
    """Train, or check a run; return the exit status."""
    path = None if options.config is None else config_path(options.config)
    config = load_config(path, options.overrides)
    if options.check:
        return check(config)

    from captioner.training.loop import train
    from captioner.training.signals import Signals, Stopped

    try:
        with Signals() as signals, show_log():
            train(config, resume=options.resume, force=options.force, signals=signals)
    except Stopped as stop:
        notify(stop)
        return stop.status
    except KeyboardInterrupt:
        notify("stopped; --resume continues from the last state")
        raise
    return 0


def check(config: Config) -> int:
    """Print the results of the checks before a run; return the exit status."""
    from captioner.training.preflight import preflight

    status = 0
    for finding in preflight(config, print):
        status = status if finding.fine else 1
        print(finding)
    return status


class _ProgressBarHandler(logging.Handler):
    """Writes records to the current `sys.stderr`, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        warning = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(warning + self.format(record), file=sys.stderr)


@contextmanager
def show_log() -> Iterator[None]:
    """Show the log of the training on stderr within the block."""
    logger, handler = logging.getLogger("captioner.training"), _ProgressBarHandler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
