"""A run from its inputs to its parts: the driver, which records each part once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

from captioner import __version__
from captioner.checkpoint import fingerprint
from captioner.checkpoint.resolution import describe_name
from captioner.errors import CaptionerError
from captioner.scale.cluster_plan import Plan, plan_workers
from captioner.scale.manifest import RUN, Manifest, discarded_on_error, open_run, read_units
from captioner.scale.output_folder import OutputFolder
from captioner.scale.ray_pool import ray_session, run_pool
from captioner.scale.run_metrics import RunMetrics
from captioner.scale.run_progress import RunProgress
from captioner.scale.shard_worker import Job, Record
from captioner.scale.work_units import InputOptionsError, WorkUnit, check_output, find_units

Notify = Callable[[object], None]
_UNRECORDED = ("output", "backend", "device", "compile", "threads", "batch_size", "checkpoints")
"""Fields of a job that a resumed run may change: they affect the rounding of scores at most."""


@dataclass(frozen=True)
class RunOptions:
    """The options of a run that do not affect its rows, and its inputs."""

    source: str
    chunk: int = 500
    """Images of a folder in one shard."""
    recursive: bool = False
    resume: bool = False
    by_digest: bool = False
    """Whether --resume compares the digests of parts instead of their sizes."""
    workers: int | None = None
    threads: int | None = None
    address: str | None = None
    """Address of a Ray cluster."""
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"


@dataclass(frozen=True)
class Summary:
    """The result of a run."""

    shards: int
    failed: int
    """Shards without a part."""
    rows: int
    errors: int
    seconds: float


def run_shards(job: Job, options: RunOptions, notify: Notify) -> Summary:
    """Process the shards that have no part yet.

    Args:
        job: The model, the decoding and the output; its device and threads are chosen here.
        options: Inputs and workers.
        notify: Prints a message.

    Raises:
        CaptionerError: The run cannot be started, or has stopped.
    """
    start = time.monotonic()
    output = OutputFolder(job.output)
    units = find_inputs(job, options)
    settings, origin = collect_settings(job, options), describe_origin(job)
    with ExitStack() as stack:
        stack.enter_context(output.locked())
        is_new = output.read(RUN) is None
        total = open_run(output, settings, origin, units, resume=options.resume)
        if is_new:
            stack.enter_context(discarded_on_error(output))
        manifest = Manifest(output)
        stack.callback(manifest.close)
        for message in manifest.restore(total, by_digest=options.by_digest):
            notify(message)
        if len(manifest.finished) < total:
            metrics = None
            if options.metrics_port is not None:
                metrics = RunMetrics(options.metrics_port, options.metrics_host)
                stack.callback(metrics.close)
            nodes = stack.enter_context(ray_session(options.address, notify))
            plan = plan_workers(
                nodes, device=job.device, workers=options.workers, threads=options.threads
            )
            _process(job, plan, manifest, output, total, notify, metrics)
    missing = total - len(manifest.finished)
    seconds = time.monotonic() - start
    return Summary(total, missing, manifest.rows, manifest.errors, round(seconds, 1))


def find_inputs(job: Job, options: RunOptions) -> Iterator[WorkUnit]:
    """Yield the input shards.

    Raises:
        InputOptionsError: They do not fit the options.
        DataError: They cannot be read, or there are none.
    """
    if options.recursive:
        check_output(options.source, job.output)
    column = job.columns.question
    for unit in find_units(options.source, chunk=options.chunk, recursive=options.recursive):
        if unit.kind == "images" and column is not None:
            problem = f"--question-column {column}: the images of a folder have no columns"
            raise InputOptionsError(f"{options.source}: {problem}; use --question")
        yield unit


def collect_settings(job: Job, options: RunOptions) -> dict[str, Any]:
    """Return the options that affect the parts, as `run.json` has them."""
    values = {f.name: getattr(job, f.name) for f in fields(job) if f.name not in _UNRECORDED}
    values["columns"] = vars(job.columns)
    if job.format != "webdataset":
        del values["images"]
    digests = [fingerprint([name]) for name in job.checkpoints]
    return values | {"checkpoint": digests, "chunk": options.chunk}


def describe_origin(job: Job) -> Mapping[str, Any]:
    """Return the version of captioner and the name and revision of each checkpoint."""
    names = [describe_name(name) for name in job.checkpoints]
    return {"captioner": __version__, "checkpoint": names}


def _process(
    job: Job, plan: Plan, manifest: Manifest, output: OutputFolder, total: int, notify: Notify,
    metrics: RunMetrics | None,
) -> None:  # fmt: skip
    job = replace(job, device=plan.device, threads=plan.threads)
    workers = f"{plan.workers} worker{'s' * (plan.workers > 1)}"
    done = len(manifest.finished)
    threads = f"{plan.threads} thread{'s' * (plan.threads > 1)}"
    notify(f"{total - done} of {total} shards on {workers} with {threads} each ({plan.device})")
    progress = RunProgress(total, done, notify)
    seen: set[int] = set()
    try:
        for record in run_pool(job, plan, read_units(output, manifest.finished)):
            if record.stops:
                raise CaptionerError(record.error)
            manifest.add(record)
            seen.add(record.unit)
            progress.add(record)
            if metrics is not None:
                metrics.record(record, total - len(manifest.finished))
            if record.error:
                notify(f"shard {record.unit} has failed: {record.error}")
    finally:
        progress.close()
    manifest.remove_temporary()
    for number, unit in read_units(output, manifest.finished | seen):
        problem = f"{unit.label}: Ray has lost its record"
        manifest.add(Record(number, unit.label, error=problem))
        notify(f"shard {number} has failed: {problem}")
