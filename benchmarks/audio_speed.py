#!/usr/bin/env python
"""Time captions of recordings: `python benchmarks/audio_speed.py CHECKPOINT --images DIR`.

The caption of a recording by CHECKPOINT, a model of recordings, is compared with that of a
photograph by the bundled checkpoint: cold, as a process of the command line, and warm, in this
process. The runs alternate; the output is a Markdown table of medians and the median ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import captioner  # noqa: E402


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="model of recordings, with graphs")
    parser.add_argument("--recordings", type=Path, default=ROOT.parent / "shared/esc10/audio")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    recordings = sorted(args.recordings.iterdir())[: args.repeats]
    images = sorted(args.images.iterdir())[: args.repeats]
    pairs = list(zip(recordings, images, strict=True))
    print("| | recording | photograph | ratio |\n|---|---|---|---|")
    print_row("cold", pairs, lambda path: run(path, args.checkpoint), lambda path: run(path))
    audio, photo = captioner.load(args.checkpoint), captioner.load()
    audio.caption(recordings[0]), photo.caption(images[0])
    print_row("warm", pairs, audio.caption, photo.caption)


def run(path: Path, checkpoint: str = "bundled") -> None:
    """Caption one file in a new process."""
    command = [sys.executable, "generate.py", str(path.resolve()), "--checkpoint", checkpoint]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def print_row(
    name: str,
    pairs: list[tuple[Path, Path]],
    caption_recording: Callable[[Path], object],
    caption_image: Callable[[Path], object],
) -> None:
    """Time both functions in turn, and print a row of the table."""
    times = []
    for recording, image in pairs:
        start = time.perf_counter()
        caption_recording(recording)
        middle = time.perf_counter()
        caption_image(image)
        times.append((middle - start, time.perf_counter() - middle))
    ratio = median(first / second for first, second in times)
    first, second = (median(column) for column in zip(*times, strict=True))
    print(f"| {name} | {1000 * first:.0f} ms | {1000 * second:.0f} ms | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
