"""Progress, metrics, and the descriptors that Ray may print to."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request

import pytest

from captioner.errors import CaptionerError
from captioner.scale.run_progress import RunProgress
from captioner.scale.shard_worker import Record


def test_progress_states_the_rate_and_the_remaining_time():
    progress = RunProgress(10, 2, lambda _: None)
    for number in range(4):
        progress.add(Record(number, "x", "part", rows=30, errors=1))
    expected = "6 of 10 shards, 120 images, 2.0 images/s, 4 errors, about 1 min left"
    assert progress.describe(60.0) == expected


def test_lines_are_printed_from_time_to_time(monkeypatch):
    monkeypatch.setattr("captioner.scale.run_progress.LINE_SECONDS", 0.0)
    lines: list[object] = []
    progress = RunProgress(2, 0, lines.append)
    progress.add(Record(0, "x", "part", rows=3))
    progress.close()
    assert len(lines) == 1
    assert str(lines[0]).startswith("1 of 2 shards, 3 images")


def test_metrics_count_images_errors_parts_and_the_queue():
    pytest.importorskip("prometheus_client")
    from captioner.scale.run_metrics import RunMetrics

    metrics = RunMetrics(0)
    try:
        metrics.record(Record(0, "x", "part", rows=30, errors=2, seconds=4.0), 7)
        metrics.record(Record(1, "x", error="damaged"), 6)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics") as answer:
            text = answer.read().decode()
        with pytest.raises(CaptionerError, match=r"use another"):
            RunMetrics(metrics.port)
        with pytest.raises(CaptionerError, match=r"--metrics-port 0 at 192\.0\.2\.1: .*another"):
            RunMetrics(0, "192.0.2.1")  # reserved for documentation
    finally:
        metrics.close()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    names = ("images_total", "errors_total", "parts_total", "failed_shards_total", "queue")
    found = [float(values[f"captioner_scale_{name}"]) for name in names]
    assert found == [30, 2, 1, 1, 6]
    assert float(values["captioner_scale_shard_seconds_sum"]) == 4


def test_only_messages_on_stderr_reach_the_user():
    program = """
import os, sys
from captioner.scale.ray_pool import quiet_libraries
with quiet_libraries():
    print("noise"); os.write(1, b"noise"); os.write(2, b"noise")
    print("message", file=sys.stderr)
print("data")
os.write(2, b"end")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("data\n", "message\nend")
