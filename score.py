#!/usr/bin/env python
"""Score captions: `python score.py CANDIDATES --references PATH`, or --checkpoint DIR instead.

CANDIDATES is JSONL (generate.py --jsonl writes it), JSON (a list of rows, as COCO's result files,
or an object of id: caption) or - for stdin. A row has a caption and says which image it is about
by image_id, else id, both of which must equal the reference's, else image, a path that may differ
from the reference's in its leading folders. With --checkpoint the images are captioned first.

Printed is a table, values x 100 with one decimal as papers have them, or, with --json, an object
with the values themselves. Exit status: 0 all done, 1 nothing done, 2 usage, 3 scored, but without
some images that could not be read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import Counter
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from captioner.cli import guarded, positive
from captioner.errors import CaptionerError, DataError

if TYPE_CHECKING:
    from captioner.data import Example

PROG = "score.py"
DEFAULT_SPLIT = "val"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return guarded(run, parse(argv), PROG)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; exits with status 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("candidates", nargs="?", metavar="CANDIDATES", help="JSONL, JSON or -")
    parser.add_argument("--references", required=True, metavar="PATH", help="data set or its file")
    parser.add_argument("--format", default="auto", metavar="NAME", help="of the data set")
    parser.add_argument(
        "--split",
        action="append",
        metavar="NAME[,NAME]",
        help="which images; default: val, or the only split that the data set has",
    )
    parser.add_argument("--images", metavar="DIR", help="folder of the data set's images")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    group = parser.add_argument_group("captioning first")
    group.add_argument("--checkpoint", metavar="DIR", help="a checkpoint folder, or bundled")
    group.add_argument("--output", metavar="FILE", help="keep the captions as JSONL")
    group.add_argument("--beam-size", type=positive, metavar="N")
    group.add_argument("--batch-size", type=positive, default=16, metavar="N", help="images")
    group.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps ...")
    group.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    args = parser.parse_args(argv)
    if (args.candidates is None) == (args.checkpoint is None):
        parser.error("give either CANDIDATES or --checkpoint")
    if args.output and not args.checkpoint:
        parser.error("--output needs --checkpoint")
    return args


def run(args: argparse.Namespace) -> int:
    """Read or make the candidates, score and print them; returns the exit status."""
    from captioner.data.candidates import match, read_candidates
    from captioner.metrics import score_captions

    # Before the data set, which may be large: a torn file is told of at once.
    rows = list(read_candidates(args.candidates)) if args.candidates else None
    references = read_references(args)
    status = 0
    if rows is None:
        candidates = caption(references, args)
        status = 0 if len(candidates) == len(references) else 3
        references = [r for r in references if r.image_id in candidates]
    else:
        candidates = match(rows, references, source=args.candidates)
    texts = {r.image_id: r.references for r in references}
    scores = score_captions(candidates, texts)
    counts = {"images": len(texts), "references": sum(map(len, texts.values()))}
    if args.json:
        print(json.dumps(scores | counts))
    else:
        print(f"{'metric':<10} {'x 100':>6}")
        for name, value in scores.items():
            print(f"{name:<10} {100 * value:6.1f}")
        say(f"{counts['images']} images, {counts['references']} references")
    return status


def read_references(args: argparse.Namespace) -> list[Example]:
    """The images of the wanted splits; raises DataError."""
    from captioner.data import Example, read_dataset

    splits = [name for word in args.split or () for name in word.split(",")] or None
    where = {"format": args.format, "images": args.images, "check_images": False}
    rows, report = read_dataset(args.references, splits=splits, **where)
    if report:
        say(report.summary())
    counts = Counter(rows["split"])
    wanted = set(counts)
    if splits is None and len(counts) > 1:
        wanted = {DEFAULT_SPLIT}
        if DEFAULT_SPLIT not in counts:
            there = ", ".join(f"{split} ({count})" for split, count in counts.items())
            raise DataError(f"{args.references}: has the splits {there}; choose with --split")
    examples = (Example(**row | {"references": tuple(row["references"])}) for row in rows)
    return [example for example in examples if example.split in wanted]


def caption(references: list[Example], args: argparse.Namespace) -> dict[str, str]:
    """Caption the images; by id, without those that cannot be read, which are named."""
    from tqdm import tqdm

    from captioner.predict import load

    captioner = load(args.checkpoint, device=args.device, dtype=args.dtype)
    options = {"batch_size": args.batch_size, "beam_size": args.beam_size}
    results = captioner.caption_stream((r.image for r in references), **options)
    found, bar = {}, tqdm(references, unit="image", disable=not sys.stderr.isatty())
    with output(args.output) as file:
        for r, result in zip(bar, results, strict=True):
            row = {"image_id": r.image_id, "image": r.image}
            if result.error is None:
                found[r.image_id] = result.text
                row |= {"caption": result.text, "score": round(result.best.score, 4)}
            else:
                tqdm.write(f"{PROG}: {result.error}", file=sys.stderr)
                row["error"] = str(result.error)
            if file:
                print(json.dumps(row, ensure_ascii=False), file=file, flush=True)
    if not found:
        raise DataError(f"{args.references}: none of its {len(references)} images can be read")
    if len(found) < len(references):
        say(f"scored without {len(references) - len(found)} images that cannot be read")
    return found


def output(path: str | None) -> AbstractContextManager[Any]:
    """The file to write to, or None; raises CaptionerError when it cannot be written."""
    try:
        return open(path, "w", encoding="utf-8") if path else contextlib.nullcontext()
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be written: {error.strerror}") from None


def say(message: object) -> None:
    """One message on stderr, each of its lines with the program's name."""
    for line in str(message).splitlines():
        print(f"{PROG}: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
