"""Caption very many images on a cluster, or answer questions: `captioner scale IN OUT`.

IN is a folder of images, of WebDataset tars or of Parquet files, one such file, or a pattern with
wildcards or braces ("photos/{000..049}.tar"); paths and URLs such as s3://BUCKET/DIR. A Parquet
file has the column `image`: bytes, a path, or a struct with one of them. Each tar or Parquet file,
and each --chunk of the images of a folder, becomes one part in OUT/parts.

Every row is written exactly once. OUT/manifest.jsonl records each part with its SHA-256, and
OUT/run.json the options and the model. --resume continues a run that was stopped: finished parts
are checked and kept, and options, checkpoint and inputs must be the same.

Workers of Ray load the model once: one for each GPU, or one for each machine without GPUs. Without
--address and RAY_ADDRESS, Ray is started on this machine. --dry-run captions a few images here and
prints an estimate of the hours and the cost.

An image that cannot be used is a row with an error. A summary is printed as JSON.

Exit status: 0 success, 1 a shard or the run has failed, 2 wrong usage, 3 some rows have an error,
130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from captioner.cli.generate_args import add_decoding
from captioner.cli.generate_options import BATCH_SIZE, DecodingOptions
from captioner.cli.parser import Parser, add_inference, port, positive, select_options, share
from captioner.cli.process import notify, run_command, terminable
from captioner.cli.question_file import read_allowed_answers
from captioner.config.decoding_options import SAMPLING

CHUNK = 500
"""Default number of images of a folder in one part."""


@dataclass(frozen=True)
class ScaleOptions:
    """The arguments of the command."""

    source: str
    output: str
    checkpoint: list[str] | None
    backend: str
    device: str
    dtype: str | None
    tta: int
    compile: bool
    batch_size: int | None
    num_captions: int
    question: str | None
    question_column: str | None
    image_column: str
    key_column: str
    answers: str | None
    min_confidence: float | None
    decoding: DecodingOptions
    chunk: int
    recursive: bool
    format: str
    no_images: bool
    resume: bool
    verify: str
    workers: int | None
    threads: int | None
    address: str | None
    metrics_port: int | None
    metrics_host: str | None
    dry_run: bool
    price_per_hour: float | None


def main(argv: list[str] | None = None, *, prog: str = "captioner scale") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "captioner scale") -> ScaleOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(prog=prog, description=__doc__)
    parser.add_argument("source", metavar="IN", help="Images, tars or Parquet files.")
    parser.add_argument("output", metavar="OUT", help="Folder of the parts, or its URL.")
    _add_inputs(parser)
    _add_model(parser)
    add_decoding(parser)
    _add_output(parser)
    _add_workers(parser)
    values = vars(parser.parse(argv))
    values["decoding"] = select_options(DecodingOptions, values)
    options = select_options(ScaleOptions, values)
    if conflict := _find_conflict(options):
        parser.error(conflict)
    return options


def _add_inputs(parser: Parser) -> None:
    group = parser.add_argument_group("inputs")
    text = "Include files in subfolders."
    group.add_argument("--recursive", action="store_true", help=text)
    text = f"Number of images of a folder in one part. Default: {CHUNK}."
    group.add_argument("--chunk", metavar="N", type=positive, default=CHUNK, help=text)
    text = "Ask this question about each image."
    group.add_argument("--question", metavar="Q", help=text)
    text = "Ask the question in this column of Parquet files or field of the .json of tars."
    group.add_argument("--question-column", metavar="NAME", help=text)
    text = "Column of the images in Parquet files. Default: image."
    group.add_argument("--image-column", metavar="NAME", default="image", help=text)
    text = "Column of the keys in Parquet files. Default: key; without it, rows are numbered."
    group.add_argument("--key-column", metavar="NAME", default="key", help=text)
    text = "Allow only these answers. @FILE reads them from a text file, one per line."
    group.add_argument("--answers", metavar="A,B,...", help=text)
    text = "Answer `unsure` if the confidence, from 0 to 1, is below P. Default: 0."
    group.add_argument("--min-confidence", metavar="P", type=share, help=text)


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    text = (
        "A checkpoint: a folder, hf-hub:USER/NAME[@REVISION] of the Hugging Face Hub, or bundled"
        " (default). May be repeated; several form an ensemble. Each machine needs the folder."
    )
    group.add_argument("--checkpoint", metavar="DIR", action="append", help=text)
    text = f"Number of images, or of questions, in a batch. Default: {BATCH_SIZE}."
    group.add_argument("--batch-size", metavar="N", type=positive, help=text)
    add_inference(group)
    text = "Compile the decoder with torch.compile."
    group.add_argument("--compile", action="store_true", help=text)
    text = "Number of captions of each image. Default: 1."
    group.add_argument("--num-captions", metavar="N", type=positive, default=1, help=text)


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    text = "Format of the parts: Parquet (default) or WebDataset tars."
    choices = ("parquet", "webdataset")
    group.add_argument("--format", choices=choices, default="parquet", help=text)
    text = "With --format webdataset, leave out the images and other files of the input."
    group.add_argument("--no-images", action="store_true", help=text)
    group.add_argument("--resume", action="store_true", help="Continue a run that was stopped.")
    text = "What --resume compares of finished parts: their size (default) or their SHA-256."
    group.add_argument("--verify", choices=("size", "hash"), default="size", help=text)


def _add_workers(parser: Parser) -> None:
    group = parser.add_argument_group("workers")
    text = "Number of workers. Default: one for each GPU, or for each machine without GPUs."
    group.add_argument("--workers", metavar="N", type=positive, help=text)
    text = "Threads of each worker. Default: the CPUs of a machine, divided by its workers."
    group.add_argument("--threads", metavar="N", type=positive, help=text)
    text = "Address of a Ray cluster; auto is one on this machine, local a new one."
    group.add_argument("--address", metavar="HOST:PORT", help=text)
    text = "Serve Prometheus metrics on this port of this machine; 0 is any free port."
    group.add_argument("--metrics-port", metavar="PORT", type=port, help=text)
    text = (
        "Address to serve the metrics on. Default: 127.0.0.1. For a Prometheus server on another"
        " machine, an address of this one, or 0.0.0.0 for all; there is no access control."
    )
    group.add_argument("--metrics-host", metavar="HOST", help=text)
    text = "Process a sample of the images on this machine, print an estimate and write nothing."
    group.add_argument("--dry-run", action="store_true", help=text)
    text = "With --dry-run, the price of one worker for an hour."
    group.add_argument("--price-per-hour", metavar="PRICE", type=_price, help=text)


def _price(text: str) -> float:
    """Parse a price, as the `type` of a flag."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no price; expected a number of 0 or more")
    return value


_price.__name__ = "price"


def _find_conflict(options: ScaleOptions) -> str:
    """Return the first problem of options that do not fit together; empty if there is none."""
    asks = options.question is not None or options.question_column is not None
    given = options.decoding.given()
    sampling = [name for name in SAMPLING if name in given]
    others = [name for name in given if name != "beam_size"]
    question = options.question
    for problem, is_present in (
        ("--question has no letter and no digit; ask in words",
         question is not None and not any(c.isalnum() for c in question)),
        ("--question-column is empty; give the name of a column", options.question_column == ""),
        ("give --question or --question-column, not both",
         options.question is not None and options.question_column is not None),
        ("--answers needs a question", options.answers is not None and not asks),
        ("--min-confidence needs a question", options.min_confidence is not None and not asks),
        ("--num-captions applies to captions only", options.num_captions > 1 and asks),
        (f"questions support --beam-size only, not {', '.join(others)}", others and asks),
        (f"{', '.join(sampling)} needs --sample", sampling and "method" not in given),
        ("--no-images needs --format webdataset",
         options.no_images and options.format != "webdataset"),
        ("--metrics-host needs --metrics-port",
         options.metrics_host is not None and options.metrics_port is None),
        ("--price-per-hour needs --dry-run",
         options.price_per_hour is not None and not options.dry_run),
    ):  # fmt: skip
        if is_present:
            return problem
    return ""


def run(options: ScaleOptions) -> int:
    """Process the shards, or estimate the duration; return the exit status."""
    from captioner.scale.run_estimate import estimate_run
    from captioner.scale.work_units import InputOptionsError

    try:
        if not options.dry_run:
            return _process(options)
        estimate = estimate_run(make_job(options), make_run_options(options))
    except InputOptionsError as error:
        notify(error)
        return 2
    for line in estimate.lines(options.price_per_hour):
        print(line)
    return 0


def _process(options: ScaleOptions) -> int:
    from captioner.scale.driver import run_shards

    job, run_options = make_job(options), make_run_options(options)
    hint = "to continue, repeat the command with --resume"
    with terminable():
        try:
            summary = run_shards(job, run_options, notify)
        except (KeyboardInterrupt, SystemExit) as stop:
            notify(f"stopped; {hint}")
            sys.stderr.flush()
            # Without this, threads of Ray may abort the process when the interpreter ends.
            os._exit(130 if isinstance(stop, KeyboardInterrupt) else 143)
    print(json.dumps({"output": job.output} | asdict(summary)))
    if summary.failed:
        failed = f"{summary.failed} of {summary.shards} shards have failed"
        notify(f"{failed} (see manifest.jsonl); --resume processes them again")
        return 1
    return 3 if summary.errors else 0


def make_job(options: ScaleOptions) -> Any:
    """Return what all workers have in common; names of the Hub get their present commit."""
    from captioner.checkpoint import pin_checkpoint
    from captioner.checkpoint.resolution import absolute_name
    from captioner.data.shards.urls import absolute_url
    from captioner.scale.shard_rows import Columns
    from captioner.scale.shard_worker import Job

    names = options.checkpoint or ["bundled"]
    columns = Columns(options.image_column, options.key_column, options.question_column)
    answering = {
        "answers": read_allowed_answers(options.answers),
        "min_confidence": options.min_confidence or 0.0,
        "beam_size": options.decoding.beam_size,
    }
    asks = options.question is not None or options.question_column is not None
    return Job(
        output=absolute_url(options.output),
        checkpoints=tuple(absolute_name(pin_checkpoint(name)) for name in names),
        backend=options.backend,
        device=options.device,
        dtype=options.dtype,
        tta=options.tta,
        compile=options.compile,
        batch_size=options.batch_size or BATCH_SIZE,
        num_captions=options.num_captions,
        decoding={} if asks else options.decoding.given(),
        question=options.question,
        answering=answering if asks else {},
        columns=columns,
        format="webdataset" if options.format == "webdataset" else "parquet",
        images=not options.no_images,
    )


def make_run_options(options: ScaleOptions) -> Any:
    """Return the inputs and the workers of the run."""
    from captioner.scale.driver import RunOptions

    return RunOptions(
        options.source,
        chunk=options.chunk,
        recursive=options.recursive,
        resume=options.resume,
        by_digest=options.verify == "hash",
        workers=options.workers,
        threads=options.threads,
        address=options.address,
        metrics_port=options.metrics_port,
        metrics_host=options.metrics_host or "127.0.0.1",
    )
