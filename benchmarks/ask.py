#!/usr/bin/env python
"""Compare the first and the second question about an image: `python benchmarks/ask.py`.

In a session (`generate.py --ask`), the image is read and encoded once. The script alternately
measures the first question, including reading and encoding, and the second question. It prints the
medians and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import captioner  # noqa: E402

QUESTIONS = ("what color is the dog?", "is there a person in the picture?")


def main() -> None:
    """Measure both and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", default=str(ROOT / "examples" / "dog.jpg"))
    parser.add_argument("--backend", default="onnx", choices=("onnx", "torch"))
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    model = captioner.load(backend=args.backend, device="cpu")
    first, second = [], []
    for _ in range(args.repeats + 3):
        image, seconds = timed(lambda: model.encode(args.image))
        _, answering = timed(lambda image=image: model.ask(image, QUESTIONS[0]))
        first.append(seconds + answering)
        second.append(timed(lambda image=image: model.ask(image, QUESTIONS[1]))[1])
    # The first three rounds warm the caches.
    before, after = (1000 * statistics.median(times[3:]) for times in (first, second))
    print(f"first question {before:.1f} ms, second {after:.1f} ms, ratio {after / before:.2f}")


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a function and the seconds that it took."""
    started = time.perf_counter()
    return run(), time.perf_counter() - started


if __name__ == "__main__":
    main()
