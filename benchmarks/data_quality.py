"""Measure recall and precision of `captioner check` on photographs with planted faults.

    python benchmarks/data_quality.py --flickr8k FOLDER --coco FOLDER --seed 0

A copy of Flickr8k's annotations, with links to its images, gets a fixed number of faults of each
kind. A copy of COCO-QA gets faults of questions. A finding is correct if its kind was planted in
the same row. Findings in other rows are counted as false, except true faults of Flickr8k, which
`NATURAL_KINDS`, `NATURAL_COPIES` and `NATURAL_TEXTS` name; `strict` counts these as false as well.
--hard draws other strengths: smaller and stronger crops, several edits at a time, shorter foreign
sentences. The generator of faults shares no list and no rule with the checks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from planted_faults import (  # noqa: E402
    Planted,
    World,
    plant_captions,
    plant_copies,
    plant_image_faults,
    plant_questions,
)
from planted_texts import NATURAL_TEXTS  # noqa: E402

from captioner.quality.audit import Audit, check_dataset  # noqa: E402

NATURAL_KINDS = {"repeated-caption", "unusual-length"}
"""Kinds that are true by definition: the caption occurs twice, or its length is an outlier."""
NATURAL_COPIES = {"3050606344_af711c726c.jpg"}
"""The image of Flickr8k that has a copy in it."""


def measure(
    audit: Audit, planted: Planted, natural: set[tuple[str, str, str]]
) -> list[tuple[str, float, float, float, list[str], list[str]]]:
    """Return recall, precision and strict precision by kind, missed variants and false findings."""
    sources = {source: copy for copy, source in planted["source"]}
    copies = {
        key[0] for kind in ("duplicate-image", "near-duplicate-image") for key in planted[kind]
    }
    rows = []
    for kind, faults in planted.items():
        if kind == "source":
            continue
        hit: set[tuple[str, str]] = set()
        true = false = real = 0
        wrong = []
        for finding in audit.findings:
            if finding.kind != kind:
                continue
            name = Path(finding.image).name
            text = "" if finding.kind.endswith(("image", "leak")) else finding.text.strip()
            if name not in copies and sources.get(name) in copies:
                name = sources[name]  # of two copies, the later one is reported
            keys = (
                {(name, text)} if kind != "empty-caption" else {k for k in faults if k[0] == name}
            )
            keys = keys if kind != "repeated-caption" else {k for k in faults if k[0] == name}
            if keys & faults.keys():
                hit |= keys & faults.keys()
                true += 1
            elif (kind, Path(finding.image).name, text) in natural:
                real += 1
            else:
                false += 1
                wrong.append(f"{name} {text[:60]!r}: {finding.explanation}")
        missed = [f"{k[1][:60]!r} {v}" for k, v in faults.items() if k not in hit]
        total = max(1, true + real + false)
        scores = len(hit) / len(faults), (true + real) / total, true / total
        rows.append((kind, *scores, missed, wrong))
    return rows


def list_natural(source: Path) -> set[tuple[str, str, str]]:
    """Return the true faults among the findings in the unchanged data set."""
    natural = set()
    for finding in check_dataset(source).findings:
        name, text = Path(finding.image).name, finding.text.strip()
        names = {name, Path(finding.other).name}
        is_copy = bool(names & NATURAL_COPIES)
        if finding.kind in NATURAL_KINDS or is_copy or text in NATURAL_TEXTS:
            natural.add((finding.kind, name, "" if is_copy else text))
    return natural


def measure_questions(audit: Audit, planted: Planted) -> list[tuple[str, float, float, list[str]]]:
    """Return recall, precision and the images of false findings by kind."""
    rows = []
    for kind, faults in planted.items():
        names = [Path(f.image).name for f in audit.findings if f.kind == kind]
        false = [name for name in names if (name, "") not in faults]
        hit = {name for name, _ in faults} & set(names)
        share = 1 - len(false) / max(1, len(names))
        rows.append((kind, len(hit) / len({name for name, _ in faults}), share, false))
    return rows


def main() -> None:
    """Parse the arguments, plant the faults and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--flickr8k", type=Path, required=True)
    parser.add_argument("--coco", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="Faults of each kind.")
    parser.add_argument("--hard", action="store_true", help="Draw other strengths.")
    parser.add_argument("--show", type=int, default=5, help="Errors of each kind to print.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = World(args.flickr8k, folder / "flickr", args.seed, args.count, args.hard)
        plant_image_faults(world)
        plant_copies(world)
        plant_captions(world)
        world.write()
        start = time.perf_counter()
        audit = check_dataset(folder / "flickr", held_out=world.held_out)
        seconds = time.perf_counter() - start
        print(f"{audit.images} images in {seconds:.0f} s")
        print(f"{'kind':24}{'recall':>8}{'precision':>11}{'strict':>8}")
        natural = list_natural(args.flickr8k)
        for kind, *scores, missed, wrong in measure(audit, world.planted, natural):
            print(f"{kind:24}{scores[0]:8.3f}{scores[1]:11.3f}{scores[2]:8.3f}")
            for line in missed[: args.show]:
                print(f"    missed {line}")
            for line in wrong[: args.show]:
                print(f"    false  {line}")
        others = [f for f in audit.findings if f.kind not in world.planted]
        print(f"findings of kinds that were not planted: {len(others)}")
        if args.coco:
            (folder / "questions").mkdir()
            planted = plant_questions(args.coco, folder / "questions", args.seed, args.count)
            audit = check_dataset(folder / "questions/questions.jsonl")
            for kind, recall, precision, false in measure_questions(audit, planted):
                print(f"{kind:24}{recall:8.3f}{precision:11.3f}")
                for line in false[: args.show]:
                    print(f"    false  {line}")


if __name__ == "__main__":
    main()
