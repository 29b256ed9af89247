"""Invalid audio files on the command line: a caption or one line for each, in limited memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("soundfile")
from bad_inputs import assert_bounded
from bad_recordings import BadKind, build
from tiny import make_checkpoint
from tiny_audio import make_audio_checkpoint

from captioner.cli import generate

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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_reading_takes_limited_time_and_memory(folder) -> None:
    assert_bounded("captioner.audio.load_audio", folder, seconds=SECONDS, megabytes=MEGABYTES)
