"""Print captions from the best to the worst, chosen by a rule: `python benchmarks/gallery.py`.

The held-out images of a captioned data set are sorted by the CIDEr-D of the captions of a
checkpoint and divided into equal groups. The middle image of each group is printed with its caption
and its first reference, as a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]


def main() -> None:
    """Caption the held-out images and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR")
    parser.add_argument("--only", default="captions", metavar="NAME", help="name of the data set")
    parser.add_argument("--count", type=int, default=12, metavar="N", help="images to print")
    args = parser.parse_args()

    import captioner
    from captioner.checkpoint import CONFIG, resolve_checkpoint
    from captioner.config import load_config
    from captioner.evaluation.tasks import read_held_out
    from captioner.metrics import score_images

    config = load_config(resolve_checkpoint(args.checkpoint) / CONFIG)
    [task], _ = read_held_out(config, only=args.only)
    rows = {row.image: row for row in task.rows}
    results = captioner.load(args.checkpoint).caption(list(rows))
    best = {image: result.best for image, result in zip(rows, results, strict=True)}
    scores = score_images(
        {image: caption.text for image, caption in best.items()},
        {image: row.references for image, row in rows.items()},
    )
    order = sorted(rows, key=lambda image: (-scores[image]["CIDEr-D"], image))
    print("| image | caption | CIDEr-D | confidence | first reference |\n|---|---|---|---|---|")
    for image in choose_middles(order, args.count):
        caption, score = best[image], 100 * scores[image]["CIDEr-D"]
        cells = (Path(image).stem, caption.text, f"{score:.0f}", f"{caption.confidence:.2f}")
        print(f"| {' | '.join(cells)} | {rows[image].references[0].strip().lower()} |")


def choose_middles(items: list[str], count: int) -> list[str]:
    """Divide a list into `count` groups of nearly equal size; return the middle item of each."""
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


if __name__ == "__main__":
    main()
