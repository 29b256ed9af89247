"""The pool of workers on Ray Data: the only module that uses Ray.

Each shard is a block of its own, so that a task is one shard, and its result is one small record.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TextIO

from captioner.data.shards.urls import describe_failure
from captioner.errors import CaptionerError
from captioner.extras import explain_missing
from captioner.scale.cluster_plan import Node, Plan
from captioner.scale.shard_worker import Job, Record, ShardWorker
from captioner.scale.work_units import WorkUnit

_WATCH_SECONDS = 1.0
STORE_BYTES = 200_000_000
"""Size of the object store of a Ray instance that is started here. It holds only small records."""


@contextmanager
def ray_session(
    address: str | None, notify: Callable[[object], None], *, store_bytes: int = STORE_BYTES
) -> Iterator[list[Node]]:
    """Connect to a cluster, or start Ray on this machine; yield the machines.

    Args:
        address: Address of the cluster; None for that in RAY_ADDRESS, or else a new instance.
        notify: Prints a message, before this process ends because the new instance has ended.
        store_bytes: Size of the object store of a new instance.

    Raises:
        CaptionerError: The cluster cannot be reached.
        DependencyError: Ray is not installed.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray gives its workers the lowest priority (nice 15), but here they do all of the work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with explain_missing("captioner scale"):
        import ray
        import ray.data
    options: dict[str, Any] = {}
    if address == "local":
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        options = {"num_cpus": cpus, "object_store_memory": store_bytes, "include_dashboard": False}
    level = logging.CRITICAL
    with quiet_libraries(descriptors=(1, 2) if address == "local" else (1,)):
        try:
            ray.init(address, log_to_driver=False, logging_level=level, **options)
        except Exception as error:  # of many types
            raise CaptionerError(
                f"Ray at {address} cannot be used: {describe_failure(error)}"
            ) from None
        ended = threading.Event()
        if address == "local":
            values = (notify, ended)
            threading.Thread(target=_watch_processes, args=values, daemon=True).start()
        try:
            for name in ("ray", "ray.data"):
                logging.getLogger(name).setLevel(level)
            yield _list_nodes(ray.nodes())
        finally:
            ended.set()
            ray.shutdown()


@contextmanager
def quiet_libraries(*, descriptors: Sequence[int] = (1, 2)) -> Iterator[None]:
    """Within it, only what this process prints to `sys.stderr` reaches the user.

    Ray prints to stdout from Python and to the descriptors 1 and 2 from C++, and its processes
    inherit these. They are redirected to the null device; Ray's log files keep the messages.

    Args:
        descriptors: Those to redirect.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    previous, kept = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    with open(os.devnull, "w") as null, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="ray")
        sys.stdout, sys.stderr = null, _copy_stream(sys.stderr, kept[1])
        try:
            for number in descriptors:
                os.dup2(null.fileno(), number)
            yield
        finally:
            sys.stderr.flush()
            sys.stdout, sys.stderr = previous
            for number, copy in enumerate(kept, 1):
                os.dup2(copy, number)
                os.close(copy)


def _copy_stream(stream: TextIO, copy: int) -> TextIO:
    """Return stderr on a copy of its descriptor, or itself if a test has replaced it."""
    try:
        if stream.fileno() != 2:
            return stream
    except (OSError, ValueError):
        return stream
    return open(copy, "w", 1, stream.encoding, errors="backslashreplace", closefd=False)


def _watch_processes(notify: Callable[[object], None], ended: threading.Event) -> None:
    """End this process when a process of the Ray instance that it has started dies.

    Ray would end it without a message, or let it wait.
    """
    import ray

    node = getattr(ray._private.worker, "_global_node", None)
    while node is not None and not ended.wait(_WATCH_SECONDS):
        dead = [name for name, _ in node.dead_processes() if name in ("raylet", "gcs_server")]
        if dead and not ended.is_set():
            hint = "to continue, repeat the command with --resume"
            notify(f"{', '.join(dead)} of Ray has ended unexpectedly; {hint}")
            with contextlib.suppress(Exception):
                node.kill_all_processes(check_alive=False, allow_graceful=False)
            os._exit(1)


def run_pool(job: Job, plan: Plan, units: Iterable[tuple[int, WorkUnit]]) -> Iterator[Record]:
    """Process shards in a session; yield their records in the order in which they are done.

    Raises:
        CaptionerError: Ray has failed.
    """
    import ray
    import ray.data

    items = [{"number": number, "unit": unit.to_json()} for number, unit in units]
    if not items:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _PoolWorker,
        fn_constructor_args=(asdict(job),),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=min(plan.workers, len(items)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=plan.cpus,
        num_gpus=plan.gpus,
    )
    del items
    try:
        for row in dataset.iter_rows():
            yield Record(**json.loads(row["record"]))
    except ray.exceptions.RayError as error:
        raise CaptionerError(f"Ray has failed: {describe_failure(error)}") from None


class _PoolWorker:
    """A worker as Ray Data calls it: from a table of shards to a table of records."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        from captioner.scale.shard_rows import Columns

        self._worker = ShardWorker(Job(**{**job, "columns": Columns(**job["columns"])}))

    def __call__(self, batch: Any) -> dict[str, list[str]]:
        records = [
            self._worker.process(item["number"], WorkUnit.from_json(item["unit"]))
            for item in batch.to_pylist()
        ]
        return {"record": [json.dumps(asdict(record)) for record in records]}


def _list_nodes(described: Iterable[Mapping[str, Any]]) -> list[Node]:
    resources = [node["Resources"] for node in described if node["Alive"]]
    return [Node(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in resources]
