"""The pool of workers on Ray Data: the only module that uses Ray.

Each shard is a block of its own, so that a task is one shard, and its result is one small record.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from captioner.errors import CaptionerError
from captioner.extras import explain_missing
from captioner.scale.cluster_plan import Node, Plan
from captioner.scale.shard_worker import Job, Record, ShardWorker
from captioner.scale.urls import one_line
from captioner.scale.work_units import WorkUnit

STORE_BYTES = 200_000_000
"""Size of the object store of a Ray instance that is started here. It holds only small records."""
RETRIES = 2
"""How often a shard is processed again after its worker has died."""


@contextmanager
def ray_session(address: str | None, *, store_bytes: int = STORE_BYTES) -> Iterator[list[Node]]:
    """Connect to a cluster, or start Ray on this machine; yield the machines.

    Args:
        address: Address of the cluster; None for that in RAY_ADDRESS, or else a new instance.
        store_bytes: Size of the object store of a new instance.

    Raises:
        CaptionerError: The cluster cannot be reached.
        DependencyError: Ray is not installed.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own log files keep all messages.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with explain_missing("captioner scale"):
        import ray
        import ray.data
    options: dict[str, Any] = {}
    if address == "local":
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        options = {"num_cpus": cpus, "object_store_memory": store_bytes, "include_dashboard": False}
    level = logging.CRITICAL
    try:
        ray.init(address, log_to_driver=False, logging_level=level, **options)
    except Exception as error:  # of many types
        raise CaptionerError(f"Ray at {address} cannot be used: {one_line(error)}") from None
    try:
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(level)
        yield _list_nodes(ray.nodes())
    finally:
        ray.shutdown()


def run_pool(job: Job, plan: Plan, units: Iterable[tuple[int, WorkUnit]]) -> Iterator[Record]:
    """Process shards in a session; yield their records in the order in which they are done.

    A shard whose worker has died more than `RETRIES` times has no record.

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
        max_restarts=-1,
        max_task_retries=RETRIES,
    )
    del items
    try:
        for row in dataset.iter_rows():
            yield Record(**json.loads(row["record"]))
    except ray.exceptions.RayError as error:
        raise CaptionerError(f"Ray has failed: {one_line(error)}") from None


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
