#!/usr/bin/env python
"""Caption images: `python generate.py PATH...`, where PATH is an image, a folder, a glob or -.

One image prints its caption alone, several print path and caption, tab-separated; --jsonl prints
an object a line. Exit status: 0 all done, 1 nothing done, 2 usage, 3 some inputs failed.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from captioner.cli import guarded, positive

if TYPE_CHECKING:
    from captioner.predict import Result

# fmt: off
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".ico",
)
# fmt: on
STDIN = "-"
PROG = "generate.py"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return guarded(run, parse(argv), PROG)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; exits with status 2 where they are wrong."""
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image, folder, glob or - (stdin)")
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR", help="default: bundled")
    parser.add_argument("--beam-size", type=positive, metavar="N", help="at least num-captions")
    parser.add_argument("--num-captions", type=positive, default=1, metavar="N", help="per image")
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="images")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps ...")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--jsonl", action="store_true", help="one JSON object a line")
    return parser.parse_intermixed_args(argv)


def expand(paths: Iterable[str]) -> Iterator[str]:
    """Folders to their images, globs to what matches, the rest as it is.

    What leads to no image is kept: it fails by name where the others are captioned.
    """
    for path in paths:
        found = []
        if os.path.isdir(path):
            names = (entry.path for entry in os.scandir(path))
            found = sorted(name for name in names if name.lower().endswith(SUFFIXES))
        elif not os.path.lexists(path) and glob.has_magic(path):
            found = sorted(glob.glob(path, recursive=True))
        yield from found or [path]


def run(args: argparse.Namespace) -> int:
    """Caption the paths and print what comes; returns the exit status."""
    # Imported here so that --help costs no torch.
    from captioner.predict import load

    paths = list(expand(args.paths))
    captioner = load(args.checkpoint, device=args.device, dtype=args.dtype)
    sources = (sys.stdin.buffer.read() if path == STDIN else path for path in paths)
    results = captioner.caption_stream(
        sources,
        num_captions=args.num_captions,
        batch_size=args.batch_size,
        # A search returns as many captions as it has beams.
        beam_size=max(args.num_captions, args.beam_size or captioner.config.decoding.beam_size),
    )
    failed = 0
    for path, result in progress(zip(paths, results, strict=True), len(paths)):
        failed += result.error is not None
        if result.error is not None:
            print(f"{PROG}: {result.error}", file=sys.stderr)
        for line in lines(path, result, alone=len(paths) == 1, as_json=args.jsonl):
            print(line, flush=args.jsonl)
    return 0 if not failed else 1 if failed == len(paths) else 3


def lines(path: str, result: Result, *, alone: bool, as_json: bool) -> Iterator[str]:
    """What is printed for one image."""
    if as_json:
        yield json.dumps(record(path, result), ensure_ascii=False)
        return
    for caption in result.captions:
        text = " ".join(caption.text.split())
        yield text if alone else f"{printable(path)}\t{text}"


def record(path: str, result: Result) -> dict[str, Any]:
    """The JSON object of one image."""
    found: dict[str, Any] = {"image": decodable(path)}
    if result.error is not None:
        return found | {"error": str(result.error)}
    found |= {"caption": result.text, "score": round(result.best.score, 4)}
    if len(result.captions) > 1:
        found["captions"] = [
            {"caption": c.text, "score": round(c.score, 4)} for c in result.captions
        ]
    return found


def decodable(path: str) -> str:
    """The path as valid Unicode, whatever bytes its name holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(path: str) -> str:
    """The path on one line and in one column."""
    return decodable(path).translate({ord(c): repr(c)[1:-1] for c in "\n\r\t"})


def progress(items: Iterable[Any], total: int) -> Iterator[Any]:
    """The items, with a bar on a terminal's stderr where there are many."""
    if total == 1 or not sys.stderr.isatty():
        return iter(items)
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit="image", file=sys.stderr))


if __name__ == "__main__":
    sys.exit(main())
