"""Runs on Ray: equal to `captioner caption`, and every row exactly once after kills.

CAPTIONER_SCALE_KILLS sets the number of kills (3).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import pytest
from folder_runs import rows as rows_of_captions
from scale_inputs import make_tars, read_manifest, read_parts

pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("working_folder")]

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("CAPTIONER_SCALE_KILLS", "3"))


@pytest.fixture
def start(vqa_checkpoint):
    """Return a function that starts the command."""

    def call(*words: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "captioner", "scale", "--checkpoint", vqa_checkpoint]
        command += ["--workers", "1", "--threads", "1", *map(str, words)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        environment.pop("RAY_ADDRESS", None)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, **pipes)

    return call


@pytest.fixture
def scale(start):
    """Return a function that runs the command; it returns status, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        process = start(*words)
        out, err = process.communicate(timeout=400)
        return process.returncode, out, err

    return call


def wait_for_records(process: subprocess.Popen, output: Path, count: int) -> None:
    """Wait until some shards are recorded or the process has ended."""
    path = output / "manifest.jsonl"
    while process.poll() is None:
        if path.exists() and len(path.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.02)


def find_processes(driver: subprocess.Popen, name: str) -> list:
    """Return the processes of Ray whose command line contains a name."""
    found = []
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            if name in " ".join(child.cmdline())[:200]:
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill(driver: subprocess.Popen, victim: str) -> None:
    """Kill the driver, or the worker or the raylet that it has started."""
    if victim == "driver":
        driver.kill()
        return
    name = {"raylet": "/raylet/raylet", "worker": "MapWorker"}[victim]
    for process in find_processes(driver, name):
        process.kill()


def test_rows_equal_those_of_captioner_caption(scale, photos, vqa_checkpoint):
    from captioner.cli import generate

    (photos / "bad.png").write_bytes(b"no image")
    status, out, err = scale("photos", "out", "--chunk", 2, "--metrics-port", 0)
    assert status == 3, err
    summary = json.loads(out)
    assert (summary["shards"], summary["rows"], summary["errors"]) == (2, 4, 1)
    assert [line for line in err.splitlines() if not line.startswith("captioner scale: ")] == []
    arguments = ["photos", "--output", "rows.jsonl", "--checkpoint", vqa_checkpoint]
    assert generate.main(arguments) == 3
    expected = rows_of_captions("rows.jsonl")
    rows = read_parts(Path("out"))
    assert [row["image"] for row in rows] == [Path(row["image"]).name for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["caption"] == other.get("caption")
        assert row["score"] == pytest.approx(other.get("score"), abs=1e-3)
        assert (row["error"] is None) == ("error" not in other)
    assert scale("photos", "out", "--chunk", 2)[::2] == (
        1,
        f"captioner scale: {Path('out').resolve()}: is not empty; add --resume, or give another"
        " folder\n",
    )


def test_every_row_is_written_once_after_kills(scale, start):
    shards = 6 + 2 * KILLS
    make_tars(Path("in"), shards, 20)
    words = ("in", "--question-column", "question", "--batch-size", 2, "--chunk", 9)
    assert scale(words[0], "whole", *words[1:])[0] == 0
    draw, output = random.Random(), Path("out")
    for number, victim in enumerate(islice(cycle(("driver", "raylet", "worker")), KILLS)):
        done = len(read_manifest(output)) if number else 0
        process = start(words[0], "out", *words[1:], "--resume")
        wait_for_records(process, output, done + 1)
        time.sleep(draw.random() * 0.3)
        kill(process, victim)
        if victim == "worker":  # its shard is processed again
            wait_for_records(process, output, done + 2)
            kill(process, "driver")
        _, err = process.communicate(timeout=400)
        assert "Traceback" not in err
        if victim == "raylet" and process.returncode:
            assert "raylet of Ray has ended unexpectedly" in err
        assert process.returncode in (0, 1, -signal.SIGKILL)
    status, out, err = scale(words[0], "out", *words[1:], "--resume", "--verify", "hash")
    assert status == 0, err
    assert json.loads(out)["rows"] == 20 * shards
    records = read_manifest(output)
    assert sorted(record["unit"] for record in records) == list(range(shards))
    names = sorted(path.name for path in Path("whole/parts").iterdir())
    assert sorted(path.name for path in Path("out/parts").iterdir()) == names
    for name in names:
        assert (output / "parts" / name).read_bytes() == Path("whole/parts", name).read_bytes()


def test_a_stopped_run_can_be_resumed_and_a_damaged_shard_fails(scale, start):
    make_tars(Path("in"), 6, 10)
    Path("in/03.tar").write_bytes(b"no archive" * 100)
    process = start("in", "out", "--batch-size", 2)
    wait_for_records(process, Path("out"), 1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=400)
    if process.returncode == 143:
        assert err.endswith("stopped; to continue, repeat the command with --resume\n")
    assert "--resume" in err
    status, out, err = scale("in", "out", "--resume")
    assert status == 1
    assert "shard 3 has failed" in err
    assert json.loads(out)["failed"] == 1
    assert len(read_parts(Path("out"))) == 50


def test_what_cannot_be_scheduled_is_rejected_in_one_line(scale, photos):
    status, out, err = scale("photos", "out", "--workers", 999)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "--workers 999 with 1 thread each cannot be scheduled: the cluster has" in err
