"""Pools of workers: default numbers, shares, and requests that cannot be scheduled."""

from __future__ import annotations

import pytest

from captioner.errors import CaptionerError
from captioner.scale.cluster_plan import Node, plan_workers


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([Node(2)], {}, (1, 2, "cpu", 0)),
        ([Node(2)], {"workers": 2}, (2, 1, "cpu", 0)),
        ([Node(2)], {"threads": 1}, (2, 1, "cpu", 0)),
        ([Node(1)], {}, (1, 1, "cpu", 0)),
        ([Node(0), Node(16), Node(16)], {}, (2, 16, "cpu", 0)),
        ([Node(16), Node(16)], {"workers": 4}, (4, 8, "cpu", 0)),
        ([Node(64, 8)], {}, (8, 8, "cuda", 1)),
        ([Node(64, 8)], {"workers": 3, "threads": 4}, (3, 4, "cuda", 1)),
        ([Node(64, 8)], {"device": "cpu"}, (1, 64, "cpu", 0)),
        ([Node(4, 8)], {}, (8, 1, "cuda", 1)),
    ],
)
def test_pools(nodes, options, expected):
    plan = plan_workers(nodes, **options)
    assert (plan.workers, plan.threads, plan.device, plan.gpus) == expected


@pytest.mark.parametrize("cpus", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_a_part_of_the_cpus_stays_free_for_ray(cpus, gpus):
    plan = plan_workers([Node(cpus, gpus)])
    left = cpus - plan.workers * plan.cpus
    assert left >= min(1, cpus / 2) - 1e-3
    assert plan.cpus > 0


@pytest.mark.parametrize(
    ("nodes", "options", "problem"),
    [
        ([Node(2)], {"workers": 2, "threads": 2}, "2 CPUs in 1 machine; use at most --workers 1"),
        ([Node(2)], {"threads": 4}, "use fewer --threads"),
        ([Node(2), Node(2)], {"workers": 2, "threads": 3}, "use fewer --threads"),
        ([Node(2)], {"device": "cuda"}, "the cluster has no GPU"),
        ([Node(8, 2)], {"workers": 3}, "the cluster has 2 GPUs; use at most --workers 2"),
        ([Node(8, 2)], {"threads": 5}, "4 CPUs for each GPU"),
        ([Node(8, 2)], {"device": "cuda:1"}, "Ray assigns the GPUs"),
        ([Node(0)], {}, "no machine with a CPU"),
    ],
)
def test_what_cannot_be_scheduled_is_rejected(nodes, options, problem):
    with pytest.raises(CaptionerError, match=problem):
        plan_workers(nodes, **options)
