#!/usr/bin/env python
"""Compare parts of the model: `python benchmarks/components.py --captions DIR --weights DIR`.

Each row is a run from ImageNet weights (`mobilenetv2_100.imagenet.safetensors` in the folder of
weights) with a frozen backbone, unless its name states another, and the same data, seed and number
of steps; only the settings of its entry in COMPONENTS differ. The output is a Markdown table: the
validation score after the last epoch (CIDEr-D of captions with greedy search, or exact match of
answers), the number of parameters outside the backbone, and the seconds per epoch, including
validation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from captioner.build import load_checkpoint
from captioner.cli.train import show_log
from captioner.config import load_config
from captioner.training.loop import train

METRICS = {"captions": "CIDEr-D", "questions": "exact match"}
SETTINGS = {
    "captions": ("decoding.beam_size=1",),
    "questions": ("data.val_share=0.2", "data.hold_out=question", "model.question={}"),
}
LSTM = ("model.decoder=lstm",)
SGD = ("train.optimizer=sgd", "train.weight_decay=0")
TRAINED = ("train.stages.0.cached_views=0", "train.stages.0.encoder_lr=5e-4")
"""Settings that train the backbone, too."""


@dataclass(frozen=True)
class Component:
    """A row of a table: settings that differ from those of the other rows."""

    task: str
    """`captions` or `questions`."""
    name: str
    settings: tuple[str, ...] = ()
    """Overrides `key=value`."""


def graph_rows(task: str) -> list[Component]:
    """Return the rows that compare graph layers with none and with a Transformer layer."""
    return [
        Component(task, "1 Transformer layer"),
        Component(task, "2 Transformer layers", ("model.encoder_layers=2",)),
        Component(task, "1 Transformer layer, 1 GCN", ("model.graph={layer: gcn}",)),
        Component(task, "1 Transformer layer, 1 GAT", ("model.graph={layer: gat}",)),
        Component(task, "1 Transformer layer, 1 GATv2", ("model.graph={layer: gatv2}",)),
        Component(
            task,
            "1 Transformer layer, 1 GATv2 on the grid",
            ("model.graph={layer: gatv2, neighbors: 0}",),
        ),
    ]


def decoder_rows() -> list[Component]:
    """Return the rows that compare LSTM decoders and other optimizers with the first row."""
    return [
        Component("captions", "LSTM decoder, 1 layer", (*LSTM, "model.decoder_layers=1")),
        Component("captions", "LSTM decoder, 2 layers", LSTM),
        # Their weight decay is an L2 penalty, and the default value of AdamW is too strong for it.
        Component("captions", "Adam", ("train.optimizer=adam", "train.weight_decay=0")),
        Component("captions", "SGD", (*SGD, "train.stages.0.lr=0.02")),
    ]


def question_encoder_rows() -> list[Component]:
    """Return the rows that compare recurrent question encoders with that of the first row."""
    return [
        Component("questions", "LSTM question encoder", ("model.question.encoder=lstm",)),
        Component("questions", "GRU question encoder", ("model.question.encoder=gru",)),
        Component("questions", "LSTM decoder, 1 layer", (*LSTM, "model.decoder_layers=1")),
    ]


def image_encoder_rows(task: str) -> list[Component]:
    """Return the rows that compare image encoders, both trained from random weights.

    Neither has batch norms, whose statistics a run does not update.
    """
    cnn = "model.backbones=[{name: convnext_atto, weights: none}]"
    size = "args: {dynamic_img_size: true}"
    vit = f"model.backbones=[{{name: vit_tiny_patch16_224, weights: none, {size}}}]"
    return [
        Component(task, "CNN (ConvNeXt atto) from random weights", (cnn, *TRAINED)),
        Component(task, "ViT (tiny) from random weights", (vit, *TRAINED)),
    ]


COMPONENTS = (
    *graph_rows("captions"),
    *decoder_rows(),
    *image_encoder_rows("captions"),
    *graph_rows("questions"),
    *question_encoder_rows(),
    *image_encoder_rows("questions"),
)


def main() -> None:
    """Train each row of the tasks whose data is given, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", metavar="DIR", help="data set with captions")
    parser.add_argument("--questions", metavar="DIR", help="data set with questions")
    parser.add_argument("--weights", required=True, metavar="DIR", help="folder of weights")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", metavar="NAME", action="append", help="name of a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", metavar="DIR", help="folder to keep runs and features in")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of all rows")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for task, metric in METRICS.items():
            rows = [c for c in COMPONENTS if c.task == task and c.name in (args.only or [c.name])]
            if getattr(args, task) is None or not rows:
                continue
            print(f"\n| {task} | {metric} | parameters | seconds an epoch |\n|---|---|---|---|")
            for row in rows:
                print(measure(row, args, Path(args.work or scratch)), flush=True)


def measure(row: Component, args: argparse.Namespace, work: Path) -> str:
    """Train one row; return its line of the table."""
    config = load_config(None, [*shared_settings(row, args, work), *row.settings])
    started = time.perf_counter()
    with show_log():
        scores = train(config)
    seconds = (time.perf_counter() - started) / args.epochs
    model, _, _ = load_checkpoint(Path(config.train.output) / "best")
    backbone = sum(p.numel() for p in model.backbone.parameters())
    size = (sum(p.numel() for p in model.parameters()) - backbone) / 1e6
    score = next(v for name, v in scores.items() if name.endswith(METRICS[row.task]))
    return f"| {row.name} | {100 * score:.1f} | {size:.1f} M | {seconds:.0f} |"


def shared_settings(row: Component, args: argparse.Namespace, work: Path) -> list[str]:
    """Return the settings of a row that are the same for all rows of its task."""
    task, name = row.task, row.name
    weights = Path(args.weights) / "mobilenetv2_100.imagenet.safetensors"
    backbone = f"{{name: mobilenetv2_100, weights: {weights}, args: {{pad_type: same}}}}"
    return [
        f"data.root={getattr(args, task)}",
        "image.size=224",
        "image.mean=[0.5, 0.5, 0.5]",
        "image.std=[0.5, 0.5, 0.5]",
        f"model.backbones=[{backbone}]",
        *("model.width=256", "model.heads=4", "model.ffn=1024", "model.decoder_layers=2"),
        f"train.stages=[{{epochs: {args.epochs}, cached_views: 2}}]",
        f"train.eval_every={args.epochs}",
        f"train.output={work / task / name.replace(' ', '_').replace(',', '')}",
        f"train.cache={work / 'cache'}",
        *("train.ema=0.99", "train.tracker=none", f"train.threads={args.threads}"),
        *SETTINGS[task],
        *args.settings,
    ]


if __name__ == "__main__":
    main()
