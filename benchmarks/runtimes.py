"""Compare ONNX Runtime with torch, as ratios of medians: `python benchmarks/runtimes.py`.

- Cold start: `generate.py` with one image in a new process, against `python -c "import torch"`.
- Caption: one photograph with a loaded model, in float32 and int8, against torch in float32. Each
  model is in a process of its own.
- Folder: the command line with many images, against itself with `--backend torch`.
- Installation (with `--light`): the packages of a light environment, against those of the
  environment that runs this script.

The measurements of both sides alternate, so that other load on the machine affects both.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from caption import (  # noqa: E402
    ENVIRONMENT,
    IMAGE,
    Usage,
    alternate,
    describe_machine,
    draw_photograph,
    row,
    run_process,
)

GENERATE = str(ROOT / "generate.py")
CAPTIONS = 10
"""Captions in one measurement, because one takes milliseconds."""


class Kind(NamedTuple):
    """A runtime and a type of its arithmetic."""

    backend: str
    dtype: str


PEER = Kind("torch", "float32")
KINDS = (Kind("onnx", "float32"), Kind("onnx", "int8"), PEER)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="runs of each side")
    parser.add_argument("--photos", metavar="DIR", help="folder of JPEG files; default: drawn")
    parser.add_argument("--images", type=int, default=200, metavar="N", help="images of the folder")
    parser.add_argument("--light", metavar="DIR", help="environment with `pip install .` only")
    parser.add_argument("--child", nargs=2, metavar=("BACKEND", "DTYPE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        answer_requests(args.checkpoint, Kind(*args.child))
        return
    print(describe_machine(), end="\n\n")
    print(f"{'':24} {'captioner':>12} {'peer':>12} {'ratio':>7}  peer")
    start(args.checkpoint, args.repeats)
    caption(args.checkpoint, args.repeats)
    with photographs(args.photos, args.images) as paths:
        folder(args.checkpoint, args.repeats, paths)
    if args.light:
        installation(Path(args.light))


def start(checkpoint: str, repeats: int) -> None:
    """Measure time and memory of a process that captions one image."""
    words = [GENERATE, str(IMAGE), "--checkpoint", checkpoint, "--backend", "onnx"]
    torch = ["-c", "import torch"]
    sides = alternate(lambda: run_process(words), lambda: run_process(torch), repeats)
    for name, field in (
        ("cold start, s", "seconds"),
        ("  CPU time, s", "cpu_seconds"),
        ("  peak memory, MB", "memory"),
    ):
        row(name, *medians(sides, field), "import torch")


def caption(checkpoint: str, repeats: int) -> None:
    """Measure captions of one photograph in processes that have loaded a model."""
    times: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        children = {kind: stack.enter_context(child(checkpoint, kind)) for kind in KINDS}
        for _ in range(repeats + 1):
            for kind, process in children.items():
                times[kind].append(request(process))
    middle = {kind: 1000 * statistics.median(x[1:]) for kind, x in times.items()}
    for kind in KINDS[:-1]:
        row(f"caption, {kind.dtype}, ms", middle[kind], middle[PEER], "torch, float32")


@contextlib.contextmanager
def child(checkpoint: str, kind: Kind) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has loaded a model and captions the photograph for each `request`."""
    words = [__file__, "--checkpoint", checkpoint, "--child", *kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *words], env=ENVIRONMENT, **pipes) as process:
        yield process
        process.stdin.close()


def request(process: subprocess.Popen[str]) -> float:
    """Let a child caption the photograph; return the seconds of one caption."""
    process.stdin.write("\n")
    process.stdin.flush()
    if not (line := process.stdout.readline()):
        sys.exit("benchmark: a process with a loaded model has ended")
    return float(line)


def answer_requests(checkpoint: str, kind: Kind) -> None:
    """Caption the photograph for each line on stdin; print the seconds of one caption."""
    import captioner
    from captioner.cli.process import keep_freed_memory

    keep_freed_memory()
    model = captioner.load(checkpoint, backend=kind.backend, dtype=kind.dtype, device="cpu")
    model.caption(IMAGE)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(CAPTIONS):
            model.caption(IMAGE, beam_size=5)
        print((time.perf_counter() - begin) / CAPTIONS, flush=True)


@contextlib.contextmanager
def photographs(folder: str | None, count: int) -> Iterator[list[Path]]:
    """Yield the paths of JPEG files: those of a folder, or drawn ones."""
    if folder is not None:
        yield sorted(Path(folder).glob("*.jpg"))[:count]
        return
    with tempfile.TemporaryDirectory() as drawn:
        paths = [Path(drawn) / f"{i:04}.jpg" for i in range(count)]
        for i, path in enumerate(paths):
            draw_photograph(i).save(path, quality=90)
        yield paths


def folder(checkpoint: str, repeats: int, paths: list[Path]) -> None:
    """Measure the command line with all images."""
    with tempfile.TemporaryDirectory() as temporary:
        listed = Path(temporary) / "images.txt"
        listed.write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")
        words = [GENERATE, f"@{listed}", "--checkpoint", checkpoint, "--device", "cpu"]
        commands = ([*words, "--backend", backend] for backend in ("onnx", "torch"))
        ours, theirs = (lambda c=command: run_process(c) for command in commands)
        sides = alternate(ours, theirs, repeats)
    rates = (len(paths) / seconds for seconds in medians(sides, "seconds"))
    row("folder, images/s", *rates, f"--backend torch, {len(paths)} images")
    row("  peak memory, MB", *medians(sides, "memory"), "--backend torch")


def medians(sides: Sequence[Sequence[Usage]], field: str) -> list[float]:
    """Return the median of a field of each side's processes."""
    return [statistics.median(getattr(usage, field) for usage in side) for side in sides]


def installation(light: Path) -> None:
    """Print the size of the packages of two environments."""
    (packages,) = light.glob("lib/python*/site-packages")
    everything = Path(sysconfig.get_path("purelib"))
    row("installed, MB", size(packages), size(everything), "the environment of this script")


def size(folder: Path) -> float:
    """Return the megabytes of the files in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


if __name__ == "__main__":
    main()
