#!/usr/bin/env python
"""Measure how many recordings a model names correctly: `python benchmarks/sounds.py CHECKPOINT`.

The recordings are those of one fold of ESC-10, which `configs/esc10.yaml` does not train on. A
caption is correct if it contains the label of its recording and no other label. The control gives
each caption to another recording, drawn at random.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import captioner  # noqa: E402


def main() -> None:
    """Caption the recordings and print both shares, and the confused labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "esc10")
    parser.add_argument("--fold", type=int, default=4)
    parser.add_argument("--backend", default="auto", choices=("auto", "onnx", "torch"))
    args = parser.parse_args()
    lines = (args.data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["fold"] == args.fold]
    labels = [row["label"] for row in rows]
    model = captioner.load(args.checkpoint, backend=args.backend)
    results = model.caption([str(args.data / row["file_name"]) for row in rows])
    named = [find_labels(result.text, sorted(set(labels))) for result in results]
    wrong = [pair for pair in zip(labels, named, strict=True) if pair[1] != [pair[0]]]
    random.Random(0).shuffle(named)
    chance = share_correct(labels, named)
    correct = 1 - len(wrong) / len(labels)
    print(f"{len(labels)} recordings, named correctly {correct:.3f}, shuffled {chance:.3f}")
    for label, names in wrong:
        print(f"{label}: {', '.join(names) or 'no label'}")


def find_labels(caption: str, labels: Sequence[str]) -> list[str]:
    """Return the labels that a caption contains."""
    return [label for label in labels if label in caption]


def share_correct(labels: Sequence[str], named: Sequence[Sequence[str]]) -> float:
    """Return the share of recordings of which exactly the right label is named."""
    pairs = zip(labels, named, strict=True)
    return sum(list(names) == [label] for label, names in pairs) / len(labels)


if __name__ == "__main__":
    main()
