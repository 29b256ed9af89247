"""How many workers a cluster can have, and the share of its resources that each reserves.

All CPUs of a cluster cannot be reserved: the tasks of Ray itself would then wait forever. Workers
reserve a little less than the threads that they use, so that one CPU stays free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.errors import CaptionerError


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The pool of workers."""

    workers: int
    threads: int
    """Threads of each worker."""
    device: str
    cpus: float
    """Logical CPUs that each worker reserves."""
    gpus: int = 0
    """GPUs that each worker reserves."""


def plan_workers(
    nodes: Sequence[Node], *, device: str = "auto", workers: int | None = None,
    threads: int | None = None,
) -> Plan:  # fmt: skip
    """Return the pool for a cluster; it has one worker for each GPU, or for each machine.

    Args:
        nodes: The machines.
        device: `cuda` or `cpu`; `auto` is `cuda` if the cluster has GPUs.
        workers: Number of workers.
        threads: Threads of each worker; by default, the CPUs are shared evenly.

    Raises:
        CaptionerError: The cluster does not have the resources.
    """
    has_gpus = any(node.gpus >= 1 for node in nodes)
    if device.startswith("cuda:"):
        raise CaptionerError(f"--device {device}: Ray assigns the GPUs to workers; use cuda")
    if device == "cuda" and not has_gpus:
        raise CaptionerError("--device cuda: the cluster has no GPU; use --device cpu")
    if device == "cuda" or (device == "auto" and has_gpus):
        return _plan_gpus([node for node in nodes if node.gpus >= 1], nodes, workers, threads)
    usable = [node for node in nodes if node.cpus >= 1]
    return _plan_cpus(usable, "cpu" if device == "auto" else device, workers, threads)


def _plan_cpus(
    nodes: Sequence[Node], device: str, workers: int | None, threads: int | None
) -> Plan:
    if not nodes:
        raise CaptionerError("the cluster has no machine with a CPU; add one")
    total = sum(node.cpus for node in nodes)
    if threads is None:
        smallest = min(node.cpus for node in nodes)
        each = 1 if workers is None else math.ceil(workers / len(nodes))
        threads = max(1, int(smallest // each))
    capacity = sum(int(node.cpus // threads) for node in nodes)
    if not capacity or (workers or 1) > capacity:
        wanted = f"--workers {workers or 1} with {_count(threads, 'thread')} each"
        has = f"{_count(total, 'CPU')} in {_count(len(nodes), 'machine')}"
        most = f"at most --workers {capacity}" if capacity else "fewer --threads"
        raise CaptionerError(f"{wanted} cannot be scheduled: the cluster has {has}; use {most}")
    return Plan(workers or capacity, threads, device, _share(threads, total))


def _plan_gpus(
    nodes: Sequence[Node], everything: Sequence[Node], workers: int | None, threads: int | None
) -> Plan:
    total = sum(int(node.gpus) for node in nodes)
    if (workers or 1) > total:
        raise CaptionerError(
            f"--workers {workers} cannot be scheduled: each has a GPU, and the cluster has"
            f" {_count(total, 'GPU')}; use at most --workers {total}"
        )
    each = min(node.cpus / int(node.gpus) for node in nodes)
    if threads is not None and threads > max(1, each):
        raise CaptionerError(
            f"--threads {threads} cannot be scheduled: the machines have {each:g} CPUs for each GPU"
        )
    threads = threads or max(1, int(each))
    share = _share(min(threads, each), sum(node.cpus for node in everything))
    return Plan(workers or total, threads, "cuda", share, gpus=1)


def _share(cpus: float, total: float) -> float:
    """Return the part of a worker's CPUs that is reserved, in the resolution of Ray."""
    left = max(0.5, (total - 1) / total) if total else 0.0
    return math.floor(cpus * left * 1e4) / 1e4


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'s' * (number != 1)}"
