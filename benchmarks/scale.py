"""Compare `captioner scale` with `captioner caption FOLDER`: `python benchmarks/scale.py`.

- Throughput: the same photographs as tars and as files of a folder, from start to end of the
  commands, interleaved. The start-up, which these times include, is that of the commands with one
  photograph. With several GPUs or machines, only the former uses all of them.
- Memory: the peak of the driver for two numbers of rows, of images of 8 x 8 pixels with captions of
  two tokens. A small checkpoint (`--checkpoint`) makes this faster.

`--photos FOLDER` takes the photographs from a folder, in the order of their names; without it, they
are drawn. `--images 5000 --shards 50 --rows` compares 5,000 photographs in 50 tars and leaves out
the memory; the photographs are written twice.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from caption import (  # noqa: E402
    Usage,
    alternate,
    describe_machine,
    draw_photograph,
    row,
    run_process,
)

from captioner.files import IMAGE_SUFFIXES  # noqa: E402


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR")
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=1000, metavar="N")
    parser.add_argument("--shards", type=int, default=20, metavar="N", help="number of tars")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each side")
    parser.add_argument("--threads", default=str(os.cpu_count()), help="threads of the worker")
    text = "numbers of rows for the memory of the driver; without any, it is not measured"
    parser.add_argument("--rows", type=int, nargs="*", default=[5000, 50_000], help=text)
    args = parser.parse_args()
    print(describe_machine(), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        throughput(args, Path(folder))
        for rows in args.rows:
            print(f"driver memory, {rows} rows: {measure_memory(args, Path(folder), rows):.0f} MB")


def throughput(args: argparse.Namespace, folder: Path) -> None:
    """Print the start-up and the images per second of both commands."""
    count = write_photographs(args, folder / "all", args.images, args.shards)
    write_photographs(args, folder / "one", 1, 1)
    outputs = itertools.count()
    module = ["-m", "captioner"]
    common = ["--checkpoint", args.checkpoint, "--device", "cpu"]
    workers = ["--workers", "1", "--threads", args.threads]

    def scale(inputs: str) -> Usage:
        out = str(folder / f"out-{next(outputs)}")
        tars = str(folder / inputs / "tars")
        return run_process([*module, "scale", tars, out, *common, *workers])

    def caption(inputs: str) -> Usage:
        out = str(folder / f"out-{next(outputs)}.jsonl")
        photos = str(folder / inputs / "photos")
        return run_process([*module, "caption", photos, "--output", out, *common])

    print(f"{'':24} {'scale':>12} {'caption':>12} {'ratio':>7}  peer")
    uses = alternate(lambda: scale("one"), lambda: caption("one"), args.repeats)
    start = [statistics.median(use.seconds for use in side) for side in uses]
    row("start-up, s", *start, "captioner caption, 1 image")
    runs = [(scale("all").seconds, caption("all").seconds) for _ in range(args.repeats)]
    for seconds in runs:
        row("a run, s", *seconds, f"captioner caption FOLDER, {count} images")
    total = [statistics.median(side) for side in zip(*runs, strict=True)]
    row("images/s", *(count / t for t in total), "median, with the start-up")
    rates = (count / (t - s) for t, s in zip(total, start, strict=True))
    row("images/s", *rates, "median, without the start-up")


def write_photographs(args: argparse.Namespace, folder: Path, most: int, shards: int) -> int:
    """Write photographs as files of `photos` and as `tars`; return their number."""
    photos, tars = folder / "photos", folder / "tars"
    photos.mkdir(parents=True)
    tars.mkdir()
    for i, content in enumerate(itertools.islice(read_photographs(args.photos), most)):
        (photos / f"{i:06}.jpg").write_bytes(content)
    names = sorted(photos.iterdir())
    each = -(-len(names) // shards)
    for i in range(0, len(names), each):
        members = {path.name: path.read_bytes() for path in names[i : i + each]}
        write_tar(tars / f"{i // each:04}.tar", members)
    return len(names)


def measure_memory(args: argparse.Namespace, folder: Path, rows: int) -> float:
    """Return the peak resident megabytes of the driver for a number of small images."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    tars = folder / f"rows-{rows}"
    tars.mkdir()
    each = 500
    for i in range(-(-rows // each)):
        count = min(each, rows - i * each)
        write_tar(
            tars / f"{i:05}.tar", {f"{i:05}-{j:03}.png": file.getvalue() for j in range(count)}
        )
    words = ["-m", "captioner", "scale", str(tars), str(folder / f"out-{rows}")]
    words += ["--checkpoint", args.checkpoint, "--beam-size", "1", "--max-length", "2"]
    return run_process([*words, "--batch-size", "64", "--device", "cpu"]).memory


def read_photographs(folder: Path | None) -> Iterator[bytes]:
    """Return the files of different photographs: those of a folder, or drawn ones."""
    if folder is not None:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        return map(Path.read_bytes, paths)
    return map(draw_file, itertools.count())


def draw_file(seed: int) -> bytes:
    """Return the JPEG of a drawn photograph."""
    file = io.BytesIO()
    draw_photograph(seed).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    """Write a tar with files by name."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


if __name__ == "__main__":
    main()
