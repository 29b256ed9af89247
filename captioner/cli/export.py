"""Write ONNX graphs of a checkpoint, or with --prune a smaller checkpoint: `captioner export`.

With graphs, ONNX Runtime captions images on a CPU without torch and in less time. The graphs are
written next to model.safetensors and read their weights from that file, so that they add less than
1 MB. They must be written again when the weights change.

With --prune, the least important attention heads and inner units of feed-forward layers are removed
from a copy of the checkpoint. Fine-tune the copy (train.start), then write its graphs.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from captioner.checkpoint.graph_files import GraphDtype
from captioner.cli.parser import Parser, positive, select_options
from captioner.cli.process import run_command

IMAGES = 200
"""Default of `--images`."""


@dataclass(frozen=True)
class ExportOptions:
    """The arguments of the command."""

    checkpoint: str
    dtype: GraphDtype
    prune: float | None
    output: str | None
    data: tuple[str, ...]
    images: int
    drop_layers: int
    drop_backbones: int


def main(argv: list[str] | None = None, *, prog: str = "captioner export") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "captioner export") -> ExportOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(prog=prog, description=__doc__)
    text = "A folder, such as the best/ of a training run, bundled, or hf-hub:USER/NAME[@REVISION]."
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=text)
    text = (
        "int8 also writes graphs for --dtype int8, whose linear layers compute with 8-bit integers."
        " Default: float32."
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "int8"), help=text)
    _add_pruning(parser)
    values = vars(parser.parse(argv))
    if (values["prune"] is None) != (values["output"] is None):
        parser.error("--prune needs --output, the folder of the smaller checkpoint, and vice versa")
    defaults = {"data": (), "images": IMAGES, "drop_layers": 0, "drop_backbones": 0}
    given = [k for k in defaults if values[k] is not None]
    if given and values["prune"] is None:
        parser.error(f"--{given[0].replace('_', '-')} needs --prune")
    if values["prune"] is not None and values["dtype"] != "float32":
        parser.error("--dtype cannot be used with --prune, which writes no graphs")
    values |= {k: v for k, v in defaults.items() if values[k] is None}
    values["data"] = tuple(values["data"])
    return select_options(ExportOptions, values)


def _add_pruning(parser: Parser) -> None:
    group = parser.add_argument_group("pruning")
    text = (
        "Write no graphs, but a smaller checkpoint: its weights have at most this many MB or, with"
        " a number below 1, this share of their present size."
    )
    group.add_argument("--prune", metavar="SIZE", type=_size, help=text)
    group.add_argument("--output", metavar="FOLDER", help="Folder of the smaller checkpoint.")
    text = (
        "Data set on whose training images the importance of heads and units is measured; may be"
        " repeated. Default: the data sets that the checkpoint was trained on, at the paths that"
        " its configuration names."
    )
    group.add_argument("--data", metavar="PATH", action="append", help=text)
    text = f"Images of each data set to measure on. Default: {IMAGES}."
    group.add_argument("--images", metavar="N", type=positive, help=text)
    text = "First remove this many whole layers, those that matter least. Default: 0."
    group.add_argument("--drop-layers", metavar="N", type=positive, help=text)
    text = "First remove this many image backbones, those that matter least. Default: 0."
    group.add_argument("--drop-backbones", metavar="N", type=positive, help=text)


def _size(text: str) -> float:
    """Parse a number above 0, as the `type` of a flag."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


_size.__name__ = "number above 0"  # argparse shows it in messages.


def run(options: ExportOptions) -> int:
    """Write the graphs, or the smaller checkpoint, and print the paths; return the exit status."""
    if options.prune is not None and options.output is not None:
        from captioner.export.pruning import prune_checkpoint

        prune_checkpoint(
            options.checkpoint,
            Path(options.output),
            options.prune,
            roots=options.data,
            images=options.images,
            drop_layers=options.drop_layers,
            drop_backbones=options.drop_backbones,
        )
        print(options.output)
        return 0
    # Imported here so that --help does not import torch.
    from captioner.export.onnx_graphs import export_graphs

    for path in export_graphs(options.checkpoint, dtype=options.dtype):
        print(path)
    return 0
