"""Runs over many files that are killed, or whose output is closed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from folder_runs import rows
from tiny import picture

from captioner.cli.batch.row_file import RowFile

pytestmark = pytest.mark.usefixtures("working_folder")


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


def started(checkpoint: str, *words: str) -> subprocess.Popen:
    command = [sys.executable, ROOT / "generate.py", "photos", "--checkpoint", checkpoint, *words]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(process: subprocess.Popen, path: str, size: int) -> None:
    """Wait until the file is larger than a size or the process has ended."""
    while process.poll() is None:
        if os.path.exists(path) and os.path.getsize(path) > size:
            return
        time.sleep(0.001)


def many(photos: Path, count: int) -> None:
    for i in range(count):
        picture(i % (count - 9)).save(photos / f"{i:04}.png")  # some twice
    (photos / "0002.png").write_bytes(b"bad")


def close(found: list[dict], expected: list[dict]) -> bool:
    """Return whether rows are equal, with a tolerance for the rounding of scores in batches."""
    scores = [[row.pop("score", 0) for row in each] for each in (found, expected)]
    return found == expected and np.allclose(*scores, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_ten_kills_do_not_change_the_result(run, checkpoint, photos, name):
    many(photos, 300)
    run("photos", "--output", f"whole-{name}", "--batch-size", 2)
    options = ("--output", name, "--resume", "--batch-size", "2")
    total, draw, kills = os.path.getsize(f"whole-{name}"), random.Random(), 0
    while kills < 10:
        size = os.path.getsize(name) if os.path.exists(name) else 0
        process = started(checkpoint, *options)
        wait_for(process, name, size)
        time.sleep(draw.random() * 0.02)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
        assert os.path.getsize(name) < total, "it was done before it could be killed ten times"
    assert started(checkpoint, *options).wait() == 3
    found, expected = rows(name), rows(f"whole-{name}")
    assert len({row["image"] for row in found}) == len(found) == 303
    for row in (*found, *expected):
        row["score"] = float(row.get("score") or 0)
    assert close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_complete_rows(checkpoint, photos, number, status):
    many(photos, 300)
    process = started(checkpoint, "--output", "out.jsonl", "--batch-size", "2")
    wait_for(process, "out.jsonl", 0)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (status, b"")
    assert Path("out.jsonl").read_bytes().endswith(b"\n")
    assert 0 < len(rows()) < 303


def test_a_closed_pipe_ends_quietly(checkpoint, photos):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, ROOT / "generate.py", "photos", "--csv", "--checkpoint", checkpoint]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_rows_are_not_kept_in_memory():
    """Only path, position and digest of a finished image are kept."""
    file = RowFile("o", columns=None, settings={}, resume=False, retry=False, notify=print)
    for i in range(50):
        file.append({"image": f"{i}", "caption": "long " * 1000, "sha256": f"{i:064x}"})
    assert "long" not in str(vars(file))
    file.close()
