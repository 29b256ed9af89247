"""Invalid audio files on the command line: a caption or one line for each, in limited memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("soundfile")
from bad_recordings import BadKind, build
from tiny import make_checkpoint
from tiny_audio import make_audio_checkpoint

from captioner.cli import generate

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 5
MEGABYTES = 400
"""Memory of a process that reads any of the files, with Python and the libraries."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, BadKind]:
    return build(tmp_path_factory.mktemp("recordings") / "inputs")


@pytest.mark.slow
def test_the_command_line_reports_each_error_and_continues(folder, tmp_path, capsys) -> None:
    checkpoint = str(make_audio_checkpoint(tmp_path / "best"))
    assert generate.main([*map(str, folder), "--jsonl", "--checkpoint", checkpoint]) == 3
    out, err = capsys.readouterr()
    records = {record["image"]: record for record in map(json.loads, out.splitlines())}
    assert len(records) == len(folder) > 100
    for path, kind in folder.items():
        record = records[os.fsencode(path).decode("utf-8", "backslashreplace")]
        if kind.expect != "either":
            assert ("error" in record) == (kind.expect == "error"), record
        if "error" in record:
            assert record["error"].isprintable()
        else:
            assert record["caption"]
            assert record.get("low_confidence", False) is kind.silent, record
    failed = sum("error" in record for record in records.values())
    lines = err.splitlines()
    assert len(lines) == failed
    assert all(line.startswith("generate.py: ") and line.isprintable() for line in lines)


def test_a_model_of_images_rejects_each_file_in_one_line(folder, tmp_path, capsys) -> None:
    checkpoint = str(make_checkpoint(tmp_path / "best"))
    paths = [str(path) for path in folder if path.suffix not in (".jpg", ".png")]
    paths = [path for path in paths if not path.endswith(("jpeg.wav", "png.wav", "webp.wav"))]
    assert generate.main([*paths, "--checkpoint", checkpoint]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(paths)
    assert all(line.startswith("generate.py: ") for line in lines)


READ = """
import json, sys, time
from captioner.audio import load_audio
from captioner.errors import AudioError

def peak():  # Of this process alone; `resource` starts at the peak of its parent.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) // 1024

found = {"before": peak()}
for path in json.load(sys.stdin):
    start = time.monotonic()
    try:
        load_audio(path)
    except AudioError:
        pass
    found[path] = (time.monotonic() - start, peak())
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_reading_takes_limited_time_and_memory(folder) -> None:
    paths = json.dumps([os.fsencode(path).decode("utf-8", "surrogateescape") for path in folder])
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=paths,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert 0 < found.pop("before") < MEGABYTES
    assert len(found) == len(folder)
    assert {path: x for path, x in found.items() if x[0] > SECONDS or x[1] > MEGABYTES} == {}
