"""The benchmarks run, measure both sides and count steps alike."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import ROOT

import captioner

pytestmark = pytest.mark.slow


def run_benchmark(name: str, *words: object) -> str:
    """Run a script of `benchmarks/`; return its standard output."""
    command = [sys.executable, ROOT / "benchmarks" / name, *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runtimes_are_compared(tmp_path):
    packages = tmp_path / "lib" / "python3" / "site-packages" / "package"
    packages.mkdir(parents=True)
    (packages / "data").write_bytes(bytes(3_000_000))
    output = run_benchmark("runtimes.py", "--repeats", 1, "--images", 2, "--light", tmp_path)
    rows = re.findall(r"^ *(\S.*?) {2,}(\S+) +(\S+) +(\d+\.\d\d)  ", output, re.MULTILINE)
    names = [name for name, *_ in rows]
    assert names == ["cold start, s", "CPU time, s", "peak memory, MB", "caption, float32, ms",
                     "caption, int8, ms", "folder, images/s", "peak memory, MB",
                     "installed, MB"]  # fmt: skip
    values = [(float(ours), float(theirs)) for _, ours, theirs, _ in rows]
    assert all(ours > 0 and theirs > 0 for ours, theirs in values)
    assert values[-1][0] == 3
    memory = values[2]
    assert memory[0] < memory[1]  # no torch


def test_steps_are_counted_alike_by_both_backends(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from caption import count_steps

    images = [ROOT / "examples" / name for name in ("beach.jpg", "dog.jpg")]
    counts = {}
    for backend in ("onnx", "torch"):
        model = captioner.load(backend=backend, device="cpu")
        counts[backend] = count_steps(model, [*images, images])
        tokens = [len(result.best.tokens) for result in model.caption(images)]
        assert all(c >= t for c, t in zip(counts[backend], tokens, strict=False))
    assert counts["onnx"] == counts["torch"]
    one, two, both = counts["onnx"]
    assert both == max(one, two)


def test_decoder_gives_the_tokens_of_transformers():
    output = run_benchmark("decode.py", "--only", "equal", "--count", 2, "--threads", 1)
    assert "equal tokens: 2 of 2" in output
