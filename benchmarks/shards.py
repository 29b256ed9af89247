#!/usr/bin/env python
"""Measure shards: time and memory to index them, samples and steps: `benchmarks/shards.py`.

- Index: synthetic tar files with tiny members, a text file each, are read by a new process up to
  the training and validation rows and the images of `ImageDataset`: without an index, and with the
  cached one. The memory is the peak of the process, and what its imports take is listed beside it.
- Samples: the same drawn photographs, decoded, resized and augmented as in training, from tar files
  and from a folder.
- Steps: whole training steps of 32 images, which include reading them in the same process, with the
  small model of `benchmarks/train.py`. Both sides train the same weights on the same batches.

The runs of both sides alternate. The script prints the median of each and their ratio.

    python benchmarks/shards.py                     # a million rows, 3 GB in --folder
    python benchmarks/shards.py --rows 100000 --images 200
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from caption import describe_machine, draw_photograph, medians  # noqa: E402

SHARD = 10_000
_PROBE = """
import json, resource, sys, time
def memory():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
import datasets, torch
from captioner.config import load_config
from captioner.data.row_groups import RowGroups
from captioner.data.row_digest import digest_rows
from captioner.data.splits import read_splits
before, start = memory(), time.perf_counter()
_, train, val, _ = read_splits(load_config(None, ["data.root=" + sys.argv[1]]))
images = RowGroups(train)
read = time.perf_counter()
digest_rows(train, val)
end = time.perf_counter()
print(json.dumps([len(train), len(val), read - start, end - read, before, memory()]))
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to index")
    parser.add_argument("--images", type=int, default=500, help="photographs of the other tables")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=21, help="training steps of each side")
    parser.add_argument("--folder", type=Path, help="folder of the data (default: temporary)")
    args = parser.parse_args()
    if args.steps and 0 < args.images < 32:
        parser.error("--images must be at least 32, which is a batch, unless --steps is 0")
    print(describe_machine())
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        os.environ["HF_HOME"] = str(folder / "cache")
        if args.rows:
            print_index(folder / "rows", args.rows)
        if args.images:
            write_photographs(folder, args.images)
            print_samples(folder, args.images, args.repeats)
        if args.images and args.steps:
            print_steps(folder, args.steps)


def print_index(folder: Path, rows: int) -> None:
    """Write synthetic shards, and print the time and memory that reading their rows takes."""
    rng = random.Random(0)
    for first in range(0, rows, SHARD):
        count = min(SHARD, rows - first)
        members = ((f"{n:09d}", rng.randbytes(rng.randrange(100, 900)), n) for n in range(count))
        write_shard(folder / f"train-{first // SHARD:05d}.tar", members)
    print("\n| | rows | seconds | of them digest | peak memory | imports alone |")
    print("|---|---|---|---|---|---|")
    for kind in ("new index", "cached index"):
        command = [sys.executable, "-c", _PROBE, str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        train, val, read, digest, before, peak = json.loads(done.stdout)
        times = f"{read + digest:.1f} | {digest:.1f}"
        print(f"| {kind} | {train + val:,} | {times} | {peak:.0f} MB | {before:.0f} MB |")


def write_shard(path: Path, rows: Iterator[tuple[str, bytes, int]]) -> None:
    """Write a tar file of images with a caption each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, image, number in rows:
            caption = f"a brown dog with the number {number} runs along the beach".encode()
            for suffix, data in ((".jpg", image), (".txt", caption)):
                info = tarfile.TarInfo(f"{key}{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            tar.members.clear()


def write_photographs(folder: Path, count: int) -> None:
    """Write the same photographs in the same order as a folder and as five tar files."""
    photographs = []
    for number in range(count):
        file = io.BytesIO()
        draw_photograph(number).save(file, "JPEG", quality=90)
        photographs.append((f"{number:05d}", file.getvalue(), number))
    plain = folder / "plain"
    plain.mkdir()
    for key, image, number in photographs:
        (plain / f"{key}.jpg").write_bytes(image)
        (plain / f"{key}.txt").write_text(f"a brown dog with the number {number}")
    size = -(-count // 5)
    for shard in range(5):
        part = photographs[shard * size : (shard + 1) * size]
        write_shard(folder / "tars" / f"{shard}.tar", iter(part))


def print_samples(folder: Path, count: int, repeats: int) -> None:
    """Print the samples per second from tar files and from a folder of the same images."""
    sets = {name: build_dataset(folder / name) for name in ("plain", "tars")}
    runs = {name: (lambda data=data: read_all(data)) for name, data in sets.items()}
    print_ratio("samples per second", count, medians(runs, repeats))


def print_steps(folder: Path, steps: int) -> None:
    """Print the training steps per second from tar files and from a folder of the same images."""
    from our_loop import Ours, words_for

    words = [*words_for("small"), "data.val_splits=[train]", "tokenizer.vocab_size=400"]
    words.append("train.stages=[{lr: 5.0e-4, encoder_lr: 1.0e-4}]")
    runs = {}
    for name in ("plain", "tars"):
        options = argparse.Namespace(data=folder / name, cache=folder / "cache", precision="no")
        ours = Ours(options, *words)
        batches = ours.batches()
        runs[name] = lambda ours=ours, batches=batches: ours.step(next(batches))
    print_ratio("training steps per second", 1, medians(runs, steps))


def print_ratio(unit: str, count: int, seconds: dict[str, float]) -> None:
    """Print the rates of both sides as a table."""
    print(f"\n| | {unit} |\n|---|---|")
    for name, label in (("plain", "folder"), ("tars", "tar files")):
        print(f"| {label} | {count / seconds[name]:.3g} |")
    print(f"| ratio | {seconds['plain'] / seconds['tars']:.3f} |", flush=True)


def build_dataset(root: Path) -> Any:
    """Return the training samples of a data set, with the bundled tokenizer."""
    from captioner.checkpoint import resolve_checkpoint
    from captioner.data import read_dataset
    from captioner.data.dataset import Augmentation, ImageDataset
    from captioner.images.transforms import PixelSpec
    from captioner.tokenizer import Tokenizer

    rows, _ = read_dataset(root)
    rows = rows.add_column("source", [0] * len(rows))
    return ImageDataset(
        rows,
        spec=PixelSpec((224, 224), mean=(0.5,) * 3, std=(0.5,) * 3),
        tokenizer=Tokenizer.load(resolve_checkpoint("bundled") / "tokenizer.model"),
        max_length=40,
        augmentation=Augmentation(min_scale=0.6, flip=True, jitter=0.2),
    )


def read_all(data: Any) -> None:
    """Read the samples of an epoch in random order, in this process."""
    from captioner.data.dataset import Key

    order = list(range(len(data)))
    random.Random(0).shuffle(order)
    for index in order:
        if data[Key(0, index)].image is None:
            raise RuntimeError(f"{data.images[index]}: no image")


if __name__ == "__main__":
    main()
