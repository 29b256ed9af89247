#!/usr/bin/env python
"""Compare training with a plain transformers loop, as ratios: `python benchmarks/train.py`.

- Captions per second, end to end and with a frozen encoder, against a loop over transformers'
  `VisionEncoderDecoderModel` with dynamic padding: the same timm encoder, decoder, weights and
  captions per step (160). Sizes are the defaults (ViT-Small, width 512, 4 layers) and small
  (ViT-Tiny, width 384, 3 layers). The loop has one row per caption, as in tutorials. `step`
  measures from tensors in memory, `loop` from files. First, both losses for the same batch are
  compared in float32.
- A step of self-critical training against a cross-entropy step on the same images, with the
  bundled model, and the share of the reward.

The measurements of both sides alternate. The script prints medians.

    python benchmarks/train.py --data FLICKR8K    # default: drawn images with random captions
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from caption import describe_machine, draw_photograph, medians  # noqa: E402
from our_loop import CAPTIONS, IMAGES, SIZES, Ours, words_for  # noqa: E402
from peer_loop import repeat_images  # noqa: E402


def main() -> None:
    """Measure all parts and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="a captioned data set; default: drawn")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--only", choices=("peer", "scst"), help="one of the parts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(describe_machine(), end=f", {args.threads} threads, precision {args.precision}\n\n")
    with tempfile.TemporaryDirectory() as folder:
        args.cache = folder
        args.data = args.data or write_random_dataset(Path(folder) / "data", images=256)
        if args.only in (None, "peer"):
            same_losses(args)
            print(f"{'captions/s':32} {'captioner':>10} {'peer':>10} {'ratio':>7}  aim")
            for sizes in SIZES:
                compare_throughput(args, sizes, frozen=False, aim=3)
                compare_throughput(args, sizes, frozen=True, aim=8)
        if args.only in (None, "scst"):
            self_critical(args)


def write_random_dataset(folder: Path, *, images: int) -> Path:
    """Write drawn images with five captions of about 11 words each, as in Flickr8k."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(2000)]
    folder.mkdir()
    rows = []
    for i in range(images):
        draw_photograph(i).save(folder / f"{i:04}.jpg", quality=90)
        for _ in range(CAPTIONS):
            count = min(28, max(4, round(rng.gauss(11, 4))))
            # The first words of the list are sampled more often, as in real text.
            picked = [words[int(len(words) * rng.random() ** 4)] for _ in range(count)]
            rows.append({"file_name": f"{i:04}.jpg", "text": " ".join(picked)})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


def same_losses(args: argparse.Namespace) -> None:
    """Compare the losses of three steps in float32 without dropout; exit if they differ."""
    words = ["model.dropout=0", "train.stages=[{lr: 0.0, encoder_lr: 1.0e-9}]"]
    ours = Ours(args, *words_for("small"), *words, precision="no")
    peer = ours.build_peer(frozen=False, dropout=0.0)
    for batch in islice(ours.batches(), 3):
        one, two = ours.step(batch), peer.loss(repeat_images(batch)).item()
        print(f"loss a token: {one:.6f} and {two:.6f}")
        if abs(one - two) > 1e-4:
            sys.exit("benchmark: the two models do not compute the same")
    print()


def compare_throughput(args: argparse.Namespace, sizes: str, *, frozen: bool, aim: float) -> None:
    """Print the captions per second of both sides."""
    rates = "lr: 5.0e-4, cached_views: 1" if frozen else "lr: 5.0e-4, encoder_lr: 1.0e-4"
    ours = Ours(args, *words_for(sizes), "model.dropout=0.1", f"train.stages=[{{{rates}}}]")
    peer = ours.build_peer(frozen=frozen, dropout=0.1)
    name = f"{sizes}, {'frozen encoder' if frozen else 'end to end'}"
    mine, others = ours.batches(), peer.batches()
    kept, other = list(islice(mine, 4)), [next(others)]
    turn = iter(range(10**9))
    times = medians(
        {
            "step": lambda: ours.step(kept[next(turn) % len(kept)]),
            "peer step": lambda: peer.step(other[0]),
            "loop": lambda: ours.step(next(mine)),
            "peer loop": lambda: peer.step(next(others)),
        },
        args.repeats,
    )
    count = IMAGES * CAPTIONS
    for kind in ("step", "loop"):
        rates = [count / times[kind], count / times[f"peer {kind}"]]
        ratio = rates[0] / rates[1]
        print(
            f"{f'{name}, {kind}':32} {rates[0]:10.1f} {rates[1]:10.1f} {ratio:7.2f}  >= {aim}",
            flush=True,
        )


def self_critical(args: argparse.Namespace) -> None:
    """Compare a self-critical step with a cross-entropy step on the same images."""
    print(f"\n{'ms per step, 32 images':28} {'SCST':>10} {'CE':>10} {'ratio':>7}  reward's share")
    for name, rates in (
        ("frozen encoder, cached features", "lr: 1.0e-9, cached_views: 1"),
        ("end to end", "lr: 1.0e-9, encoder_lr: 1.0e-9"),
    ):
        words = ["train.start=bundled", "data.val_share=0.1"]
        ce, scst = (
            Ours(args, *words, f"train.stages=[{{objective: {objective}, {rates}}}]")
            for objective in ("cross_entropy", "scst")
        )
        batches = list(islice(ce.batches(), args.repeats + 1))
        reward = Timed(scst.objective.reward)
        scst.objective.reward = reward
        turns = [iter(batches), iter(batches)]
        times = medians(
            {
                "scst": lambda s=scst, t=turns[0]: s.step(next(t)),
                "ce": lambda s=ce, t=turns[1]: s.step(next(t)),
            },
            args.repeats,
        )
        share = statistics.median(reward.times[1:]) / times["scst"]
        both = [1000 * times["scst"], 1000 * times["ce"]]
        ratio = both[0] / both[1]
        print(f"{name:28} {both[0]:10.0f} {both[1]:10.0f} {ratio:7.2f}  {share:.1%}", flush=True)
    print(f"{'aim':28} {'':21} {'<= 4':>7}  <= 10 %")


class Timed:
    """A function that records the seconds of each call."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run, self.times = run, []

    def __call__(self, *args: Any) -> Any:
        """Call the function and note its time."""
        started = time.perf_counter()
        result = self.run(*args)
        self.times.append(time.perf_counter() - started)
        return result


if __name__ == "__main__":
    main()
