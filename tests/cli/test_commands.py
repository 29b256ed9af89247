"""The `captioner` command and the settings that `captioner caption` stores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.cli import generate
from captioner.cli.batch.run_record import meta_path, write_meta
from captioner.cli.main import COMMANDS, main
from captioner.cli.process import notify, show_messages

ROOT = Path(__file__).resolve().parents[2]


def test_help_describes_each_command_in_a_sentence(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    for name, (_, description) in COMMANDS.items():
        assert description.endswith(".")
        assert any(line.split(maxsplit=1) == [name, description] for line in out.splitlines())


def test_the_package_runs_as_a_module(capsys):
    command = [sys.executable, "-m", "captioner", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)
    assert done.stdout.startswith("usage: captioner ")


REQUIRED = {
    "check": ["DATA"],
    "export": ["CHECKPOINT"],
    "web": ["OUT"],
    "push": ["DIR", "USER/NAME"],
    "scale": ["IN", "OUT"],
}
"""Arguments without which a command reports that they are missing."""


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_errors_begin_with_the_command(capsys, command):
    with pytest.raises(SystemExit, match="2"):
        main([command, *REQUIRED.get(command, ()), "--no-such-flag"])
    err = capsys.readouterr().err
    assert err.startswith(f"usage: captioner {command} ")
    assert f"captioner {command}: error: unrecognized arguments" in err


def test_messages_go_to_stderr_with_the_name_of_the_program(capsys):
    for prog in ("captioner caption", "generate.py"):
        show_messages(prog)
        notify("100 % done")
        assert capsys.readouterr() == ("", f"{prog}: 100 % done\n")


def test_stored_settings_have_the_format_of_earlier_versions(tmp_path):
    """--resume compares them with the settings of the new run."""
    options = generate.parse(
        ["a.png", "--output", "o.csv", "--question", "what?", "--beam-size", "3", "--tta", "2"]
    )
    assert json.dumps(options.settings() | options.answering(["yes", "no"])) == (
        '{"dtype": "float32", "question": ["what?"], "csv": true, "beam_size": 3, "looks": 2,'
        ' "answers": ["yes", "no"], "num_answers": 1, "min_confidence": 0.0}'
    )
    words = ["a.png", "--output", "o.jsonl", "--alt-text", "--sidecar", "--write-xmp"]
    words += ["--sample", "--ban", "a", "--seed", "0", "--attention", "d"]
    options = generate.parse(words)
    write_meta(str(tmp_path / "o.jsonl"), options.settings(), str(tmp_path))
    stored = json.loads(Path(meta_path(str(tmp_path / "o.jsonl"))).read_text())
    assert list(stored.items())[:-1] == [
        ("dtype", "float32"),
        ("alt_length", 125),
        ("sidecar", True),
        ("write_xmp", "captioned"),
        ("attention", "d"),
        ("banned", ["a"]),
        ("method", "sample"),
    ]
    assert stored["base"] == [".", str(tmp_path)]
