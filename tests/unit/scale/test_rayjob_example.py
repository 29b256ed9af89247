"""The RayJob of the examples: its fields exist in KubeRay's v1 API, and its command parses."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from captioner.cli import scale

PATH = Path(__file__).resolve().parents[3] / "examples" / "scale-rayjob.yaml"

# The fields of RayJobSpec, RayClusterSpec, HeadGroupSpec and WorkerGroupSpec in ray.io/v1.
JOB = {
    "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata",
    "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint",
    "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources", "entrypointNumCpus",
    "entrypointNumGpus", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend",
}  # fmt: skip
CLUSTER = {
    "headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling",
    "autoscalerOptions", "headServiceAnnotations", "suspend",
}  # fmt: skip
HEAD = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
WORKERS = {
    "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams",
    "template", "scaleStrategy",
}  # fmt: skip


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


def test_the_fields_are_those_of_the_api(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert set(spec) <= JOB
    cluster = spec["rayClusterSpec"]
    assert set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_ray_is_started_with_text_parameters(job):
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_there_are_as_many_workers_as_gpus(job):
    program, command, *words = shlex.split(job["spec"]["entrypoint"])
    assert (program, command) == ("captioner", "scale")
    options = scale.parse(words)
    assert options.resume
    gpus = 0
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        gpus += group["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert options.workers == gpus


def test_pod_templates_fit_the_models_of_kubernetes(job):
    client = pytest.importorskip("kubernetes").client
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        check_model(client, group["template"], "V1PodTemplateSpec")


def check_model(client, value, kind: str) -> None:
    """Check the keys of a value, recursively, and the types of its leaves."""
    if kind.lower().startswith("list["):
        assert isinstance(value, list)
        for item in value:
            check_model(client, item, kind[5:-1])
    elif kind.lower().startswith("dict"):  # of texts
        assert all(isinstance(text, str) for item in value.items() for text in item)
    elif hasattr(client, kind):
        model = getattr(client, kind)
        names = {json_name: name for name, json_name in model.attribute_map.items()}
        assert set(value) <= set(names), kind
        for name, item in value.items():
            check_model(client, item, model.openapi_types[names[name]])
    else:
        assert isinstance(value, {"str": str, "int": int, "bool": bool}[kind])
