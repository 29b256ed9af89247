"""Compare captioning with named peers, as ratios of medians: `python benchmarks/caption.py`.

- Latency: one image from its path with a loaded model, against transformers (see peer.py).
- Throughput: 200 photographs of 640 x 480 from the command line, against peer.py, and against
  itself without `keep_freed_memory`.

The captioner runs on the CPU by ONNX Runtime, or by torch with `--backend torch`; runtimes.py
compares them. The measurements of both sides alternate, so that other load on the machine affects
both. The peer makes as many decoding steps as the captioner for the same images.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

IMAGE = ROOT / "examples" / "beach.jpg"
BATCH = 16
# Python writes compiled modules (the default).
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


class Usage(NamedTuple):
    """What a process has used."""

    seconds: float
    """From its start to its end."""
    memory: float
    """Its peak resident megabytes."""
    cpu_seconds: float


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR")
    parser.add_argument("--backend", default="onnx", choices=("onnx", "torch"))
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each side")
    parser.add_argument(
        "--images", type=int, default=200, metavar="N", help="images for the throughput"
    )
    args = parser.parse_args()
    print(describe_machine(), end="\n\n")
    print(f"{'':24} {'captioner':>12} {'peer':>12} {'ratio':>7}  peer")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i:03}.jpg" for i in range(args.images)]
        for i, path in enumerate(paths):
            draw_photograph(i).save(path, quality=90)
        latency(args.checkpoint, args.backend, args.repeats)
        throughput(args.checkpoint, args.backend, args.repeats, paths)


def latency(checkpoint: str, backend: str, repeats: int) -> None:
    """Measure the captioning of single images in one process."""
    from peer import Peer

    import captioner
    from captioner.config.decoding_options import TTA_VIEWS

    options = {"backend": backend, "device": "cpu"}
    models = {views: captioner.load(checkpoint, **options, tta=views) for views in TTA_VIEWS}
    peer, (steps,) = Peer(checkpoint), count_steps(models[1], [IMAGE])
    # A run makes several captions, because one takes milliseconds.
    several = range(10)
    runs = {n: lambda m=model: [m.caption(IMAGE) for _ in several] for n, model in models.items()}
    runs["peer"] = lambda: [peer.caption([IMAGE], steps) for _ in several]
    times = {name: 1000 * s / len(several) for name, s in medians(runs, repeats).items()}
    sides = times[1], times["peer"]
    row("latency, ms", *sides, f"timm + transformers, {steps} steps of beam {peer.beams}")
    row("  per step, ms", *(x / steps for x in sides), "encoder included")
    for views in TTA_VIEWS[1:]:
        row(f"  with {views} views, ms", times[views], times[1], "one view")


def throughput(checkpoint: str, backend: str, repeats: int, paths: list[Path]) -> None:
    """Measure the command line from start to end."""
    import captioner

    model = captioner.load(checkpoint, backend=backend, device="cpu")
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    mean = round(statistics.mean(count_steps(model, batches)))
    common = ["--checkpoint", checkpoint, "--batch-size", str(BATCH)]
    ours = [str(ROOT / "generate.py"), str(paths[0].parent), *common]
    ours += ["--backend", backend, "--device", "cpu"]
    peer = [str(ROOT / "benchmarks" / "peer.py"), *map(str, paths), *common, "--steps", str(mean)]
    beside = f"timm + transformers, batch {BATCH}, {mean} steps"
    # An empty GLIBC_TUNABLES disables `keep_freed_memory`.
    itself = "the same without captioner.cli.process.keep_freed_memory"
    for name, other, note in (
        ("throughput, images/s", lambda: run_process(peer), beside),
        ("  beside itself", lambda: run_process(ours, GLIBC_TUNABLES=""), itself),
    ):
        sides = alternate(lambda: run_process(ours), other, repeats)
        rates = [len(paths) / statistics.median(x.seconds for x in side) for side in sides]
        row(name, *rates, note)


def alternate(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int
) -> tuple[list[Any], list[Any]]:
    """Run both sides alternately; return the results without the first one, a warm-up."""
    results: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(repeats + 1):
        for side, run in zip(results, (ours, theirs), strict=True):
            side.append(run())
    return results[0][1:], results[1][1:]


def run_process(words: list[str], **variables: str) -> Usage:
    """Run a Python process; return what it has used."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], env=ENVIRONMENT | variables, stdout=subprocess.DEVNULL
    )
    # Unlike getrusage, wait4 reports on this child alone.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"benchmark: {' '.join(words[:2])} ended with status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(seconds, usage.ru_maxrss * unit / 1e6, usage.ru_utime + usage.ru_stime)


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds that a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each function, run alternately after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            times[name].append(timed(run))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def count_steps(model: Any, batches: Iterable[Any]) -> list[int]:
    """Return the number of search steps of each batch of images."""
    backend, counts = model.backend, []
    start = backend.start

    def start_counting(*args: Any, **options: Any) -> Any:
        state = start(*args, **options)
        counts.append(0)
        step = state.step

        def count_step(tokens: Any) -> Any:
            counts[-1] += 1
            return step(tokens)

        state.step = count_step
        return state

    backend.start = start_counting
    for batch in batches:
        model.caption(batch)
    del backend.start
    return counts


def draw_photograph(seed: int) -> Any:
    """Return an image like a photograph: 640 x 480, about 100 kB of JPEG."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    total = np.zeros((480, 640, 3), dtype=np.float32)
    for scale, weight in ((160, 60), (40, 40), (10, 25), (1, 6)):
        noise = rng.normal(128, 64, (480 // scale, 640 // scale, 3)).clip(0, 255)
        layer = Image.fromarray(noise.astype(np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
        total += weight / 131 * np.asarray(layer, dtype=np.float32)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def describe_machine() -> str:
    """Return the processor, its load and the versions of the libraries."""
    from importlib.metadata import version

    names = ("torch", "onnxruntime", "timm", "transformers")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{processor()}, {cores} cores (load {os.getloadavg()[0]:.1f});"
        f" Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    """Return the name of the processor, as far as it is known."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def row(name: str, ours: float, theirs: float, note: str) -> None:
    """Print one line of the table."""
    print(f"{name:24} {ours:12.4g} {theirs:12.4g} {ours / theirs:7.2f}  {note}", flush=True)


if __name__ == "__main__":
    main()
