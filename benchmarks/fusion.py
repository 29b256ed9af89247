#!/usr/bin/env python
"""Compare the six fusion modules: `python benchmarks/fusion.py --start DIR --easy-vqa DIR ...`.

Each run starts from the same captioner without question modules (docs/training.md trains one), with
a frozen backbone, and uses the same data, seed and number of steps. Only the fusion of question and
image differs. The baseline `blind` is cross_attention, trained and tested without the image. The
output is a Markdown table: exact match on the held-out questions of each data set after the last
epoch, the number of parameters of the question modules, and the seconds per epoch, including
validation.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from captioner.build import load_checkpoint
from captioner.cli.train import show_log
from captioner.config import (
    AnswerConfig,
    Config,
    DataConfig,
    QuestionConfig,
    SourceConfig,
    StageConfig,
    TrainConfig,
    load_config,
)
from captioner.training.loop import train

FUSIONS = (
    *("concat", "cross_attention", "add", "multiply", "linear token", "linear each", "graph"),
    "blind",
)


def main() -> None:
    """Train with each fusion and print its row of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", required=True, metavar="DIR", help="checkpoint to start from")
    parser.add_argument("--daquar", metavar="DIR")
    parser.add_argument("--easy-vqa", required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8, help="images a step")
    parser.add_argument(
        "--images", type=int, default=500, help="number of easy-VQA training images"
    )
    parser.add_argument("--only", choices=FUSIONS, action="append")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", metavar="DIR", help="folder to keep runs and features in")
    args = parser.parse_args()
    sets = "DAQUAR | easy-VQA" if args.daquar else "easy-VQA"
    print(f"| fusion | {sets} | parameters for questions | seconds an epoch |")
    print(f"|---|{'---|' * sets.count('|')}---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for fusion in args.only or FUSIONS:
            print(measure(fusion, args, Path(args.work or scratch)), flush=True)


def measure(fusion: str, args: argparse.Namespace, work: Path) -> str:
    """Train with one fusion; return its row of the table."""
    config = configure(fusion, args, work)
    started = time.perf_counter()
    with show_log():
        scores = train(config)
    seconds = (time.perf_counter() - started) / args.epochs
    model, _, _ = load_checkpoint(Path(config.train.output) / "best")
    parts = (model.question_encoder, model.fusion)
    size = sum(p.numel() for part in parts for p in part.parameters()) / 1e6
    values = [v for name, v in scores.items() if name.endswith("exact match")]
    cells = [f"{100 * value:.1f}" for value in values]
    return f"| {fusion} | {' | '.join(cells)} | {size:.1f} M | {seconds:.0f} |"


def configure(fusion: str, args: argparse.Namespace, work: Path) -> Config:
    """Return a run that adds question modules to the captioner and freezes its backbone."""
    start = load_config(Path(args.start) / "config.yaml")
    kind, _, memory = fusion.partition(" ")
    question = QuestionConfig(
        fusion="cross_attention" if kind == "blind" else kind,
        linear_memory=memory or "token",
        encoder_layers=0,
    )
    model = dataclasses.replace(start.model, question=question, blind=kind == "blind")
    # A fifth of all images is held out; `limit` applies to the others.
    easy_vqa = SourceConfig(args.easy_vqa, val_share=0.2, augment=False, limit=args.images)
    sources: tuple[SourceConfig, ...] = (easy_vqa,)
    if args.daquar:
        sources = (SourceConfig(args.daquar, hold_out="question", val_share=0.2), easy_vqa)
    stage = StageConfig(epochs=args.epochs, lr=4e-4, cached_views=2)
    return dataclasses.replace(
        start,
        data=DataConfig(sources=sources),
        model=model,
        train=TrainConfig(
            start=args.start,
            output=str(work / fusion.replace(" ", "_")),
            cache=str(work / "cache"),
            stages=(stage,),
            batch_size=args.batch_size,
            eval_every=args.epochs,
            ema=0.99,
            patience=args.epochs,
            tracker="none",
            threads=args.threads,
        ),
        answers=AnswerConfig(beam_size=1),
    )


if __name__ == "__main__":
    main()
